"""The sandbox's command as its users start it: as root, as nobody, with bad input."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "sandbox.jsonl"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def run(*arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "app", "sandbox", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)


@pytest.mark.parametrize("user", ["this user", "nobody"])
def test_every_case_is_as_expected_and_nothing_is_left_behind(user: str) -> None:
    prefix = tuple(NOBODY) if user == "nobody" else ()
    if prefix and (os.geteuid() != 0 or shutil.which("setpriv") is None):
        pytest.skip("only root may become nobody, by setpriv")
    if prefix and subprocess.run([*prefix, sys.executable, "-c", "import app.cli"], cwd=ROOT).returncode:
        pytest.skip(f"nobody may not run {sys.executable}")
    before = leftovers()
    done = run("--cases", str(CASES), "--timeout", "0.5", "--json", prefix=prefix)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["differing"] == [] and outcome["total"] == outcome["as_expected"] > 150
    assert outcome["tier"] != "unsafe"
    assert leftovers() == before


def test_a_case_that_differs_is_named_with_both_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    rows = [{"id": "a", "input": "def f(x): return 0", "expected": "pass or timeout"}]
    rows += [{"id": "b", "input": "def f(x): return 0", "expected": "died|wrong_answer"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    outcome = json.loads(run("--cases", str(path), "--json").stdout)
    assert (outcome["total"], outcome["as_expected"]) == (2, 1)
    assert [(row["id"], row["verdict"], row["expected"]) for row in outcome["differing"]] == [
        ("a", "wrong_answer", ["passed", "timeout"])
    ]
    assert "a: wrong_answer, expected passed or timeout" in run("--cases", str(path)).stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "line 1 is no JSON"),
        ('{"id": 1, "input": "x"}', "KeyError: 'expected'"),
        ('{"id": 1, "input": "x", "expected": "passd"}', "'passd'"),
        ("", "holds no case"),
    ],
)
def test_a_file_that_is_no_catalogue_gets_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(text)
    done = run("--cases", str(path))
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def leftovers() -> tuple[set[str], set[int]]:
    """Files where programs try to write, and processes of the sandbox that nobody waits for any more."""
    files = {str(path) for folder in ("/", "/dev/shm", "/var/tmp", ROOT) for path in Path(folder).iterdir()}
    files = {path for path in files if not path.startswith("/dev/shm/sem.")}  # other programs' semaphores
    files |= {path for path in ("/tmp/x", "/tmp/h", "/tmp/big") if Path(path).exists()}
    orphans = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "app.sandbox.zygote" in " ".join(process.cmdline()) and process.ppid() == 1:
                orphans.add(process.pid)
    return files, orphans
