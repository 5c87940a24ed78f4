"""What a person sees of a search and of a self-check."""

import io
import json
from pathlib import Path

import pytest

from app.cli import main
from app.docsearch.asking import ask, self_check
from app.errors import UserError
from app.stage_settings.docsearch import DocsearchSettings
from tests.conftest import Cli

SETTINGS = DocsearchSettings(offline_packages=("pluggy",), offline=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "docsearch"


@pytest.fixture(autouse=True)
def mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV", "offline")


def test_a_search_shows_what_came_and_why_the_rest_was_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(SETTINGS, "json.loads", None, as_json=False, folder=folder)
    shown = capsys.readouterr().out
    assert "[python] json.loads" in shown and "Deserialize" in shown
    assert "refused: network: offline: the network is off, since ENV is not online" in shown
    assert shown.splitlines()[-1].startswith("docsearch: 2 passages, 1 refused; searched was the standard library")


def test_json_is_one_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask(SETTINGS, "json.loads", "python", as_json=True, folder=folder)
    answer = json.loads(capsys.readouterr().out)
    assert answer["found"][0]["title"] == "json.loads" and answer["is_offline"] is True


def test_a_secret_is_told_in_one_sentence(folder: Path) -> None:
    with pytest.raises(UserError, match=r"refused \(secret\)") as error:
        ask(SETTINGS, "password=correct-horse-1", None, as_json=False, folder=folder)
    assert "correct-horse" not in str(error.value)


def test_a_self_check_has_a_line_for_each_source(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    self_check(SETTINGS, as_json=False, folder=folder)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "python", "fastapi", "readthedocs", "stackoverflow", "serpapi", "offline", "docsearch",
    ]  # fmt: skip
    assert lines[0] == "python: not asked: the network is off, since ENV is not online: set ENV=online to use it"
    assert lines[3].startswith("stackoverflow: off: --set docsearch.stackoverflow=true")
    assert lines[5].startswith("offline: 4 passages for 'python json.loads'") or "passages" in lines[5]
    assert lines[6].startswith("docsearch: 1 of 6 sources answered")


def test_without_a_network_each_source_says_so_in_a_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_names(*given: object, **more: object) -> None:
        raise OSError(-3, "Temporary failure in name resolution")

    monkeypatch.setenv("ENV", "online")
    monkeypatch.setattr("socket.getaddrinfo", no_names)
    self_check(SETTINGS, as_json=True, folder=folder)
    rows = {row["source"]: row for row in json.loads(capsys.readouterr().out)["sources"]}
    for source in ("python", "fastapi", "readthedocs"):
        assert rows[source]["said"].startswith("nothing came: its name was not found: there is no network"), source


def test_the_command_searches(cli: Cli, folder: Path) -> None:
    env = {"ENV": "offline", "POCKETCODER_CACHE": str(folder.parent)}
    chosen = ["--profile", "smoke", "--set", "docsearch.offline_packages=[pluggy]"]
    done = cli("docsearch", "--query", "json.loads", "--json", *chosen, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["found"][0]["title"] == "json.loads"
    refused = cli("docsearch", "--query", "open ~/.ssh/id_rsa", *chosen, env=env)
    assert refused.returncode == 2 and "refused (secret)" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--source", "python"], "--source python says where --query searches: give --query TEXT with it"),
        (["--query", "json", "--self-check"], "not allowed with argument"),
        (["--query", "json", "--check-urls", "x.jsonl"], "not allowed with argument"),
        ([], "docsearch has nothing to do"),
    ],
)
def test_arguments_that_do_not_go_together_are_told(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["docsearch", *given])
    assert ended.value.code == 2 and told in capsys.readouterr().err


def test_a_folder_that_can_not_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"the log \S+decisions.jsonl can't be written \(Not a directory\)"):
        ask(SETTINGS, "json.loads", None, as_json=False, folder=tmp_path / "file" / "docsearch")


def test_a_terminal_without_the_letters_gets_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    ask(SETTINGS, "str.casefold str.encode unicodedata", None, as_json=False, folder=folder)
    print("\u2192")
    assert b"docsearch: 2 passages" in written.getvalue() and written.getvalue().endswith(b"\\u2192\n")
