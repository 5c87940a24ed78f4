"""Nothing reaches an app behind the guard but what should: right host, page, path and key, and a small body."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.serving.guard import NO_PAGE_POLICY, Guard, guard_edge
from app.serving.keys import Keys, remove_key
from app.serving.request_checks import EDGE_ROUTES, host_of
from tests.asgi import Behind, ask, bearer, pairs, raw


@pytest.fixture
def edge(keys_at: Path, key: str, behind: Behind) -> Guard:
    return Guard(behind, keys=Keys(keys_at), routes=EDGE_ROUTES, policy=NO_PAGE_POLICY, max_body=1000)


def test_v1_every_route_but_health_and_the_way_to_the_page_needs_a_key(edge: Guard, behind: Behind, key: str) -> None:
    assert ask(edge, "GET", "/health").status_code == ask(edge, "GET", "/").status_code == 200
    routes = [("GET", "/v1/models"), ("GET", "/v1/models/m"), ("POST", "/v1/chat/completions"),
              ("POST", "/v1/completions"), ("GET", "/metrics"), ("GET", "/openapi.json")]  # fmt: skip
    for method, path in routes:
        for headers in ({}, bearer("wrong"), bearer(key[:-1]), bearer(""), {"authorization": "Bearer"}):
            response = ask(edge, method, path, headers=headers)
            assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer", (path, headers)
            assert response.json()["error"]["type"] == "authentication_error"
    assert behind.reached == [("/health", None), ("/", None)]
    for method, path in routes:
        assert ask(edge, method, path, headers=bearer(key)).status_code == 200
    assert behind.reached[2:] == [(path, "laptop") for _, path in routes]


def test_who_speaks_anthropics_language_is_refused_in_it(edge: Guard, key: str) -> None:
    for path, headers in (("/v1/messages", {}), ("/v1/chat/completions", {"anthropic-version": "2023-06-01"})):
        response = ask(edge, "POST", path, headers=headers)
        assert response.status_code == 401 and response.json()["error"]["type"] == "authentication_error"
        assert response.json()["type"] == "error", path
    large = ask(edge, "POST", "/v1/messages", headers={"x-api-key": key}, content=b" " * 1001)
    assert (large.status_code, large.json()["error"]["type"]) == (413, "request_too_large")
    count = ask(edge, "POST", "/v1/messages/count_tokens", headers={"x-api-key": key})
    assert count.status_code == 200


def test_every_usual_way_of_sending_a_key_works(edge: Guard, key: str) -> None:
    for headers in (bearer(key), {"authorization": f"bearer  {key}"}, {"x-api-key": key}, {"api-key": key}):
        assert ask(edge, "GET", "/v1/models", headers=headers).status_code == 200, headers
    basic = {"authorization": f"Basic {key}", "x-api-key": key}
    assert ask(edge, "GET", "/v1/models", headers=basic).status_code == 401


def test_two_credentials_are_refused_even_when_one_is_good(edge: Guard, key: str) -> None:
    for more in ((b"authorization", b"Bearer x"), (b"Authorization", b"Bearer " + key.encode())):
        assert raw(edge, "/v1/models", pairs(key, more))[0]["status"] == 401
    twice = [(b"host", b"localhost"), (b"x-api-key", key.encode()), (b"api-key", b"x")]
    assert raw(edge, "/v1/models", twice)[0]["status"] == 401


@pytest.mark.parametrize(
    "path",
    ["/invocations", "/tokenize", "/detokenize", "/pause", "/metrics/", "/docs", "/v1/messages/batches",
     "/v1/embeddings", "/v1/responses", "/v2/models", "/update_weights", "/v1/load_lora_adapter", "/v1", "/v1/models/",
     "/health/", "/HEALTH", "/v1/chat/completions/render", "/-/routes", "/gradio_api/file=/etc/passwd"],
)  # fmt: skip
def test_v2_what_is_not_on_the_list_is_not_there_for_anybody(edge: Guard, behind: Behind, key: str, path: str) -> None:
    for method in ("GET", "POST"):
        for headers in ({}, bearer(key)):
            assert ask(edge, method, path, headers=headers).status_code == 404
    assert not behind.reached


@pytest.mark.parametrize(
    "path",
    ["/v1/models/../../metrics", "/v1/models/..", "/v1/models/./x", "/v1//models", "//v1/models", "/v1/models//x",
     "/v1/models/..\\..\\metrics", "/health\x00", "/v1/models/a\nb", "/v1/models/%2e%2e/metrics", "/v1/models/%2f",
     "v1/models", "/health/../v1/models", "http://evil.com/health"],
)  # fmt: skip
def test_v5_a_path_that_others_could_read_otherwise_is_not_there(
    edge: Guard, behind: Behind, key: str, path: str
) -> None:
    assert raw(edge, path, pairs(key))[0]["status"] == 404
    assert not behind.reached


def test_v5_encoded_dots_and_slashes_are_seen_through_but_a_model_name_may_have_a_slash(
    edge: Guard, behind: Behind, key: str
) -> None:
    for path in ("/v1/models/..%2f..%2fmetrics", "/v1/models/%2e%2e/metrics", "/v1/models/%252e%252e/metrics"):
        assert ask(edge, "GET", path, headers=bearer(key)).status_code == 404, path
    assert ask(edge, "GET", "/v1/models/Qwen%2FQwen3-1.7B", headers=bearer(key)).status_code == 200
    assert behind.reached == [("/v1/models/Qwen/Qwen3-1.7B", "laptop")]


def test_a_wrong_method_is_told_before_a_key_is_asked_for(edge: Guard) -> None:
    for method, path, allowed in (("GET", "/v1/completions", "POST"), ("OPTIONS", "/v1/models", "GET")):
        response = ask(edge, method, path)
        assert response.status_code == 405 and f"takes {allowed}" in response.json()["error"]["message"]
        assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    "host",
    ["evil.com", "evil.com:8000", "127.0.0.1.evil.com", "localhost.", "evil.com@localhost", "[::2]", "", "localhost:x",
     "127.0.0.1:8000/", "0.0.0.0", "localhost, evil.com", "127.1"],
)  # fmt: skip
def test_v3_another_host_is_refused_even_with_a_key(edge: Guard, behind: Behind, key: str, host: str) -> None:
    for path in ("/health", "/v1/models"):
        headers = [(b"host", host.encode()), (b"authorization", b"Bearer " + key.encode())]
        assert raw(edge, path, headers)[0]["status"] == 403
    assert not behind.reached


def test_v3_exactly_one_host_is_needed_and_local_ones_pass_on_any_port(edge: Guard) -> None:
    for hosts in ([], [b"localhost", b"localhost"], [b"localhost", b"evil.com"]):
        assert raw(edge, "/health", [(b"host", host) for host in hosts])[0]["status"] == 403
    for host in (b"localhost", b"LOCALHOST:1", b"127.0.0.1:65535", b"[::1]:8000", b"[::1]"):
        assert raw(edge, "/health", [(b"host", host)])[0]["status"] == 200


def test_hosts_are_added_by_name_and_never_by_a_pattern(keys_at: Path, key: str, behind: Behind) -> None:
    named = guard_edge(behind, Keys(keys_at), allowed_hosts=["Box.lan"])
    assert raw(named, "/health", [(b"host", b"box.lan:8000")])[0]["status"] == 200
    assert raw(named, "/health", [(b"host", b"evil.lan")])[0]["status"] == 403
    for wrong in ("*", "*.lan", "http://box.lan", "box.lan:8000", "", "fe80::1"):
        with pytest.raises(UserError, match="is no host name"):
            guard_edge(behind, Keys(keys_at), allowed_hosts=[wrong])
    assert host_of("[::1]:80") == "[::1]" and host_of("a b") is None


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:3000", 200), ("https://127.0.0.1", 200), ("http://evil.com", 403), ("null", 403), ("", 403),
     ("file://", 403), ("http://localhost.evil.com", 403), ("http://localhost@evil.com", 403), ("localhost", 403),
     ("chrome-extension://localhost", 403), ("http://localhost/x", 403)],
)  # fmt: skip
def test_a_page_of_another_site_is_refused_even_with_a_key(edge: Guard, key: str, origin: str, status: int) -> None:
    sent = raw(edge, "/v1/models", pairs(key, (b"origin", origin.encode())))
    assert sent[0]["status"] == status
    twice = pairs(key, (b"origin", b"http://localhost"), (b"origin", origin.encode()))
    assert raw(edge, "/v1/models", twice)[0]["status"] == 403


def test_v6_a_body_over_the_limit_is_refused_before_it_is_read(edge: Guard, behind: Behind, key: str) -> None:
    said = pairs(key, (b"content-length", str(50 * 2**20).encode()))
    sent = raw(edge, "/v1/completions", said, [{"type": "never read"}], method="POST")
    assert sent[0]["status"] == 413 and json.loads(sent[1]["body"])["error"]["code"] == "request_too_large"
    for length in (b"-1", b"1e3", b"+5", b""):
        wrong = raw(edge, "/v1/completions", pairs(key, (b"content-length", length)), method="POST")
        assert wrong[0]["status"] == 400
    twice = pairs(key, (b"content-length", b"1"), (b"content-length", b"2"))
    assert raw(edge, "/v1/completions", twice, method="POST")[0]["status"] == 400
    assert not behind.reached


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_v6_a_body_without_a_length_is_counted_while_it_comes(
    edge: Guard, behind: Behind, key: str, method: str
) -> None:
    piece = {"type": "http.request", "body": b"x" * 400, "more_body": True}
    path = "/v1/completions" if method == "POST" else "/v1/models"
    chunked = pairs(key, (b"transfer-encoding", b"chunked"))
    sent = raw(edge, path, chunked, [piece, piece, piece, {"type": "never read"}], method=method)
    assert sent[0]["status"] == 413 and not behind.reached


def test_a_body_within_the_limit_arrives_whole(edge: Guard, key: str) -> None:
    pieces = [{"type": "http.request", "body": b"x" * 500, "more_body": more} for more in (True, False)]
    sent = raw(edge, "/v1/completions", pairs(key), pieces, method="POST")
    assert sent[1]["body"] == b"x" * 1000


def test_a_body_that_never_comes_and_a_client_that_left_hold_nothing(keys_at: Path, key: str, behind: Behind) -> None:
    slow = Guard(behind, keys=Keys(keys_at), policy="", body_timeout_s=0.01)
    piece = {"type": "http.request", "body": b"x", "more_body": True}
    assert raw(slow, "/x", pairs(key), [piece], method="POST")[0]["status"] == 408
    assert raw(slow, "/x", pairs(key), [piece, {"type": "http.disconnect"}], method="POST") == []
    assert not behind.reached


def test_a_revoked_key_is_refused_at_once(edge: Guard, keys_at: Path, key: str) -> None:
    assert ask(edge, "GET", "/v1/models", headers=bearer(key)).status_code == 200
    remove_key(keys_at, "laptop")
    assert ask(edge, "GET", "/v1/models", headers=bearer(key)).status_code == 401


def test_no_websocket_gets_through_to_the_edge(edge: Guard, behind: Behind, key: str) -> None:
    for path in ("/v1/chat/completions", "/health", "/x"):
        sent = raw(edge, path, pairs(key), type="websocket", method=None)
        assert sent == [{"type": "websocket.close", "code": 1008}]
    assert not behind.reached


def test_the_life_of_the_app_is_its_own(edge: Guard) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    edge.app = app
    asyncio.run(edge({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_every_answer_forbids_sniffing_framing_and_referring(edge: Guard) -> None:
    for response in (ask(edge, "GET", "/health"), ask(edge, "GET", "/x")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-frame-options"] == "DENY"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]


def test_streams_pass_piece_by_piece(edge: Guard, key: str) -> None:
    async def app(scope: Any, receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    edge.app = app
    assert [message.get("body") for message in raw(edge, "/v1/models", pairs(key))[1:]] == [
        b"data: 1\n\n",
        b"data: 2\n\n",
    ]
