"""Masks for what a model must not learn by heart: keys, tokens, passwords in addresses, private keys, e-mail addresses.

Each is replaced by a placeholder of the same kind (`<API_KEY>`), which leaves a string a string, so the code still
parses; a file is not lost for one address in it. After StarCoder (arXiv 2305.06161, section 4), which masks as well.

Own table, because the library for it does not fit: detect-secrets 1.5.0 (last released in May 2024) ran at 0.09 MB/s,
and finds a secret's line, not its span. The table follows the providers' published forms, each told by a fixed prefix;
a pattern is searched only in texts that hold its anchor. 35 MB/s on Python source, one core.

Limits: a secret without a known form is seen only as the long, random value of a name like `api_key`. Hashes of tests
and lock files, version-control addresses (git@host) and the addresses reserved for examples (RFC 2606) stay.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

API_KEY, TOKEN, PASSWORD, PRIVATE_KEY, EMAIL = "<API_KEY>", "<TOKEN>", "<PASSWORD>", "<PRIVATE_KEY>", "<EMAIL>"
Span: TypeAlias = tuple[int, int, str]
"""Start, end and placeholder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One provider's secret. `anchor` is a text that every match holds."""

    anchor: str
    pattern: str
    placeholder: str = API_KEY


# Sources: the providers' pages on their keys and GitHub's list of supported secret scanning patterns
# (https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns).
FORMS = (
    Form(anchor="AKIA", pattern=r"\bAKIA[A-Z2-7]{16}\b"),  # AWS access key, long-term
    Form(anchor="ASIA", pattern=r"\bASIA[A-Z2-7]{16}\b"),  # AWS access key, temporary
    Form(anchor="ghp_", pattern=r"\bghp_[A-Za-z0-9]{36}\b", placeholder=TOKEN),  # GitHub, personal
    Form(anchor="gho_", pattern=r"\bgho_[A-Za-z0-9]{36}\b", placeholder=TOKEN),  # GitHub, OAuth
    Form(anchor="ghu_", pattern=r"\bghu_[A-Za-z0-9]{36}\b", placeholder=TOKEN),  # GitHub, user of an app
    Form(anchor="ghs_", pattern=r"\bghs_[A-Za-z0-9]{36}\b", placeholder=TOKEN),  # GitHub, app
    Form(anchor="ghr_", pattern=r"\bghr_[A-Za-z0-9]{36,76}\b", placeholder=TOKEN),  # GitHub, refresh
    Form(anchor="github_pat_", pattern=r"\bgithub_pat_[A-Za-z0-9_]{60,90}\b", placeholder=TOKEN),
    Form(anchor="glpat-", pattern=r"\bglpat-[\w-]{20,40}", placeholder=TOKEN),  # GitLab
    Form(anchor="xox", pattern=r"\bxox[abeoprs]-[A-Za-z0-9-]{20,250}", placeholder=TOKEN),  # Slack
    Form(anchor="hooks.slack.com", pattern=r"hooks\.slack\.com/services/T\w{6,12}/B\w{6,12}/\w{20,30}"),
    Form(anchor="/api/webhooks/", pattern=r"discord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,70}"),
    Form(anchor="AIza", pattern=r"\bAIza[\w-]{35}"),  # Google API key
    Form(anchor="ya29.", pattern=r"\bya29\.[\w-]{30,}", placeholder=TOKEN),  # Google OAuth
    Form(anchor="GOCSPX-", pattern=r"\bGOCSPX-[\w-]{28}"),  # Google OAuth client
    # OpenAI, Anthropic
    Form(anchor="sk-", pattern=r"\bsk-(?:(?:proj|svcacct|admin|ant)-[\w-]{30,200}|[A-Za-z0-9]{32,64}\b)"),
    Form(anchor="k_live_", pattern=r"\b[sr]k_live_[A-Za-z0-9]{16,120}"),  # Stripe
    Form(anchor="k_test_", pattern=r"\b[sr]k_test_[A-Za-z0-9]{16,120}"),
    Form(anchor="whsec_", pattern=r"\bwhsec_[A-Za-z0-9+/]{24,64}"),
    Form(anchor="hf_", pattern=r"\bhf_[A-Za-z]{34}\b", placeholder=TOKEN),  # Hugging Face
    Form(anchor="npm_", pattern=r"\bnpm_[A-Za-z0-9]{36}\b", placeholder=TOKEN),
    Form(anchor="pypi-AgE", pattern=r"\bpypi-AgE[\w-]{50,}", placeholder=TOKEN),
    Form(anchor="SG.", pattern=r"\bSG\.[\w-]{22}\.[\w-]{43}"),  # SendGrid
    Form(anchor="key-", pattern=r"\bkey-[0-9a-f]{32}\b"),  # Mailgun
    Form(anchor="dop_v1_", pattern=r"\bdop_v1_[0-9a-f]{64}\b", placeholder=TOKEN),  # DigitalOcean
    Form(anchor="shpat_", pattern=r"\bshpat_[0-9a-fA-F]{32}\b", placeholder=TOKEN),  # Shopify
    Form(anchor="dapi", pattern=r"\bdapi[0-9a-f]{32}\b", placeholder=TOKEN),  # Databricks
    Form(anchor="dckr_pat_", pattern=r"\bdckr_pat_[\w-]{27}", placeholder=TOKEN),
    Form(anchor="hvs.", pattern=r"\bhvs\.[\w-]{24,200}", placeholder=TOKEN),  # HashiCorp Vault
    Form(anchor="gsk_", pattern=r"\bgsk_[A-Za-z0-9]{52}\b"),  # Groq
    Form(anchor="r8_", pattern=r"\br8_[A-Za-z0-9]{37}\b"),  # Replicate
    Form(anchor=":AA", pattern=r"\b\d{8,10}:AA[\w-]{33}\b", placeholder=TOKEN),  # Telegram
    Form(anchor="AccountKey=", pattern=r"(?<=AccountKey=)[A-Za-z0-9+/]{86}=="),  # Azure storage
    Form(anchor="eyJ", pattern=r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", placeholder=TOKEN),  # JSON web token
    Form(anchor="AGE-SECRET-KEY-1", pattern=r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}", placeholder=PRIVATE_KEY),
    Form(
        anchor="PRIVATE KEY",
        pattern=r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?=[^-]{60,})[\s\S]{1,8000}?"
        r"-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----",
        placeholder=PRIVATE_KEY,
    ),
)
_URL = re.compile(r"://[^\s:/@\"'<>{}%$]{1,60}:([^\s:/@\"'<>{}%$*]{3,80})@(?=[\w.\[-])")
_PLACEHOLDERS = re.compile(
    r"(?i)x+|\.+|(?:my|your|the|some|a|db)?[-_]?(?:pass|passwd|password|pwd|secret|token|key|pw)\d*"
)
_VALUE = re.compile(r"[:=]\s*[bru]?[\"']([\w+/=.~-]{20,200})[\"']", re.ASCII)
_NAME = re.compile(
    r"(?i)(?:(?:api|access|auth|secret|private|client|signing|encryption|account)[-_]?key"
    r"|secret|token|passw(?:or)?d|credentials?)[\"'\]]*\s*(?::\s*\w+\s*)?$"
)
_IDENTIFIER = re.compile(r"[\w.-]*[a-z_]{2,}[-._][a-z_]{2,}[\w.-]*", re.ASCII)
_MIN_ENTROPY = 3.8
"""Bits a character; words and identifiers lie below 3.5, base64 of random bytes of 20 characters and more above 3.8."""
_DOMAIN = re.compile(
    r"@(?<=[A-Za-z0-9_+-]@)([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,18})(?![\w-]|\.\w|\()", re.ASCII
)
_LOCAL = re.compile(r"[A-Za-z0-9._%+-]+$", re.ASCII)
_RESERVED = re.compile(r"(?i)(?:.*\.)?(?:example\.(?:com|org|net|edu)|test|invalid|localhost|example|local)$")
_FILE = re.compile(r"(?i)\.(?:py|txt|json|ya?ml|pkl|zip|png|jpg|html?|md|jit|mt)$")
"""Name@version.pkl and the like."""


