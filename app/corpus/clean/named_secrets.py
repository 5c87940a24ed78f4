"""Secrets that only their name tells: `password = "..."`, `{"api_key": "..."}`, `--token ...`, `login: admin / ...`.

A name is found anywhere in a text (code, comments, strings); what follows it is read as Python's assignments, entries,
arguments, defaults and comparisons have it, or as settings, addresses and command lines do. `secret_values` judges
the value; for passwords that people make up it takes less than for keys.
"""

import base64
import re
from collections.abc import Iterable, Iterator

from app.corpus.clean.masks import API_KEY, PASSWORD, TOKEN, Span
from app.corpus.clean.secret_values import is_jumbled, is_key, is_password, is_shown

_PASSWORDS = ("passw", "passphrase", "passcode", "pwd")
_WORDS = ("pass", "pw")
"""Passwords' names too, where they are a word of the name: `smtp_pass`, not `bypass`."""
_KEYS = ("secret", "token", "credential", "bearer", "session", "cookie", "mnemonic", "seed_phrase", "authorization")
_LOGINS = ("login", "auth", "creds", "credentials", "account", "user", "curl")
_PROVIDERS = (
    "algolia", "asana", "bitbucket", "cloudflare", "codecov", "coinbase", "confluent", "contentful", "datadog",
    "dropbox", "fastly", "heroku", "linkedin", "mailgun", "mapbox", "mattermost", "netlify", "newrelic", "new_relic",
    "okta", "rapidapi", "sendbird", "snyk", "sonarqube", "sumologic", "travis_ci", "twilio", "twitter", "zendesk",
)  # fmt: skip
"""Whose keys have no form: gitleaks' rules of names. Only a random value counts."""
_KEY = "key"
NAMES = (*_PASSWORDS, *_WORDS, *_KEYS, *dict.fromkeys(_LOGINS), *_PROVIDERS, _KEY)
"""Words that begin a look, in lower case."""

