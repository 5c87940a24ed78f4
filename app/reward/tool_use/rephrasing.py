"""Requests said anew by a model: those put together from docstrings list their arguments, which people do not.

A wording is taken where nothing of the call was lost: each value is still there, no number came in, and it is one
paragraph of about the same length. Whether it still asks for the same thing is not judged. Requests that leave a value
out or say it otherwise than it is written, searches and small talk stay as they are, and so do truth values, which have
no words of their own to look for.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.prompting.protocols import Message
from app.reward.tool_use.records import Form, ToolProblem

FORMS: tuple[Form, ...] = ("simple", "multiple", "parallel", "parallel_multiple", "irrelevant")
SHORTEST, LONGEST = 0.4, 1.6
"""Characters of a wording, in those of its request."""
ASKED = (
    "Say this request in your own words, as somebody would to an assistant in a conversation: one natural sentence or "
    "two, with the values worked into them. Keep each value exactly as it is written, add none, and answer nothing. "
    "Reply with the new request alone.\n\n"
)
EXAMPLES = (
    (
        "Wrap a paragraph. The width is 64 and the text is \"sunday morning\".",
        "\"sunday morning\" is too wide for my column. Can you wrap it so that no line is longer than 64?",
    ),
    (
        "I'd like to compute what a deposit grows to, using 1200 as the principal, 3.5 as the rate and 9 as the years.",
        "If I put 1200 into an account that pays 3.5 percent, how much will be there after 9 years?",
    ),
    (
        'Please make a thumbnail of an image file. Parameters: path="images/cat.png", max_width=320.',
        "Make me a thumbnail of images/cat.png that is at most 320 wide.",
    ),
    (
        "Let's look up an opening hour two times: (1) the shop is 'Graz' and the day is monday; (2) the shop is 'Linz' "
        "and the day is friday.",
        "When does the shop in Graz open on monday, and the one in Linz on friday?",
    ),
)  # fmt: skip
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_PLACE = re.compile(r"\(\d\) ")
"""Of a call among several: "(1) the shop is 'Graz'; (2) ..."."""
_QUOTED = re.compile(r'"([^"\n]+)"|(?<!\w)\'([^\'\n]+)\'(?!\w)')
_LISTS_ARGUMENTS = re.compile(r"\bparameters?\b|\barguments?\b|\w=\S", re.IGNORECASE)


def can_be_said_anew(problem: ToolProblem) -> bool:
    """Whether each value of its request can be looked for in another wording."""
    return problem.form in FORMS and not any(isinstance(value, bool) for value in _values(problem))


def rephrasing_turns(problem: ToolProblem) -> list[Message]:
    """The dialogue in which a model is asked for another wording."""
    turns: list[Message] = []
    for request, wording in EXAMPLES:
        turns += [{"role": "user", "content": ASKED + request}, {"role": "assistant", "content": wording}]
    return [*turns, {"role": "user", "content": ASKED + problem.problem.prompt}]


def what_is_wrong(problem: ToolProblem, wording: str) -> str:
    """Why a wording is not taken; empty where it is."""
    request = problem.problem.prompt
    if "\n" in wording or not SHORTEST * len(request) <= len(wording) <= LONGEST * len(request):
        return "length"
    if _LISTS_ARGUMENTS.search(wording):
        return "lists its arguments"
    said = _PLACE.sub("", request)
    quoted = [one or other for one, other in _QUOTED.findall(said)]
    told = [text for value in _values(problem) for text in _texts(value)]
    numbers = _NUMBER.findall(said)
    found = set(_NUMBER.findall(wording))
    if any(number not in found for number in numbers) or not all(_is_said(one, wording) for one in (*quoted, *told)):
        return "a value is missing"
    if not found <= {*numbers, *(number for text in (*quoted, *told) for number in _NUMBER.findall(text))}:
        return "a number that was not said"
    return "the same words" if wording == request else ""


def said_anew(problem: ToolProblem, wording: str) -> ToolProblem:
    """The problem with another wording of its request."""
    *before, last = problem.turns
    assert last["content"] == problem.problem.prompt, "the request is the last turn of these forms"
    return dataclasses.replace(
        problem,
        problem=dataclasses.replace(problem.problem, prompt=wording),
        turns=(*before, {**last, "content": wording}),
    )


def _values(problem: ToolProblem) -> Iterator[Any]:
    """The values that its calls are to have."""
    tests: Mapping[str, Any] = json.loads(problem.problem.tests)
    for call in tests.get("calls", ()):
        for parameter in call["parameters"].values():
            if "" not in parameter["values"]:  # else it was not said
                yield from parameter["values"]


def _is_said(text: str, wording: str) -> bool:
    """Whether it is there in words of its own: "art" is not in "start"."""
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", wording) is not None


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [str(value)]
