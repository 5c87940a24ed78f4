"""Each case of tests/cases has a test that bears its number, or stands here with the part that it belongs to."""

import json
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

ELSEWHERE = {
    "P-5": "the search: its cache",
    "T-10": "the agent loop: how results are marked",
    "T-11": "the agent loop: what results may change",
    "T-13": "the search: what a query may hold",
    "T-14": "the search: which results are shown",
    "T-15": "the search: which results are shown",
}
TESTS = "\n".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
NUMBERS = {
    f"{kind.upper()}-{number}"
    for name in re.findall(r"def (test_[a-z]_\w+)", TESTS)
    for kind, number in re.findall(r"(?<=_)([npt])_(\d+)(?=_)", name)
}


@pytest.mark.parametrize("area", ["fetch", "policy", "text"])
def test_each_case_has_its_test(area: str) -> None:
    ids = [json.loads(line)["id"] for line in (ROOT / f"tests/cases/{area}.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids)) > 3
    assert [case for case in ids if case not in NUMBERS and case not in ELSEWHERE] == []
