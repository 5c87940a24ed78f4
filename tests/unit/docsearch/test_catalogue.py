"""Each case of tests/cases has a test that bears its number; those of budget.jsonl are run by test_budget.py."""

import json
import re

import pytest

from tests.conftest import ROOT

NUMBERS = {
    f"{kind.upper()}-{number}"
    for folder in ("unit/docsearch", "unit/serving", "e2e")
    for path in (ROOT / "tests" / folder).glob("test_*.py")
    for name in re.findall(r"def (test_[a-z]_?\d\w+)", path.read_text())
    for kind, number in re.findall(r"(?<=_)([nptv])_?(\d+)(?=_)", name)
}


@pytest.mark.parametrize("area", ["fetch", "policy", "serving", "text"])
def test_each_case_has_its_test(area: str) -> None:
    ids = [json.loads(line)["id"] for line in (ROOT / f"tests/cases/{area}.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids)) > 3
    assert [case for case in ids if case not in NUMBERS] == []
