"""What tests of the guard share: a key in a file of its own, and an app that notes what got through to it; what tests
of plans share: a machine that is alone, and a run with a corpus; and a tokenizer for tests that change theirs."""

import json
import shutil
from pathlib import Path

import pytest

from app.serving.keys import add_key
from tests.asgi import Behind


@pytest.fixture
def keys_at(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def key(keys_at: Path) -> str:
    return add_key(keys_at, "laptop")


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no card, an empty cache."""
    monkeypatch.setenv("POCKETCODER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("app.planning.inputs.present_card", lambda: None)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A run with a corpus of 10,000 rows of 2,048."""
    run = tmp_path / "run"
    (run / "corpus").mkdir(parents=True)
    held = {"rows": 10_000, "tokens": 20_000_000, "fill": 0.98, "settings": {"seq_len": 2048}}
    (run / "corpus/manifest.json").write_text(json.dumps(held))
    return run


@pytest.fixture(scope="session")
def spelling(smoke_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke model's tokenizer without its words: a copy of it is made and changed in a hundredth of the time."""
    folder = tmp_path_factory.mktemp("spelling")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(smoke_model / name, folder)
    fields = json.loads((smoke_model / "tokenizer.json").read_text())
    kept = [token["content"] for token in fields["added_tokens"]]
    kept += [token for token in fields["model"]["vocab"] if len(token) == 1]
    fields["model"] |= {"vocab": {token: number for number, token in enumerate(kept)}, "merges": []}
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    return folder
