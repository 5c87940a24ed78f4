"""What tests of the guard share: a key in a file of its own, and an app that notes what got through to it."""

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
