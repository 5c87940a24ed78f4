"""The gate, the address table, the command that checks files of cases, and thousands of URLs made of hostile parts."""

import ipaddress
import json
import random
from pathlib import Path

import pytest
import ssrfguard

from app.cli import main
from app.docsearch import gate
from app.docsearch.addresses import refuse_unless_public
from app.docsearch.check_cases import check_cases
from app.docsearch.gate import ALLOWED, checked
from app.docsearch.records import Refused
from app.errors import UserError
from tests.conftest import ROOT
from tests.hostile_urls import complaints, urls

CASES = ROOT / "tests/cases"


def reason(url: str) -> str:
    with pytest.raises(Refused) as refused:
        checked(url, ALLOWED)
    return refused.value.reason


@pytest.mark.parametrize(("name", "total"), [("url_guard", 61), ("resolved_ip", 15)])
def test_every_shared_case_is_as_expected(name: str, total: int) -> None:
    assert check_cases(CASES / f"{name}.jsonl") == {"total": total, "as_expected": total, "differing": []}


def test_the_command_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"area": "url_guard", "id": "A", "input": "https://evil.com/", "expected": "allow:https://evil.com/"},
        {"area": "url_guard", "id": "B", "input": "https://docs.python.org/{ab*2}", "expected": "block:domain"},
        {"area": "resolved_ip", "id": "C", "input": "allowed name resolves to [8.8.8.8, ::1]", "expected": "connect"},
        {
            "area": "resolved_ip",
            "id": "D",
            "input": "a name resolves to 8.8.8.8 and 1.1.1.1 (two)",
            "expected": "connect",
        },
    ]
    file = tmp_path / "cases.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["docsearch", "--check-urls", str(file), "--json"])
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["total"], outcome["as_expected"]) == (4, 1)
    assert {row["id"]: row["verdict"] for row in outcome["differing"]} == {
        "A": "block:domain",
        "B": "allow:https://docs.python.org/abab",
        "C": "block:ip",
    }
    main(["docsearch", "--check-urls", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A: block:domain, expected allow:https://evil.com/"
    assert lines[-1] == "docsearch: 1 of 4 cases as expected"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "line 1 is not a case"),
        ('{"area": "text", "id": 1, "input": "", "expected": ""}', "area 'text'"),
        ("", "no"),
    ],
)
def test_a_file_that_holds_no_case_is_explained(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(line)
    with pytest.raises(UserError, match=words):
        check_cases(file)


@pytest.mark.parametrize(
    ("url", "rebuilt"),
    [
        ("https://docs.python.org", "https://docs.python.org/"),
        ("HTTPS://docs.python.org:443/3/", "https://docs.python.org/3/"),
        ("https://docs.python.org./3/", "https://docs.python.org/3/"),
        ("https://docs.python.org?q=a%20b&c=%2F%25", "https://docs.python.org/?q=a%20b&c=%2F%25"),
        ("https://docs.python.org/3/#json.dumps", "https://docs.python.org/3/"),
        ("https://docs.python.org/a%20b/.../x..y/%7E", "https://docs.python.org/a%20b/.../x..y/%7E"),
    ],
)
def test_what_is_allowed_is_put_together_anew(url: str, rebuilt: str) -> None:
    assert checked(url, ALLOWED) == rebuilt
    assert checked(rebuilt, ALLOWED) == rebuilt


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "syntax"),
        ("https://", "syntax"),
        ("https://docs.python.org/\n", "syntax"),
        ("https://docs.python.org/a b", "syntax"),
        ("https://docs.python.org/\\..\\", "syntax"),
        ("https://docs.python.org@evil.com/", "syntax"),
        ("https://[::1]/", "syntax"),
        ("https://docs.python.org:443:443/", "syntax"),
        ("https://docs.python.org../", "label"),
        ("https://docs-.python.org/", "label"),
        ("https://xn--docs-9na.python.org/", "label"),
        ("https://xn--e1afmkfd.readthedocs.io/", "label"),
        (f"https://{'a' * 64}.readthedocs.io/", "label"),
        (f"https://{'a.' * 200}readthedocs.io/", "label"),
        ("https://2130706433/", "ip_literal"),
        ("https://0177.0.0.1/", "ip_literal"),
        ("https://docs.python.org.0x7f/", "ip_literal"),
        ("https://127.0.0.1./", "ip_literal"),
        ("https://localhost/", "domain"),
        ("https://metadata.google.internal/", "domain"),
        ("https://evil.readthedocs.io/", "domain"),
        ("https://api.stackexchange.com/", "domain"),
        ("https://docs.python.org/..", "dot_segment"),
        ("https://docs.python.org/a/./b", "dot_segment"),
        ("https://docs.python.org/a/.%2E/b", "dot_segment"),
        ("https://docs.python.org/a/..;x/b", "dot_segment"),
        ("https://docs.python.org/a%2fb", "encoded_separator"),
        ("https://docs.python.org/a%5Cb", "encoded_separator"),
        ("https://docs.python.org/%00", "encoded_separator"),
        ("https://docs.python.org/?q=%0d%0aHost:x", "encoded_separator"),
        ("https://docs.python.org/?q=%", "bad_percent"),
        ("https://docs.python.org/%4", "bad_percent"),
        ("https://docs.python.org/\ud800", "non_ascii"),
        ("https://docs.python.org/" + "a" * 2025, "too_long"),
    ],
)
def test_each_reason_has_its_word(url: str, word: str) -> None:
    assert reason(url) == word


