"""Check files of URLs and of resolved addresses against the guard: `python -m app docsearch --check-urls FILE`.

A case is a JSON line {"area", "id", "input", "expected"}. Area `url_guard`: `input` is a URL, in which {a*3000} stands
for 3,000 times a; `expected` is "allow:" and the rebuilt URL, or "block:" and the reason. Area `resolved_ip`: `input`
ends in "resolves to" and addresses; `expected` is "connect" or "block:ip". No name is resolved and nothing is connected
to.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from app.docsearch.addresses import refuse_unless_public
from app.docsearch.gate import ALLOWED, checked
from app.docsearch.records import Refused
from app.errors import UserError
from app.files.table_rows import read_lines

_REPEATED = re.compile(r"\{([^{}*]+)\*(\d{1,6})\}")
_RESOLVED = re.compile(r".*\bresolves to\b", re.S)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    id: str
    area: str
    input: str
    expected: str


def check_cases(path: Path) -> dict[str, Any]:
    """{"total", "as_expected", "differing": [{"id", "expected", "verdict"}]}. Raises UserError as `read_cases` does."""
    cases = read_cases(path)
    verdicts = [(case, _AREAS[case.area](case.input)) for case in cases]
    differing = [
        {"id": case.id, "expected": case.expected, "verdict": verdict}
        for case, verdict in verdicts
        if verdict != case.expected
    ]
    return {"total": len(cases), "as_expected": len(cases) - len(differing), "differing": differing}


def read_cases(path: Path) -> list[Case]:
    """Raises UserError naming the line that is not a case."""
    cases = []
    for number, row in read_lines(path, "--check-urls"):
        try:
            case = Case(**{key: str(row[key]) for key in ("id", "area", "input", "expected")})
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is not a case ({type(error).__name__}: {error}): give one JSON object with "
                "area, id, input and expected"
            ) from None
        if case.area not in _AREAS:
            raise UserError(
                f"{path}, line {number}: area {case.area!r} can't be checked here: give cases of {' or '.join(_AREAS)}"
            )
        cases.append(case)
    if not cases:
        raise UserError(f"{path} holds no case: give a file of JSON lines with area, id, input and expected")
    return cases


def _url_verdict(text: str) -> str:
    url = _REPEATED.sub(lambda found: found[1] * int(found[2]), text)
    try:
        return f"allow:{checked(url, ALLOWED)}"
    except Refused as refused:
        return f"block:{refused.reason}"


def _address_verdict(text: str) -> str:
    answers = re.sub(r"\([^()]*\)", " ", _RESOLVED.sub("", text))
    words = re.split(r"[\s,;\[\]]+|\b(?:and|then|plus)\b", answers)
    try:
        refuse_unless_public([word.strip("'\"") for word in words if word])
    except Refused as refused:
        return f"block:{refused.reason}"
    return "connect"


_AREAS = {"url_guard": _url_verdict, "resolved_ip": _address_verdict}
