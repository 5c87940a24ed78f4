"""The IDE opens for a browser that showed a good key, to its own pages only, and for as long as the key holds."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from app.serving import guard as guard_module
from app.serving.guard import Guard, guard_ide
from app.serving.keys import Keys, add_key, hash_key, remove_key
from app.serving.sessions import COOKIE, Sessions
from tests.asgi import HTML, Behind, ask, bearer, raw


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the guard waited; tests don't."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(guard_module.asyncio, "sleep", sleep)
    return slept


@pytest.fixture
def ide(keys_at: Path, key: str, behind: Behind) -> Guard:
    return guard_ide(behind, Keys(keys_at), allowed_hosts=["ide.example.com"])


def cookie_of(response: httpx.Response) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={response.cookies[COOKIE]}"}


def sign_in(ide: Guard, key: str) -> dict[str, str]:
    return cookie_of(ask(ide, "GET", f"/ide/?key={key}"))


def test_a_page_without_a_session_asks_for_a_key_and_is_self_contained(ide: Guard, behind: Behind) -> None:
    for path in ("/ide", "/ide/", "/ide/login"):
        page = ask(ide, "GET", path, headers=HTML)
        assert page.status_code == 401 and 'action="/ide/login"' in page.text and 'type="password"' in page.text
        assert not re.search(r"(src|href)=|url\(|https?://|<script", page.text)
        assert "prefers-color-scheme: dark" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not behind.reached


def test_the_login_page_lets_browsers_name_its_origin(ide: Guard) -> None:
    """Under no-referrer a browser posts a form with `Origin: null`, and nobody could sign in."""
    assert ask(ide, "GET", "/ide/", headers=HTML).headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    "path",
    ["/ide/gradio_api/file=/etc/passwd", "/ide/gradio_api/queue/join", "/ide/config", "/ide/theme.css",
     "/ide/gradio_api/upload", "/other"],
)  # fmt: skip
def test_v5_nothing_of_the_ide_is_there_without_a_session(ide: Guard, behind: Behind, path: str) -> None:
    for method in ("GET", "HEAD", "PUT"):
        response = ask(ide, method, path, headers=HTML)
        assert response.status_code == 401 and "text/html" not in response.headers["content-type"]
    assert ask(ide, "POST", "/ide/", headers=HTML).json()["error"]["code"] == "invalid_api_key"
    assert not behind.reached


def test_v5_a_session_opens_no_path_with_dots(ide: Guard, behind: Behind, key: str) -> None:
    session = sign_in(ide, key)
    for path in ("/ide/gradio_api/file=..%2f..%2fetc/passwd", "/ide/gradio_api/file=a/%2e%2e/b", "/ide/..%5cx"):
        assert ask(ide, "GET", path, headers=session).status_code == 404, path
    for path in ("/ide/gradio_api/file=http://169.254.169.254/", "/ide/a\x00b"):
        headers = [(b"host", b"localhost"), (b"cookie", session["cookie"].encode())]
        assert raw(ide, path, headers)[0]["status"] == 404, path
    assert not behind.reached


def test_a_key_in_the_address_opens_a_session_and_leaves_the_address(ide: Guard, behind: Behind, key: str) -> None:
    response = ask(ide, "GET", f"/ide/?a=1&key={key}&__theme=dark", headers=HTML)
    assert response.status_code == 303 and response.headers["location"] == "/ide/?a=1&__theme=dark"
    cookie = response.headers["set-cookie"]
    assert key not in cookie and "secure" not in cookie.lower()
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=604800"):
        assert part in cookie
    assert not behind.reached
    assert ask(ide, "GET", "/ide/", headers=cookie_of(response)).status_code == 200
    assert ask(ide, "POST", "/ide/gradio_api/queue/join", headers=cookie_of(response)).status_code == 200
    assert [name for _, name in behind.reached] == ["laptop", "laptop"]


def test_a_key_made_for_one_run_of_the_server_opens_a_session_too(behind: Behind, tmp_path: Path) -> None:
    ide = guard_ide(behind, Keys(tmp_path / "none.json", [hash_key("pk-once")]))
    opened = ask(ide, "GET", "/?key=pk-once", root_path="/ide")
    assert ask(ide, "GET", "/", root_path="/ide", headers=HTML | cookie_of(opened)).status_code == 200
    assert behind.reached[-1][1] == "@1"


def test_the_form_opens_a_session_and_over_tls_the_cookie_stays_there(ide: Guard, key: str) -> None:
    form = {"data": {"key": f" {key} "}, "headers": {"origin": "https://ide.example.com"}}
    response = ask(ide, "POST", "/ide/login", base="https://ide.example.com", **form)
    assert response.status_code == 303 and response.headers["location"] == "/ide/"
    assert "Secure" in response.headers["set-cookie"]


def test_a_wrong_key_waits_says_so_and_is_not_echoed(ide: Guard, waits: list[float]) -> None:
    answers = [ask(ide, "GET", "/ide/?key=pk-guess", headers=HTML)]
    answers += [ask(ide, "POST", "/ide/login", data=data) for data in ({"key": "pk-guess"}, {}, {"key": ""})]
    for response in answers:
        assert response.status_code == 401 and "That key is not known here" in response.text
        assert "pk-guess" not in response.text and "set-cookie" not in response.headers
    assert waits == [0.5] * 4


def test_the_login_takes_no_post_of_another_site_and_no_large_one(ide: Guard, key: str) -> None:
    for origin in ("http://evil.com", "null"):
        response = ask(ide, "POST", "/ide/login", data={"key": key}, headers={"origin": origin})
        assert response.status_code == 403 and "set-cookie" not in response.headers
    said = [(b"host", b"localhost"), (b"content-length", b"5000")]
    assert raw(ide, "/ide/login", said, [{"type": "never read"}], method="POST")[0]["status"] == 413
    piece = {"type": "http.request", "body": b"x" * 3000, "more_body": True}
    assert raw(ide, "/ide/login", said[:1], [piece, piece, {"type": "never read"}], method="POST")[0]["status"] == 413


@pytest.mark.parametrize(
    "forge",
    [lambda n, e, s: f"admin.{e}.{s}", lambda n, e, s: f"{n}.{int(e) + 1}.{s}", lambda n, e, s: f"{n}.{e}.{'0' * 64}",
     lambda n, e, s: f"{n}.{e}", lambda n, e, s: f"{n}.{e}.", lambda n, e, s: "", lambda n, e, s: f"{n}.x.ä",
     lambda n, e, s: f"{n}.{e}.{s}.{s}"],
)  # fmt: skip
def test_a_forged_cookie_is_none(ide: Guard, key: str, forge: Callable[[str, str, str], str]) -> None:
    name, expiry, signature = sign_in(ide, key)["cookie"].partition("=")[2].split(".")
    cookie = f"x=1; {COOKIE}={forge(name, expiry, signature)}".encode()
    assert raw(ide, "/ide/config", [(b"host", b"localhost"), (b"cookie", cookie)])[0]["status"] == 401


def test_a_session_dies_with_its_key_and_a_new_key_of_that_name_does_not_revive_it(
    ide: Guard, keys_at: Path, key: str
) -> None:
    session = sign_in(ide, key)
    assert ask(ide, "GET", "/ide/config", headers=session).status_code == 200
    remove_key(keys_at, "laptop")
    assert ask(ide, "GET", "/ide/config", headers=session).status_code == 401
    add_key(keys_at, "laptop")
    assert ask(ide, "GET", "/ide/config", headers=session).status_code == 401


def test_a_key_that_goes_while_its_session_is_made_leaves_none(keys_at: Path) -> None:
    sessions = Sessions(Keys(keys_at))
    assert sessions.name([f"{COOKIE}={sessions.issue('gone')}"]) is None


def test_a_session_ends_after_a_week_and_with_the_server(
    ide: Guard, keys_at: Path, key: str, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sign_in(ide, key)
    assert ask(guard_ide(behind, Keys(keys_at)), "GET", "/ide/config", headers=session).status_code == 401
    now = time.time()
    monkeypatch.setattr("app.serving.sessions.time.time", lambda: now + 7 * 24 * 3600 - 5)
    assert ask(ide, "GET", "/ide/config", headers=session).status_code == 200
    monkeypatch.setattr("app.serving.sessions.time.time", lambda: now + 7 * 24 * 3600 + 5)
    assert ask(ide, "GET", "/ide/config", headers=session).status_code == 401


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [("127.0.0.1:8000", "http://127.0.0.1:8000", 200), ("127.0.0.1:8000", "http://127.0.0.1:9999", 403),
     ("127.0.0.1:8000", "http://localhost:8000", 403), ("127.0.0.1:8000", "https://ide.example.com", 200)],
)  # fmt: skip
def test_a_session_serves_only_pages_of_this_server(ide: Guard, key: str, host: str, origin: str, status: int) -> None:
    session = sign_in(ide, key)
    headers = [(b"host", host.encode()), (b"origin", origin.encode()), (b"cookie", session["cookie"].encode())]
    assert raw(ide, "/ide/gradio_api/queue/join", headers, method="POST")[0]["status"] == status


def test_a_wrong_key_in_a_header_is_not_made_good_by_a_session(ide: Guard, key: str) -> None:
    session = sign_in(ide, key)
    answer = ask(ide, "GET", "/ide/", headers={**session, **HTML, **bearer("wrong")})
    assert answer.status_code == 401 and answer.json()["error"]["message"].startswith("this key is not known here")
    assert ask(ide, "GET", "/ide/config", headers=bearer(key)).status_code == 200


@pytest.mark.parametrize("path", ["/ide/?key={}", "/?key={}"])
def test_it_works_whether_or_not_the_mounting_server_leaves_its_prefix_in_the_path(
    ide: Guard, key: str, path: str
) -> None:
    for root in ("/ide", "/lab/ide"):
        address = (root if path.startswith("/ide") else "") + path.format(key).removeprefix("/ide")
        response = ask(ide, "GET", address, root_path=root)
        assert response.status_code == 303 and response.headers["location"] == f"{root}/"


def test_an_open_redirect_can_not_be_had(ide: Guard, key: str) -> None:
    headers = [(b"host", b"localhost")]
    for path in ("//evil.com/", "/ide//evil.com", "/\\evil.com/"):
        sent = raw(ide, path, headers, query_string=b"key=" + key.encode())
        assert sent[0]["status"] == 404
    sent = raw(ide, "/ide/", headers, query_string=b"key=" + key.encode() + b"&x=\r\nset-cookie: a=b")
    assert all(b"\n" not in value for _, value in sent[0]["headers"])


def test_a_websocket_of_the_ide_is_checked_like_any_request(ide: Guard, behind: Behind, key: str) -> None:
    session = (b"cookie", sign_in(ide, key)["cookie"].encode())
    host = (b"host", b"127.0.0.1:8000")
    refused = [{"type": "websocket.close", "code": 1008}]
    bad = [[host], [(b"host", b"evil.com"), session], [host, session, (b"origin", b"http://evil.com")],
           [host, session, (b"origin", b"http://localhost:9")]]  # fmt: skip
    for headers in bad:
        assert raw(ide, "/ide/ws", headers, type="websocket", method=None, scheme="ws") == refused
    assert not behind.reached
    own = [host, session, (b"origin", b"http://127.0.0.1:8000")]
    assert raw(ide, "/ide/ws", own, type="websocket", method=None)[0] == {"type": "websocket.accept"}


def test_what_has_no_policy_of_its_own_loads_nothing(ide: Guard, key: str) -> None:
    response = ask(ide, "GET", "/ide/", headers=bearer(key))
    policy = response.headers["content-security-policy"]
    assert (
        not re.search(r"https?:|\*", policy) and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    )
    assert response.headers["referrer-policy"] == "no-referrer"


def test_no_key_is_ever_logged(ide: Guard, key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1)
    for given in (key, "pk-wrong"):
        ask(ide, "POST", "/ide/login", data={"key": given})
        ask(ide, "GET", "/ide/config", headers=bearer(given))
    assert not [record for record in caplog.records if record.name.startswith("app.") and "pk-" in record.getMessage()]
