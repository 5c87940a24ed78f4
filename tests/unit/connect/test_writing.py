"""Settings go into a file that somebody has: what is theirs stays, and the file as it was lies beside it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.connect.clients import CLIENTS, OWN, ClientSettings
from app.connect.writing import MOST_BYTES, Written, plain_json, write
from app.errors import UserError
from tests.costs import takes_less_than
from tests.unit.connect.test_clients import BASE, SFT, served

ZED = """// Zed settings
{
  "theme": "One // Dark", /* mine */
  "language_models": {
    "ollama": {"api_url": "http://localhost:11434"},
  },
  "agent": {"default_model": {"provider": "ollama", "model": "x"}, "play_sound": [1, 2,],},
}
"""


def put(name: str, file: Path, **options: Any) -> Written:
    settings = CLIENTS[name](served(**options))
    return write(settings, file, is_ours=settings.is_ours)


def loaded(file: Path) -> Any:
    text = file.read_text()
    return json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_new_file_is_the_settings_and_a_second_time_changes_nothing(tmp_path: Path, name: str) -> None:
    file = tmp_path / "deep" / f"settings.{CLIENTS[name](served()).form}"
    first = put(name, file)
    text = file.read_text()
    second = put(name, file)
    assert (first.is_changed, second.is_changed, file.read_text()) == (True, False, text)
    assert os.listdir(file.parent) == [file.name], "no copy where there was nothing to copy"


def test_json_with_comments_keeps_every_setting_and_its_copy_every_letter(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(ZED)
    file.chmod(0o640)
    written = put("zed", file)
    held = loaded(file)
    assert held["theme"] == "One // Dark" and held["agent"]["play_sound"] == [1, 2]
    assert held["agent"]["default_model"]["model"] == "x", "a default of the user's own stays"
    assert held["language_models"]["ollama"] == {"api_url": "http://localhost:11434"}
    assert held["language_models"]["openai_compatible"][OWN]["available_models"][0]["name"] == BASE.name
    assert written.backup and written.backup.read_text() == ZED and written.lost_comments
    assert {path.stat().st_mode & 0o777 for path in (file, written.backup)} == {0o640}


def test_an_older_entry_of_ours_is_replaced_and_the_users_stay(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    theirs = {"name": "mine", "provider": "ollama", "model": "x"}
    file.write_text(yaml.safe_dump({"name": "Local", "models": [theirs], "rules": ["be brief"]}))
    put("continue", file, chosen=SFT)
    put("continue", file, marks=None)
    held = loaded(file)
    assert held["name"] == "Local" and held["rules"] == ["be brief"] and held["schema"] == "v1"
    assert held["models"][0] == theirs
    assert [model["name"] for model in held["models"][1:]] == [f"{OWN}: {BASE.name}", f"{OWN}: sft"]
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "config.yaml.bak", "config.yaml.bak2"}


def test_a_list_that_says_nothing_yet_is_filled(tmp_path: Path) -> None:
    for text in ("", "# nothing yet\n", "models:\n"):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        assert put("continue", file).lost_comments is ("#" in text)
        assert len(loaded(file)["models"]) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("aider", "model: gpt-4o\n", "has model 'gpt-4o' of its own"),
        ("continue", "models: {a: 1}\n", "has models a mapping of its own"),
        ("llm", "a: 1\n", "has at its top a mapping of its own"),
        ("continue", "models: [\n", "is no YAML"),
        ("opencode", '{"model": }', "is no JSON"),
        ("opencode", "[1]", "has at its top"),
        ("opencode", '{"a": "\\ud800', "is no JSON"),
    ],
)
def test_a_file_that_they_do_not_fit_into_is_left_as_it_is(tmp_path: Path, name: str, text: str, words: str) -> None:
    file = tmp_path / "settings"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as refused:
        write(CLIENTS[name](served()), file, is_ours=False)
    assert "--write FILE" in str(refused.value)
    assert file.read_text() == text and os.listdir(tmp_path) == ["settings"]


def test_a_file_of_ours_takes_another_address(tmp_path: Path) -> None:
    file = tmp_path / "own.yml"
    put("aider", file)
    written = put("aider", file, chosen=SFT)
    assert written.is_changed and loaded(file)["model"] == "openai/sft"


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    real, link = tmp_path / "dotfiles" / "opencode.json", tmp_path / "opencode.json"
    real.write_text("{}")
    link.symlink_to(real)
    put("opencode", link)
    assert link.is_symlink() and OWN in loaded(real)["provider"]


def test_letters_of_a_users_texts_stay_and_half_a_surrogate_pair_too(tmp_path: Path) -> None:
    for text, kept in (('{"a": "ü"}', "ü"), ('{"a": "ü\\ud800"}', "\\ud800")):
        file = tmp_path / "opencode.json"
        file.write_text(text)
        put("opencode", file)
        assert kept in file.read_text() and loaded(file)["a"] == json.loads(text)["a"]


def test_what_can_not_be_read_as_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe{")
    settings: ClientSettings = CLIENTS["opencode"](served())
    for file in (tmp_path / "bytes", tmp_path):
        with pytest.raises(UserError, match="can't be read"):
            write(settings, file, is_ours=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "//b", /* , */ "c": [1, 2, ], // d\n}', {"a": "//b", "c": [1, 2]}),
        ('{"a\\"": "/*", "b": ",}",}', {'a"': "/*", "b": ",}"}),
        ("[1, // one\n /* two */ ]", [1]),
    ],
)
def test_comments_and_last_commas_are_no_part_of_json_and_texts_are(text: str, value: Any) -> None:
    assert json.loads(plain_json(text)) == value


def test_a_ruler_of_slashes_and_comments_in_thousands_are_read_in_no_time() -> None:
    """A pattern that can split them in many ways tries all of these."""
    ruler, many = f'{{"a": 1, {"/" * 200}\n "b": 2}}', "/**/".join("1," * 5000)
    for text in (ruler, f'{{"a": [{many} 1]}}', "{" + "/* " * 20_000):
        with takes_less_than(2.0):
            plain_json(text)
    assert json.loads(plain_json(ruler)) == {"a": 1, "b": 2}


def test_a_comment_that_never_ends_is_no_json(tmp_path: Path) -> None:
    for end in ("/* mine", "/*/"):
        file = tmp_path / "settings.json"
        file.write_text(f'{{"theme": "x"}} {end}')
        with pytest.raises(UserError, match="is no JSON"):
            put("zed", file)


@pytest.mark.parametrize("name", ["zed", "continue"])
def test_line_ends_of_windows_stay_and_its_mark_of_utf_8_is_no_hindrance(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"settings.{CLIENTS[name](served()).form}"
    was = b"\xef\xbb\xbf" + (b'{\r\n  "theme": "x" // mine\r\n}\r\n' if name == "zed" else b"name: x\r\n")
    file.write_bytes(was)
    written = put(name, file)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) > 5 and all(line.endswith(b"\r\n") and line.count(b"\r") == 1 for line in lines)
    assert written.backup and written.backup.read_bytes() == was


def test_yaml_says_the_same_by_the_rules_of_either_version(tmp_path: Path) -> None:
    """`yes` and 010 are other values in 1.1 than in 1.2, and so is a key such as 1e3 without its quotes."""
    theirs = "on: yes\nmode: 010\nat: 12:30:00\napiKey: \"1e3\"\nday: 2026-11-30\nword: 'no'\nwide: 1_000\nis: true\n"
    file = tmp_path / "config.yaml"
    file.write_text(theirs + "rate: 0.5\nport: 80\n")
    put("continue", file)
    assert file.read_text().startswith(theirs + "rate: 0.5\nport: 80\nmodels:\n")


def test_what_is_no_file_of_settings_to_write_is_refused_and_left_alone(tmp_path: Path) -> None:
    pipe, closed, large = tmp_path / "pipe", tmp_path / "read-only.json", tmp_path / "large.json"
    os.mkfifo(pipe)
    closed.write_text("{}")
    closed.chmod(0o444)
    with large.open("wb") as made:
        made.truncate(MOST_BYTES + 1)
    before = sorted(os.listdir(tmp_path))
    for file, why in ((pipe, "no regular file"), (Path("/dev/null"), "no regular file"), (closed, "is read-only"),
                      (large, "over 4 MiB"), (tmp_path, "no regular file")):  # fmt: skip
        with pytest.raises(UserError, match=why):
            put("zed", file)
    assert sorted(os.listdir(tmp_path)) == before and closed.read_text() == "{}"
