"""schemathesis against a served API: requests made from its own description, good and bad ones, and what comes back."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"),
    *("response_headers_conformance", "unsupported_method"),
)
"""None of those that take every request that fits the description for a good one: rules over several fields are not in
it."""

FEW = ["--phases", "fuzzing", "--max-examples", "3"]


def fuzz(url: str, key: str, folder: Path, *, seconds: int = 0) -> None:
    """Fuzz every operation, by a few requests, or for so long. Fails with what was found, and how to send it again."""
    program = Path(sys.executable).parent / "schemathesis"
    if not program.exists():
        pytest.skip("schemathesis is not installed; `make setup-dev` does it")
    command = [str(program), "run", f"{url}/openapi.json", "--url", url]
    command += ["--header", f"Authorization: Bearer {key}"]  # the other way to send one is left to what is made up
    command += ["--checks", ",".join(CHECKS), "--mode", "all", "--workers", "2", "--request-timeout", "120"]
    command += ["--phases", "coverage,fuzzing", "--max-time", str(seconds)] if seconds else FEW
    done = subprocess.run(
        [*command, "--continue-on-failure", "--no-color", "--warnings", "off", "--suppress-health-check", "all"],
        cwd=folder,  # it keeps what it found there
        capture_output=True,
        text=True,
        timeout=seconds + 240,
    )
    assert done.returncode == 0 and "Tested: 8" in done.stdout, done.stdout[-6000:] + done.stderr[-2000:]
