"""Browser sessions for the IDE: a key opens one, a signed cookie carries it, and it dies with its key.

Nothing is stored: the cookie is `name.expiry.signature`, signed under a secret made when the process starts, so a
restart ends all sessions. The signature covers the key's hash, so a key that is made anew under an old name doesn't
revive the old sessions.

Limits: browsers send cookies to every port of a host, so a program that serves pages on another local port could read
it when you visit that; and a link in a page of another site opens the login page although there is a session, because
a SameSite=Strict cookie is not sent along.
"""

import hashlib
import hmac
import html
import secrets
import time
from collections.abc import Sequence

from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.serving.keys import Keys

COOKIE = "pocketcoder_session"
LIFETIME_S = 7 * 24 * 3600


class Sessions:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._secret = secrets.token_bytes(32)

    def issue(self, name: str) -> str:
        """The cookie's value for the key with this name."""
        expiry = str(int(time.time()) + LIFETIME_S)
        return f"{name}.{expiry}.{self._signature(name, expiry)}"

    def name(self, cookie_headers: Sequence[str]) -> str | None:
        """Name of the key behind a good session cookie among these headers."""
        pairs = (pair.strip().partition("=") for header in cookie_headers for pair in header.split(";"))
        # Quoted where the name holds an @, as those of a server's session keys do.
        names = (self._owner(value.strip('"')) for name, _, value in pairs if name == COOKIE)
        return next((name for name in names if name is not None), None)

    def _owner(self, value: str) -> str | None:
        name, _, rest = value.partition(".")
        expiry, _, signature = rest.partition(".")
        # As bytes, since compare_digest takes no text beyond ASCII; before the rest, since only what is signed is read.
        if not hmac.compare_digest(self._signature(name, expiry).encode(), signature.encode()):
            return None
        return name if self._keys.digest(name) is not None and time.time() < int(expiry) else None

    def _signature(self, name: str, expiry: str) -> str:
        text = f"{name}.{expiry}.{self._keys.digest(name)}"
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def opened(sessions: Sessions, name: str, location: str, *, secure: bool) -> Response:
    """Set the cookie and send the browser to the page, by an address without the key."""
    response = RedirectResponse(location, 303, {"Cache-Control": "no-store"})
    response.set_cookie(
        COOKIE, sessions.issue(name), max_age=LIFETIME_S, path="/", secure=secure, httponly=True, samesite="strict"
    )
    return response


def login_page(base: str, complaint: str | None = None) -> Response:
    """Ask for a key. Nothing in it is remote and nothing is echoed."""
    note = f'<p class="complaint" role="alert">{html.escape(complaint)}</p>' if complaint else ""
    page = LOGIN_PAGE.replace("ACTION", html.escape(f"{base}/login")).replace("COMPLAINT", note)
    headers = {
        "Cache-Control": "no-store",
        "WWW-Authenticate": "Bearer",
        # Not no-referrer: under that, browsers post this form with `Origin: null` (Fetch standard), which is refused.
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(page, 401, headers)


LOGIN_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pocketcoder: sign in</title>
<style>
:root { color-scheme: light dark; --back: #f4f5f7; --card: #fff; --text: #1c2333; --faint: #596275; --line: #c9ced8;
  --accent: #0f766e; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #0f131b; --card: #191f2b; --text: #e8ebf2; --faint: #9ba5b9;
  --line: #3a4457; --accent: #14887e; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; }
main { width: min(100%, 24rem); }
form { padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .75rem; }
h1 { margin: 0 0 .25rem; font-size: 1.25rem; }
p { margin: 0 0 1.25rem; color: var(--faint); }
.complaint { color: var(--bad); }
label { display: block; margin-bottom: .375rem; font-weight: 600; }
input, button { width: 100%; padding: .625rem .75rem; border-radius: .5rem; font: inherit; }
input { border: 1px solid var(--line); background: transparent; color: inherit; }
button { margin-top: 1rem; border: 0; background: var(--accent); color: #fff; font-weight: 600; cursor: pointer; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
code { font-family: ui-monospace, monospace; }
</style>
</head>
<body>
<main>
<form method="post" action="ACTION">
<h1>pocketcoder</h1>
<p>Sign in with an API key. <code>python -m app keys add NAME</code> makes one.</p>
COMPLAINT
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" placeholder="pk-&hellip;" required autofocus>
<button type="submit">Sign in</button>
</form>
</main>
</body>
</html>
"""
