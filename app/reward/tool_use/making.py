"""Problems in which tools are called, made of documented functions: the forms of BFCL, and those without a call.

Which function, which values and which words a problem has is drawn by hash, so the same functions and seed give the
same problems. Beside the function that is meant up to three others are offered, those that share words with it first;
never one that might do the same. Split by the function's name (`side_of`): no function, offered or called, is on both
sides.

Limits: requests are put together from docstrings, so they sound alike; values are those of the lists, numbers and
enumerations, never objects; calls of one problem do not depend on one another's results.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from app.corpus.draws import Draws, by_hash, uniform
from app.errors import UserError
from app.evaluation.suites.call_matching import Expected
from app.prompting.protocols import Message
from app.prompting.tool_calls import Call, call_text
from app.reward.tool_use.functions import ToolFunction, content_of
from app.reward.tool_use.names import last_name
from app.reward.tool_use.records import Form, ToolProblem, tool_problem
from app.reward.tool_use.requests import (
    Arguments,
    drawn_arguments,
    label_of,
    request_for,
    request_for_several,
)
from app.reward.tool_use.words import Words, load_words

SHARES: dict[Form, int] = {
    "simple": 16, "multiple": 22, "parallel": 9, "parallel_multiple": 5, "irrelevant": 15, "missing": 5, "chat": 3,
}  # fmt: skip
"""How many of a hundred problems have each form that is made here. Of the others fourteen are `formats`, eleven
`searches`, three of which need none, so that 26 of the hundred want no call."""
MOST_OTHERS = 3
ALIKE, UNLIKE = 0.4, 0.2
"""Shares of words in common: above the first a function might do the same, up to the second it surely does not."""
VALIDATION_SHARE = 0.12
_NO_CALL = {"expect": "no call"}


def side_of(name: str, seed: int) -> str:
    """ "train" or "validation", the same for all functions of one name."""
    return "validation" if uniform(f"{seed}:tools:{last_name(name)}") < VALIDATION_SHARE else "train"


def made_problems(functions: Sequence[ToolFunction], number: int, seed: int) -> list[ToolProblem]:
    """So many problems; fewer where the functions are too few for some forms. Raises UserError where there are none."""
    if not functions:
        raise UserError(
            "none of the functions that were read makes a tool: read more files (--files), or other sources"
        )
    order = sorted(functions, key=lambda one: by_hash(f"{seed}:{one.name}:{one.summary}"))
    maker = _Maker(order, load_words(), seed)
    found = []
    for place, form in enumerate(_forms(number)):
        function = order[place % len(order)]
        if made := maker.problem(function, form, f"{form}/{place}"):
            found.append(made)
    return found


def _forms(number: int) -> list[Form]:
    """The forms in their shares, mixed."""
    total = sum(SHARES.values())
    places = [
        ((turn + 0.5) / count, form)
        for form, share in SHARES.items()
        for count in [max(1, round(number * share / total))]
        for turn in range(count)
    ]
    return [form for _, form in sorted(places)]


class _Maker:
    """The maker of problems of some functions."""

    def __init__(self, functions: Sequence[ToolFunction], words: Words, seed: int) -> None:
        self._functions, self._words, self._seed = functions, words, seed
        self._content = {id(one): content_of(one) for one in functions}
        self._holders: dict[str, list[ToolFunction]] = defaultdict(list)
        for one in functions:
            for word in self._content[id(one)]:
                self._holders[word].append(one)

    def problem(self, function: ToolFunction, form: Form, name: str) -> ToolProblem | None:
        draws = Draws(f"{self._seed}:{name}:{function.name}:{function.summary}")
        match form:
            case "simple":
                return self._called(form, name, draws, [(function, drawn_arguments(function, draws, self._words))], 0)
            case "multiple":
                arguments = drawn_arguments(function, draws, self._words)
                return self._called(form, name, draws, [(function, arguments)], 1 + draws.below(MOST_OTHERS))
            case "parallel":
                return self._parallel(function, name, draws)
            case "parallel_multiple":
                return self._parallel_multiple(function, name, draws)
            case "irrelevant":
                return self._irrelevant(function, name, draws)
            case "missing":
                return self._missing(function, name, draws)
            case "chat":
                return self._chat(function, name, draws)
            case _:
                raise ValueError(f"problems of the form {form} are made by `searches` or `formats`")

    def _called(
        self,
        form: Form,
        name: str,
        draws: Draws,
        calls: Sequence[tuple[ToolFunction, Arguments]],
        others: int,
        request: str = "",
    ) -> ToolProblem:
        """others: how many functions are offered beside those that are called."""
        asked = list({id(function): function for function, _ in calls}.values())
        request = request or request_for(*calls[0], draws, self._words)
        offered = draws.shuffled([*asked, *self._others(asked, others, draws)])
        reply = call_text([Call(name=function.name, arguments=dict(given)) for function, given in calls])
        tests = {"expect": "calls", "language": "python", "calls": [expected(*call) for call in calls]}
        return self._made(form, name, draws, request, offered, reply, tests)

    def _parallel(self, function: ToolFunction, name: str, draws: Draws) -> ToolProblem | None:
        drawn = [drawn_arguments(function, draws, self._words) for _ in range(8)]
        keys = drawn[0].keys()
        different = {repr(sorted(one.items())): one for one in drawn if one.keys() == keys}
        calls = list(different.values())[: 2 + draws.below(3)]
        if len(calls) < 2:
            return None
        request = request_for_several(function, calls, draws, self._words)
        others = draws.below(MOST_OTHERS)
        return self._called("parallel", name, draws, [(function, one) for one in calls], others, request)

    def _parallel_multiple(self, function: ToolFunction, name: str, draws: Draws) -> ToolProblem | None:
        others = self._others([function], 1 + draws.below(2), draws)
        calls = [(one, drawn_arguments(one, draws, self._words)) for one in (function, *others)]
        if len(calls) < 2 or not all(arguments for _, arguments in calls):
            return None
        requests = [_ended(request_for(*call, draws, self._words)) for call in calls]
        rest = " ".join(requests[1:])
        request = draws.one_of(self._words.both).replace("{one}", requests[0]).replace("{two}", rest)
        return self._called("parallel_multiple", name, draws, calls, draws.below(MOST_OTHERS), request)

    def _irrelevant(self, function: ToolFunction, name: str, draws: Draws) -> ToolProblem | None:
        request = request_for(function, drawn_arguments(function, draws, self._words), draws, self._words)
        offered = self._others([function], 1 + draws.below(MOST_OTHERS), draws, most_alike=UNLIKE)
        if not offered:
            return None
        template = draws.one_of(self._words.decline.irrelevant)
        reply = template.format(task=function.task, other=offered[0].task)
        return self._made("irrelevant", name, draws, request, offered, reply, _NO_CALL, besides=[function])

    def _missing(self, function: ToolFunction, name: str, draws: Draws) -> ToolProblem | None:
        """A needed value is not said. It is no truth value and none of an enumeration, which words may imply."""
        free = [one for one in function.needed if one.type.kind != "boolean" and not one.type.members]
        if not free:
            return None
        missing = draws.one_of(free)
        arguments = drawn_arguments(function, draws, self._words)
        said = {key: value for key, value in arguments.items() if key != missing.name}
        request = request_for(function, said, draws, self._words)
        label = label_of(missing, draws)
        reply = draws.one_of(self._words.decline.missing).format(task=function.task, label=label)
        offered = draws.shuffled([function, *self._others([function], draws.below(2), draws)])
        return self._made("missing", name, draws, request, offered, reply, _NO_CALL)

    def _chat(self, function: ToolFunction, name: str, draws: Draws) -> ToolProblem:
        said = draws.one_of(self._words.chat)
        offered = [function, *self._others([function], draws.below(MOST_OTHERS), draws)]
        return self._made("chat", name, draws, said.question, offered, said.answer, _NO_CALL)

    def _made(
        self,
        form: Form,
        name: str,
        draws: Draws,
        request: str,
        offered: Sequence[ToolFunction],
        reply: str,
        tests: Mapping[str, Any],
        besides: Sequence[ToolFunction] = (),
    ) -> ToolProblem:
        """besides: functions that are not offered, but asked for."""
        turns = turns_of(request, draws, self._words)
        origins = list(dict.fromkeys(one.origin for one in (*offered, *besides) if one.origin))
        tools = [one.schema() for one in offered]
        return tool_problem(form, name, turns, tools, reply, tests, origins)

    def _others(
        self, functions: Sequence[ToolFunction], number: int, draws: Draws, *, most_alike: float = ALIKE
    ) -> list[ToolFunction]:
        """Functions to offer beside these: every second time those that are most alike."""
        names = {last_name(one.name) for one in functions}
        near = Counter[int]()
        by_id: dict[int, ToolFunction] = {}
        for function in functions:
            for word in sorted(self._content[id(function)]):
                for other in self._holders[word]:
                    near[id(other)] += 1
                    by_id[id(other)] = other
        ranked = sorted(by_id.values(), key=lambda one: (-near[id(one)], by_hash(f"{one.name} {one.summary}")))
        pool = ranked[:40] if draws.below(2) else []
        pool += [draws.one_of(self._functions) for _ in range(12)]
        found: list[ToolFunction] = []
        for other in pool:
            taken = [*functions, *found]
            if len(found) == number:
                break
            if last_name(other.name) not in names and all(self._alike(other, one) <= most_alike for one in taken):
                names.add(last_name(other.name))
                found.append(other)
        return found

    def _alike(self, one: ToolFunction, other: ToolFunction) -> float:
        return alike(self._content[id(one)], self._content[id(other)])


def alike(ours: frozenset[str], theirs: frozenset[str]) -> float:
    """The share of words (`functions.content_of`) that two functions have in common, of those of the one with fewer."""
    return len(ours & theirs) / max(1, min(len(ours), len(theirs)))


def turns_of(request: str, draws: Draws, words: Words) -> list[Message]:
    """The request, often after a system turn."""
    system = draws.one_of([system.text for system in words.systems for _ in range(system.weight)])
    begun: list[Message] = [{"role": "system", "content": system}] if system else []
    return [*begun, {"role": "user", "content": request}]


def expected(function: ToolFunction, arguments: Arguments) -> Expected:
    """The call that is wanted. A parameter that is not said may be left out, or given with its default; one that is
    said to be its default may be left out too."""
    return {
        "name": function.name,
        "required": [one.name for one in function.needed],
        "parameters": {
            one.name: {
                "kind": one.type.kind,
                "items": one.type.item or "any",
                "values": list(_possible(one.name, one.default, arguments)),
                "known": True,
            }
            for one in function.parameters
        },
    }


def _possible(name: str, default: Any, arguments: Arguments) -> Iterator[Any]:
    if name in arguments:
        yield (given := arguments[name])
        if given == default and type(given) is type(default):
            yield ""
        return
    yield ""
    if default not in (None, ""):
        yield default


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."
