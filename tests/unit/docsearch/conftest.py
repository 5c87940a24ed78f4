"""Servers on loopback that stand for the documentation sites, and the mode that lets them be reached."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback_sites import Answer, Sites, certificates, serving

Serve = Callable[[Answer], Sites]


@pytest.fixture(scope="session")
def certificate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "online")


@pytest.fixture
def serve(certificate_folder: Path, online: None) -> Iterator[Serve]:
    """Start a stand-in with this answer; ENV is online."""
    with contextlib.ExitStack() as stack:
        yield lambda answer: stack.enter_context(serving(certificate_folder, answer))