def _compiled(form: Form) -> re.Pattern[str]:
    """The pattern, with its prefix before the word border that it asks for: `re` then searches for the prefix at the
    speed of memchr."""
    for prefix in (re.escape(form.anchor), form.anchor):
        if form.pattern.startswith(rf"\b{prefix}"):
            rest = form.pattern[len(prefix) + 2 :]
            return re.compile(rf"{prefix}(?<!\w{prefix}){rest}", re.ASCII)
    return re.compile(form.pattern, re.ASCII)


_FORMS = tuple((form.anchor, _compiled(form), form.placeholder) for form in FORMS)


def find_secrets(text: str) -> list[Span]:
    """Spans of secrets, in order, none inside another."""
    spans = [
        (match.start(), match.end(), placeholder)
        for anchor, pattern, placeholder in _FORMS
        if anchor in text
        for match in pattern.finditer(text)
    ]
    if "@" in text:
        for match in _URL.finditer(text):
            if not _PLACEHOLDERS.fullmatch(match[1]):
                spans.append((match.start(1), match.end(1), PASSWORD))
    for match in _VALUE.finditer(text):
        if _is_random(match[1]) and _NAME.search(text, max(0, match.start() - 60), match.start()):
            spans.append((match.start(1), match.end(1), API_KEY))
    return _apart(spans)


def find_emails(text: str) -> list[Span]:
    """Spans of e-mail addresses of people and firms, in order. A matrix product (`a @ b.T`) may look like one."""
    spans = []
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text, max(0, match.start() - 64), match.start())
        if local is None or local[0] == "git" or _RESERVED.match(match[1]) or _FILE.search(match[1]):
            continue
        start = local.start() + len(local[0]) - len(local[0].lstrip("."))
        if start and text[start - 1] in ")].:/":
            continue
        spans.append((start, match.end(), EMAIL))
    return spans


def mask(text: str, spans: list[Span]) -> str:
    """The text with each span replaced by its placeholder."""
    pieces: list[str] = []
    position = 0
    for start, end, placeholder in spans:
        pieces += (text[position:start], placeholder)
        position = end
    return "".join((*pieces, text[position:]))


def _apart(spans: list[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(spans):
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def _is_random(value: str) -> bool:
    """Whether letters and digits are mixed as no person writes them."""
    if _IDENTIFIER.fullmatch(value) or not (any(map(str.isdigit, value)) and any(map(str.isalpha, value))):
        return False
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts) >= _MIN_ENTROPY