_KEY_OF = re.compile(
    r"(?:api|access|auth|secret|private|client|sign(?:ing|ature)?|encrypt(?:ion)?|account|master|licen[sc]e|session|service|"
    r"shared|app(?:lication)?|subscription|hmac|jwt|fernet|aes|cipher|crypt|storage|consumer|webhook|admin|sas|site|"
    r"deploy|project|write|read|ingest|integration|registration|wallet|eth|ssh|tls|ssl|vault|root|"
    r"host|django|flask)[-_. ]?$"
)
_NO_SECRET = re.compile(
    r"hash|digest|checksum|sha\d|sha_|md5|crc|fingerprint|etag|tokeni[sz]|public|(?:^|_)(?:url|uri|path|file|dir|name|type|regex|"
    r"pattern|format|endpoint|header|label|help|text|message|msg|error|doc|title|version|vocab|count|len|length|size|field|"
    r"column|prefix|suffix|arn|algorithm|alg|policy|link|model|template|hint|description|expected_output)s?(?:$|_)"
)
"""Names that hold a secret's word for something else."""
_CURSOR = re.compile(r"(?:page|next|continuation|pagination)[_ -]?$")
"""Before `token`: a place in a list."""
_TAIL = re.compile(r"[\w-]{0,40}")
_HEAD = re.compile(r"[\w-]{0,40}$")
_QUOTED = re.compile(
    r"""(?x)
    \\?["'`]?\s?[\])]{0,2}
    (?: \s*+(?::\s*+[A-Za-z_"'][\w.\[\],\ |]{0,40}["']?\s*+(?==\s))?\s*+(?::=|=>|==|!=|=|:)\s*+
      | \s*+,\s*+(?:default\s*+=\s*+|value\s*+=\s*+)?
      | ["']?,[^\n()]{0,160}?\b(?:default|value)\s*+=\s*+
      | \)?\s*+or\s++
      | \(\s*+
    )
    (?:[\w.]{1,40}\()?(?:\(\s*+)?(?:\[\s*+)?(?:[\w.]{1,40}\(\s*["'][\w.-]{1,40}["']\s*,\s*)?
    [bruBRU]?(?P<quote>\"{3}|'{3}|\\?["'])"""
)
"""From the end of a name to a value in quotes. White space is never given back: it may be all the rest of a file."""
_BARE = re.compile(
    r"""(?x) \\?["'`]?\s*(?:=|:|\bis\b|%3[dD])[ ]*(?P<value>(?:[^\s"'`\\,;&<>()\[\]|]|&(?!\w+=)){7,200})"""
)
_COMPARED = re.compile(r"\w+(?:[=!<>]=)\w+")
_COMMA = re.compile(r"^[^,=(]*,\s*\S{0,4}$")
_OPTION = re.compile(r"[ =]+[\"']?(?P<value>(?!-)[^\s\"'`\\,;&<>(){}\[\]|=]{7,200})")
_VALUES = {
    quote: re.compile(rf"((?:\\.|(?!{quote})[^\\{'' if len(quote) == 3 else chr(92) + 'n'}]){{6,2000}}){quote}")
    for quote in ('"', "'", '"""', "'''", '\\"', "\\'")
}
_BREAK = re.compile(r"\s*(?:\n|\\n)\s*")
_MIXED = re.compile(r"\d[A-Za-z]")
_JOINED = re.compile(r"""\s*[bruBRU]?(?=["'])""")
_NEXT = re.compile(r"""\s*+,?\s*+[bruBRU]?(?=["'])""")
_SCHEME = re.compile(
    r"(?i)\\?[\"']?\s*+[:=,]?\s*+[bf]?[\"']?(?P<scheme>basic|bearer|token|digest|apikey|bot)\s+"
    r"(?P<value>[\w.~+/:-]{8,2000}={0,2})"
)
_PAIR = re.compile(
    r"""(?x)[\w\ ]{0,20}?\s*[:=]\s*[\w.@+-]{1,60}\s*[/:|]\s*
    (?P<value>(?![/\d.]+$)[^\s"'`\\,;<>()\[\]|/={}]{7,100})(?=[\s"'`.,;)]|$)"""
)
"""`login: admin / ...`, in a comment or a text."""
_CALL = re.compile(
    r"""(?x)[\w]{0,20}(?:\s*[=:]\s*[\w.]{0,40}|["']\s*[:,]\s*|\s*)[(\[]\s*[bru]?["'][\w.@+\ -]{1,60}["']\s*,\s*
    [bru]?(?P<quote>["'])(?P<value>[^\s"'`\\]{7,100})(?P=quote)"""
)
"""`auth=("admin", "...")`, `server.login("admin", "...")`."""
_CURL = re.compile(r"curl\b[^\n]{0,300}?\s(?:-u|--user)[ =]*[\"'\\]*[\w.@+-]{1,60}:(?P<value>[^\s\"'\\:@/]{4,100})")


def secrets_named(text: str, low: str, found: Iterable[tuple[str, int, int]], known: list[Span]) -> Iterator[Span]:
    """Spans of secrets behind the names found. low: the text in lower case. found: word, start and end of each.
    known: spans of secrets with a form of their own, which need no second look."""
    places = {start for start, _, _ in known}
    for word, start, end in found:
        for span in _behind(text, low, word, start, end):
            if span[0] not in places:
                yield span


