"""Personal data that a model must not learn by heart: e-mail addresses, telephone numbers, IBANs, card numbers and
public IP addresses.

What only looks like one is told by rules of those who keep them: numbering plans (phonenumbers, after Google's
libphonenumber), check digits (python-stdnum), the registry of special addresses (ipaddress).

Limits: names and postal addresses stay; so do addresses reserved for examples (RFC 2606), for private and documentation
networks, four numbers below 32 (they are a version) and telephone numbers without a `+` that no word tells.
"""

import functools
import ipaddress
import re
from collections.abc import Iterator

import ahocorasick_rs

from app.corpus.clean.masks import CARD, EMAIL, IBAN, IP_ADDRESS, PHONE, Span, apart, lowered

_DOMAIN = re.compile(r"@(?<=[\w+-]@)(?!\d{1,2}\.)([\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,18})(?![\w-]|\.\w|\(|/+\w)")
"""What a path follows is part of an address, and `foo@1.bar` counts something."""
_LOCAL = re.compile(r"[\w.%+-]+$")
_RESERVED = re.compile(
    r"(?i)(?:.*\.)?(?:example\.(?:com|org|net|edu)|test|invalid|localhost|example|local)$"
    r"|(?:[a-pr-wy]|foo|bar|baz|foobar|(?:my|your)?-?domain|host)\.(?:com|org|net)$|openssh\.com$|libssh\.org$"
)
"""Domains for examples (RFC 2606), of one letter, and written for one; and the ends of names that SSH gives
its algorithms (RFC 4251, section 6)."""
_FILE = re.compile(r"(?i)\.(?:py|txt|json|ya?ml|pkl|zip|png|jpg|html?|md|jit|mt)$")
"""Name@version.pkl and the like."""
_AT, _DOT = (
    rf"(?:\s+{word}\s+|\s*[\[({{<]\s*(?:{word}|{sign})\s*[\])}}>]\s*)" for word, sign in (("at", "@"), ("dot", r"\."))
)
_IN_WORDS = re.compile(
    rf"(?i)(?<![\w.+-])[\w+-]{{2,40}}(?:(?:{_DOT}|\.)[\w+-]{{1,40}})*?(?:{_AT}|@)[\w-]{{2,40}}(?:(?:{_DOT}|\.)[\w-]{{2,40}})*?"
    rf"(?:{_DOT}|\.)(?:com|org|net|edu|gov|info|io|dev|ai|co|eu|[a-z]{{2}})\b"
)
"""An address that its writer hides from machines: `jane at firm dot io`, `jane [at] firm.io`."""
_WORDS_OF_TWO = re.compile(r"(?i)(?:is|in|of|to|by|it|an|as|at|be|do|if|no|on|or|so|we|up)$")
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d|/\d)")
_IPV4_HINT = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-fA-F]{1,4}:[0-9a-fA-F:]{2,40}(?:\d+\.\d+\.\d+\.\d+)?(?![\w:]|/\d)")
_IPV6_HINT = re.compile(r":[0-9a-fA-F]{1,4}:[0-9a-fA-F]{0,4}:")
_UNICAST, _SIX_TO_FOUR = ipaddress.ip_network("2000::/3"), ipaddress.ip_network("2002::/16")
"""All addresses of machines that IANA has given out; and those among them that stand for one of IPv4 (RFC 3056)."""
_WELL_KNOWN = {"2001:4860:4860::8888", "2001:4860:4860::8844", "2606:4700:4700::1111", "123.45.67.89"}
"""Resolvers that are open to everybody, and digits in a row."""
_VERSION = re.compile(r"(?i)(?:version|release|v\.|ver|firmware|build|oid|objectid|==|>=|<=|~=)[^\n]{0,30}$")
_PLUS = re.compile(r"\+(?<![\w+]\+)(?=[1-9])[\d ()./-]{7,24}\d(?![\w.])")
_NATIONAL = re.compile(r"(?<![\w.+-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-.]\d{4}(?![\w-]|\.\d)")
_NAMED = re.compile(
    r"(?i)(?:[-_ ]?(?:number|no|nr|num)s?)?\.?\b[\"'\]]*\s*(?:[:=]|\bis\b|,)?\s*[\"']?"
    r"(?=\+?\(?0?\d)([\d ()./+-]{8,24}\d)(?![\w.])"
)
"""From the end of a word such as `phone` to a number."""
_PHONE_WORDS = ("phone", "mobile", "telefon", "whatsapp", "tel", "fax", "cell")
_SPELT = tuple(f"{a}{word}{b}" for word in ("dot", "at") for a, b in ("[]", "()", "{}", "<>")) + (" dot ",)
_WORDS = ahocorasick_rs.AhoCorasick([*_PHONE_WORDS, *_SPELT])
_IBAN = re.compile(r"(?<![\w])[A-Z]{2}\d\d(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,4})?(?!\w)")
_CARD = re.compile(r"(?<![\w.-])[3-6]\d{3}([ -]?)\d{4,6}\1\d{4,5}(?:\1\d{1,4})?(?![\w-]|\.\d)")
_CARD_NAME = re.compile(r"(?i)card|visa|master|amex|\bpan\b|\bcc(?:_?num(?:ber)?)?\b")
_SHAPES = bytes.maketrans(b"123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-", b"000000000AAAAAAAAAAAAAAAAAAAAAAAAAA ")
"""Digits to 0, capitals to A, dashes to blanks: texts without a shape are told at the speed of memory."""
_US_SHAPES = (b"000 000 0000", b"000) 000 0000", b"000)000 0000", b"000.000.0000")