def test_the_longest_url_is_2048_characters() -> None:
    assert len(checked("https://docs.python.org/" + "a" * 2024, ALLOWED)) == 2048


def test_api_hosts_are_there_only_for_those_that_ask_for_them() -> None:
    asked = ALLOWED.with_endpoints(["api.stackexchange.com"])
    assert checked("https://api.stackexchange.com/2.3/", asked) and checked("https://docs.python.org/", asked)
    assert reason("https://api.stackexchange.com/2.3/") == "domain"


def test_two_thousand_hostile_urls_leave_the_list_for_no_parser() -> None:
    allowed, found = complaints(urls(random.Random(7), 2000))
    assert not found
    assert 200 < allowed < 1800, "the generator makes too few or too many that are allowed"


def test_the_fuzz_finds_a_gate_that_parses_and_passes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with the gate that many programs have, it does."""
    from urllib.parse import urlsplit

    def naive(url: str, allowed: gate.Allowed) -> str:
        try:
            host = urlsplit(url.strip()).hostname or ""
        except ValueError:
            raise Refused("syntax") from None
        if not allowed.holds(host):
            raise Refused("domain")
        return url

    monkeypatch.setattr("tests.hostile_urls.checked", naive)
    _, found = complaints(urls(random.Random(7), 2000))
    assert len(found) > 5


def blocked(address: str) -> bool:
    try:
        return refuse_unless_public([address]) != address
    except Refused as refused:
        assert refused.reason == "ip"
        return True


EDGES = """
0.0.0.0 0.255.255.255 9.255.255.255 10.0.0.0 10.255.255.255 11.0.0.0 100.63.255.255 100.64.0.0 100.127.255.255
100.128.0.0 126.255.255.255 127.0.0.0 127.255.255.255 128.0.0.0 169.253.255.255 169.254.0.0 169.254.255.255
169.255.0.0 172.15.255.255 172.16.0.0 172.31.255.255 172.32.0.0 191.255.255.255 192.0.0.0 192.0.0.9 192.0.2.1
192.88.99.1 192.167.255.255 192.168.0.0 192.168.255.255 192.169.0.0 198.17.255.255 198.18.0.0 198.19.255.255
198.20.0.0 198.51.100.7 203.0.113.7 223.255.255.255 224.0.0.0 239.255.255.255 240.0.0.0 255.255.255.255 8.8.8.8
151.101.1.69 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b::a00:1
64:ff9b:1::1 100::1 2001::1 2001:0:7f00:1:: 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a00:1::
2002:808:808:: 3fff::1 3fff:fff::1 5f00::1 fc00::1 fdff::1 fe80::1 fec0::1 ff02::1 2606:4700:4700::1111
2a04:4e42::223 2001:4860:4860::8888 4000::1 1fff::1""".split()


@pytest.mark.parametrize("address", EDGES)
def test_what_the_second_opinion_blocks_is_blocked_here_too(address: str) -> None:
    if ssrfguard.DEFAULT_DENIED.classify(ipaddress.ip_address(address)).blocked:
        assert blocked(address)


def test_thousands_of_random_addresses_are_judged_as_by_the_second_opinion() -> None:
    random_numbers = random.Random(5)
    stricter = set()
    for _ in range(3000):
        four = ipaddress.IPv4Address(random_numbers.getrandbits(32))
        six = ipaddress.IPv6Address(random_numbers.getrandbits(128))
        near = ipaddress.IPv6Address((0x2001 << 112) | random_numbers.getrandbits(112))
        for address in (four, six, near):
            theirs = ssrfguard.DEFAULT_DENIED.classify(address).blocked
            assert blocked(str(address)) or not theirs, address
            if blocked(str(address)) and not theirs:
                stricter.add(address)
    web, *special = map(ipaddress.ip_network, ("2000::/3", "2001::/23", "2002::/16"))
    assert all(address not in web or any(address in block for block in special) for address in stricter)


@pytest.mark.parametrize(
    "address", "8.8.8.8 1.1.1.1 151.101.1.69 172.32.0.1 2606:4700:4700::1111 2a04:4e42::223".split()
)
def test_public_addresses_are_connected_to(address: str) -> None:
    assert refuse_unless_public([address]) == address


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "127.1", "0x7f.1", "2130706433", "08.8.8.8", "8.8.8.8 ", "fe80::1%eth0", "2606::1%1", "[::1]"],
)
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    assert blocked(address)


def test_one_bad_answer_spoils_the_good_ones_and_none_is_bad_too() -> None:
    for answers in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "::ffff:8.8.8.8"], []):
        with pytest.raises(Refused, match="ip"):
            refuse_unless_public(answers)
    assert refuse_unless_public(["8.8.8.8", "1.1.1.1"]) == "8.8.8.8"