def _behind(text: str, low: str, word: str, start: int, end: int) -> Iterator[Span]:
    if word in ("authorization", "bearer", "auth", "cookie", "token"):
        yield from _with_scheme(text, start if word == "bearer" else end)
    if word in _LOGINS:
        yield from _login(text, low, word, start, end)
        return
    if word in _WORDS and (low[end : end + 1].isalnum() or (start and low[start - 1].isalnum())):
        return
    if word == "token" and _CURSOR.search(low, max(0, start - 14), start):
        return
    if word == _KEY and not _KEY_OF.search(low, max(0, start - 14), start):
        return
    tail = _TAIL.match(low, end)
    assert tail is not None  # it matches the empty text too
    head = _HEAD.search(low, max(0, start - 40), start)
    name = (head[0] if head else "") + low[start : tail.end()]
    if _NO_SECRET.search(name.replace("-", "_")):
        return
    is_pass = word in _PASSWORDS or word in _WORDS
    quoted = _QUOTED.match(text, tail.end())
    if quoted and (not _COMMA.search(quoted[0]) or _opens_call(text, start - len(head[0] if head else ""))):
        yield from _quoted(text, quoted, is_pass)
    elif bare := _BARE.match(text, tail.end()):
        yield from _bare(bare, is_pass)
    elif text.startswith("-", start - len(name) + tail.end() - end) or low[max(0, start - 30) : start].rfind("--") >= 0:
        if option := _OPTION.match(text, tail.end()):
            yield from _bare(option, is_pass, kinds=2 if is_pass else 3)
    elif word in _PASSWORDS and (option := _OPTION.match(text, tail.end())):
        yield from _bare(option, is_pass, kinds=3)


def _opens_call(text: str, start: int) -> bool:
    """Whether the string that begins with the name is the first of a call or a tuple, not one of a list of names."""
    return text[max(0, start - 12) : start].rstrip("\"'xX-bru\n ").endswith("(")


def _quoted(text: str, found: re.Match[str], is_pass: bool) -> Iterator[Span]:
    """The value, and those that go on with it: parts of one string, further items of a list."""
    quote, position = found["quote"], found.end()
    between = found[0]
    is_sure = ("=" in between or ":" in between) and "(" not in between.rsplit("=", 1)[-1][:-1].replace("((", "(")
    while value := _VALUES[quote].match(text, position):
        plain = _BREAK.sub("", value[1]).strip()
        if is_key(plain):
            yield value.start(1), value.end(1), PASSWORD if is_pass and len(plain) < 24 else API_KEY
        elif is_pass and is_password(value[1], 2 if is_sure or _MIXED.search(value[1]) else 3):
            yield value.start(1), value.end(1), PASSWORD
        further = (_NEXT if "[" in between else _JOINED).match(text, value.end())
        if further is None or text[further.end()] != quote[0] or not is_sure:
            return
        position = further.end() + 1
        quote = quote[-1]


def _bare(found: re.Match[str], is_pass: bool, kinds: int = 2) -> Iterator[Span]:
    value = found["value"].rstrip(".:?}{")
    if _COMPARED.fullmatch(value):
        return
    start = found.start("value")
    if is_key(value):
        yield start, start + len(value), PASSWORD if is_pass else API_KEY
    elif is_pass and (any(map(str.isdigit, value)) or is_jumbled(value)) and is_password(value, kinds):
        yield start, start + len(value), PASSWORD


def _with_scheme(text: str, position: int) -> Iterator[Span]:
    """The credentials of an Authorization header (RFC 7617, RFC 6750)."""
    found = _SCHEME.match(text, position)
    if found is None:
        return
    value = found["value"]
    if found["scheme"].lower() == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:  # no base64, or no text
            return
        is_secret = user.isprintable() and bool(password) and not is_shown(password)
    else:
        is_secret = is_key(value)
    if is_secret:
        yield found.start("value"), found.end("value"), TOKEN


def _login(text: str, low: str, word: str, start: int, end: int) -> Iterator[Span]:
    """The password of a pair: `login: admin / ...`, `auth=("admin", "...")`, `curl -u admin:...`."""
    found = _CURL.match(text, start) if word == "curl" else _CALL.match(text, end) or _PAIR.match(text, end)
    if found and is_password(found["value"], 2 if word == "curl" else 3):
        yield found.start("value"), found.end("value"), PASSWORD