def find_personal(text: str) -> list[Span]:
    """Spans of personal data, in order, none inside another."""
    shape = text.encode(errors="replace").translate(_SHAPES)
    spans = find_emails(text)
    if _IPV4_HINT.search(text) or _IPV6_HINT.search(text):
        spans += _ip_addresses(text)
    if any(form in shape for form in (b"AA00 AAAA", b"AA00 0000", b"AA000000", b"AA00AAAA")):
        spans += _ibans(text)
    if b"0000 0000" in shape or b"0000 000000 00000" in shape or b"0000000000000" in shape:
        spans += _cards(text)
    spans += _phones(text, has_national=any(form in shape for form in _US_SHAPES))
    return apart(spans)


def find_emails(text: str) -> list[Span]:
    """Spans of e-mail addresses of people and firms, in order. A matrix product (`a @ b.T`) may look like one."""
    spans = []
    for match in _DOMAIN.finditer(text):
        local = _LOCAL.search(text, max(0, match.start() - 64), match.start())
        if local is None or local[0] == "git" or _RESERVED.match(match[1]) or _FILE.search(match[1]):
            continue
        start = local.start() + len(local[0]) - len(local[0].lstrip("."))
        if start and (text[start - 1] in ")]./" or _is_in_address(text, start)):
            continue
        spans.append((start, match.end(), EMAIL))
    for number, start, end in _WORDS.find_matches_as_indexes(lowered(text)):
        if number >= len(_PHONE_WORDS):
            for match in _IN_WORDS.finditer(text, max(0, start - 80), end + 80):
                if match.start() < start < match.end() and not _WORDS_OF_TWO.search(match[0]):
                    spans.append((*match.span(), EMAIL))
    return apart(spans)


def _is_in_address(text: str, start: int) -> bool:
    """Whether what follows a colon is the password of an address (user:password@host), not the e-mail address of a
    field (mailto:jane@firm.io)."""
    before = text[max(0, start - 80) : start].split()
    return text[start - 1] == ":" and bool(before) and ("//" in before[-1] or before[-1].count(":") > 1)


def _ip_addresses(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        line = text[max(0, match.start() - 60) : match.start()].rpartition("\n")[2]
        numbers = [int(number) for number in match[0].split(".")]
        is_version = max(numbers) < 32 or _VERSION.search(line) or (line.endswith("/") and not line.endswith("//"))
        if not is_version and numbers[3] and _is_public(match[0]):
            yield *match.span(), IP_ADDRESS
    for match in _IPV6.finditer(text):
        if match[0].count(":") >= 3 and _is_public(match[0]):
            yield *match.span(), IP_ADDRESS


@functools.lru_cache(4096)
def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    is_unicast = parsed.version == 4 or (parsed in _UNICAST and parsed not in _SIX_TO_FOUR)
    return parsed.is_global and not parsed.is_multicast and is_unicast and address not in _WELL_KNOWN


def _ibans(text: str) -> Iterator[Span]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        if iban.is_valid(match[0]):
            yield *match.span(), IBAN


def _cards(text: str) -> Iterator[Span]:
    from stdnum import luhn

    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if not 13 <= len(digits) <= 19 or not luhn.is_valid(digits) or len(set(digits)) < 2:
            continue
        if match[1] or _CARD_NAME.search(text, max(0, match.start() - 40), match.start()):
            yield *match.span(), CARD


def _phones(text: str, has_national: bool) -> Iterator[Span]:
    if "+" in text:
        for match in _PLUS.finditer(text):
            if _is_phone(match[0], None):
                yield *match.span(), PHONE
    if has_national:
        for match in _NATIONAL.finditer(text):
            if _is_phone(match[0], "US"):
                yield *match.span(), PHONE
    for number, _, end in _WORDS.find_matches_as_indexes(lowered(text)):
        named = _NAMED.match(text, end) if number < len(_PHONE_WORDS) else None
        if named and 9 <= sum(map(str.isdigit, named[1])) <= 15 and len(set(named[1])) > 4:
            yield *named.span(1), PHONE


@functools.lru_cache(4096)
def _is_phone(number: str, region: str | None) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return False
    is_written = sum(map(number.count, " -()")) > 1  # by a person: then the number of digits is enough
    return phonenumbers.is_possible_number(parsed) if is_written else phonenumbers.is_valid_number(parsed)
