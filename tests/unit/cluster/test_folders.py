"""Ray's sockets and token find a place on machines whose usual ones won't do, or one sentence says what to set."""

import os
from pathlib import Path

import pytest

from app.cluster.folders import (
    BELOW,
    LONGEST_SOCKET,
    choose_temporary_folder,
    make_private_token,
    object_store_folder,
)
from app.errors import UserError


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables, and with whatever a test sets taken back."""
    for name in ("RAY_TMPDIR", "VLLM_RPC_BASE_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("depth", [3, 9])
def test_a_long_folder_for_temporary_files_is_left_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, depth: int
) -> None:
    long = tmp_path / Path(*["job_of_somebody"] * depth)
    long.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr("tempfile.tempdir", str(long))
    choose_temporary_folder()
    for name in ("RAY_TMPDIR", "VLLM_RPC_BASE_PATH"):
        assert len(os.environ[name] + BELOW) <= LONGEST_SOCKET, name


def test_a_folder_that_can_not_be_written_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/proc")  # which refuses everybody, root included
    choose_temporary_folder()
    assert os.environ["RAY_TMPDIR"] != "/proc"


def test_a_short_folder_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")
    choose_temporary_folder()
    assert "RAY_TMPDIR" not in os.environ


@pytest.mark.parametrize(("named", "says"), [("/tmp/" + "x" * 90, "is too long"), ("/proc", "can't be written")])
def test_an_own_folder_that_will_not_do_is_named(monkeypatch: pytest.MonkeyPatch, named: str, says: str) -> None:
    monkeypatch.setenv("RAY_TMPDIR", named)
    with pytest.raises(UserError, match=f"RAY_TMPDIR='{named}' {says}"):
        choose_temporary_folder()


def test_without_a_usable_home_the_token_is_kept_elsewhere_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc")
    make_private_token()
    place = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert len(place.read_text()) == 64 and place.stat().st_mode & 0o777 == 0o600
    place.unlink()


def test_a_token_of_the_home_directory_is_made_once_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make_private_token()
    first = (tmp_path / ".ray/auth_token").read_text()
    make_private_token()
    assert (tmp_path / ".ray/auth_token").read_text() == first and "RAY_AUTH_TOKEN_PATH" not in os.environ
    assert (tmp_path / ".ray/auth_token").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("free", "place", "says"),
    [
        (1 << 30, None, ""),
        (64 << 20, "/tmp", "/dev/shm has 64 MiB free: Ray's object store lies in /tmp"),
        (None, "/tmp", "this machine has no /dev/shm: Ray's object store lies in /tmp"),
    ],
)
def test_objects_lie_on_disk_where_shared_memory_has_no_room_for_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: int | None, place: str | None, says: str
) -> None:
    monkeypatch.setenv("TMPDIR", "/tmp")
    monkeypatch.setattr("app.cluster.folders._free_bytes", lambda folder: free)
    assert object_store_folder(200 << 20) == place
    assert says in capsys.readouterr().err
