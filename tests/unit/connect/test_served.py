"""What `connect` asks a server for, on a real port: the edge behind its guard, with an engine that a test writes."""

import json
import re
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from app.cli import main
from app.connect.served import Server
from app.errors import UserError
from app.prompting.fill_in import MARKS
from app.serving.edge import Edge
from app.serving.engine_protocol import Head
from app.serving.guard import guard_edge
from app.serving.keys import Keys, add_key
from app.settings import ServingSettings

KEY = "POCKETCODER_API_KEY"


class Engine:
    """Knows the marks of StarCoder as a token each, and takes every other text for a token a letter."""

    async def models(self) -> tuple[list[str], int]:
        return ["starcoder", "sft"], 512

    async def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        letters = len(re.sub("|".join(MARKS[1]), "m", body["prompt"]))
        yield Head(200, [(b"content-type", b"application/json")])
        yield json.dumps({"choices": [], "usage": {"prompt_tokens": letters}}).encode()


class Foreign(BaseHTTPRequestHandler):
    """Some other program's page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>" if self.path == "/v1/models" else b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URL and key of a server."""
    store = tmp_path_factory.mktemp("keys") / "keys.json"
    key = add_key(store, "laptop")
    app = guard_edge(Edge(Engine(), ServingSettings()).app(), Keys(store))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", key
    server.should_exit = True
    thread.join()


def test_models_are_those_that_the_server_lists_and_the_first_is_chosen(address: tuple[str, str]) -> None:
    url, key = address
    served = Server(f"{url}/v1/", key).ask(None, fills=False)
    assert [(model.name, model.max_model_len) for model in served.models] == [("starcoder", 512), ("sft", 512)]
    assert (served.url, served.api, served.chosen.name, served.marks) == (url, f"{url}/v1", "starcoder", None)
    assert Server(url, key).ask("sft", fills=False).chosen.name == "sft"


def test_the_marks_are_those_that_are_a_token_each(address: tuple[str, str]) -> None:
    assert Server(*address).ask(None, fills=True).marks == MARKS[1]


@pytest.mark.parametrize(
    ("key", "words"), [(None, f"{KEY} is not set"), ("pk-wrong", "is not known there"), ("pk-ü", "is no key")]
)
def test_a_key_that_does_not_do_is_named_but_never_shown(address: tuple[str, str], key: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        Server(address[0], key).ask(None, fills=False)
    assert "pk-" not in str(refused.value)


def test_a_model_that_is_not_served_is_answered_with_those_that_are(address: tuple[str, str]) -> None:
    with pytest.raises(UserError, match="'gpt' is not served at .*: there are starcoder, sft"):
        Server(*address).ask("gpt", fills=False)


def test_where_nothing_listens_one_sentence_says_how_to_start_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match="Connection refused.*start it by `python -m app serve`"):
            Server(url, None).ask(None, fills=False)


def test_another_programs_server_is_told_from_ours() -> None:
    other = HTTPServer(("127.0.0.1", 0), Foreign)
    threading.Thread(target=other.serve_forever).start()
    try:
        with pytest.raises(UserError, match="is not this project's server"):
            Server(f"http://127.0.0.1:{other.server_port}", "k").ask(None, fills=False)
    finally:
        other.shutdown()
        other.server_close()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x/?a=1", "http://x:port"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="is no address of a server"):
        Server(url, None)


def test_the_command_prints_settings_alone_and_keeps_the_key_to_itself(
    address: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url, key = address
    monkeypatch.setenv(KEY, key)
    monkeypatch.setenv("HOME", str(tmp_path))
    main(["connect", "opencode", "--url", url, "--model", "sft"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["model"] == "pocketcoder/sft"
    main(["connect", "continue", "--url", url, "--write"])
    written = capsys.readouterr()
    file = tmp_path / ".continue" / "config.yaml"
    assert written.out == f"connect: wrote {file}\n" and url in file.read_text()
    assert key not in "".join([*printed, *written, file.read_text()])


def test_the_way_to_start_a_client_names_the_file_that_was_written(
    address: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv(KEY, address[1])
    main(["connect", "aider", "--url", address[0], "--write", str(tmp_path / "own.yml")])
    assert f"aider --config {tmp_path / 'own.yml'}\n" in capsys.readouterr().err


def test_claude_code_needs_a_route_that_an_older_server_has_not(
    address: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY, address[1])
    monkeypatch.setattr(Server, "_call", without_messages(Server._call))
    with pytest.raises(SystemExit):
        main(["connect", "claude-code", "--url", address[0]])
    assert "has no /v1/messages" in capsys.readouterr().err


def without_messages(call: Any) -> Any:
    def older(self: Server, path: str, body: Any = None) -> Any:
        return (404, {}) if path == "/v1/messages" else call(self, path, body)

    return older
