"""The configs that the benchmark of serving writes are ones that the server takes."""

import json
from pathlib import Path

from app.profiles import get_profile
from app.serving.config import load_config
from benchmarks.servers import PORTS, _command


def test_ours_is_started_from_a_config_that_serve_takes(tmp_path: Path) -> None:
    command, _ = _command("ours", get_profile("laptop"), ["serving.max_loras=4"], tmp_path, {})
    config = load_config(Path(command[-1]))
    assert config["http_options"]["port"] == PORTS["ours"]
    (application,) = config["applications"]
    assert application["args"] == {"profile": "laptop", "overrides": ["serving.max_loras=4"], "run": "none"}


def test_the_bare_server_gets_the_adapters(tmp_path: Path) -> None:
    command, _ = _command("bare", get_profile("laptop"), [], tmp_path, {"a8": tmp_path / "a8"})
    assert command[-2:] == ["run", str(tmp_path / "bare.yaml")]
    (line,) = [line for line in (tmp_path / "bare.yaml").read_text().splitlines() if "import_path" in line]
    assert json.dumps({"a8": str(tmp_path / "a8")}) in line
    compile((tmp_path / "bare_serve.py").read_text(), "bare_serve.py", "exec")
