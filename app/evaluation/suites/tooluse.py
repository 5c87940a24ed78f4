"""Function calling, scored by structure: choose the tool, fill its arguments, or decline.

The single-turn categories of the Berkeley Function Calling Leaderboard (BFCL, ShishirPatil/gorilla, Apache-2.0), then
the problems of `search_docs` as one more category. Nothing is run. `call_matching` says how calls are compared.
Limits: BFCL's executable, multi-turn, memory and web categories are left out. Two problems of BFCL can't be passed by
anybody, because their possible answers name a parameter that the function does not have (live_multiple_862-181-3 and
live_multiple_964-207-0); they are kept, as BFCL keeps them, and have no canonical solution. In two more (
live_simple_106-63-0 and live_simple_112-68-0) parameters have no possible value at all; here this means the empty list.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.suites.call_matching import (
    CALLED,
    DID_NOT_CALL,
    WRONG_FUNCTION,
    Expected,
    mismatch_of_calls,
    pick,
    same_name,
)
from app.evaluation.suites.search_docs import SearchDocs
from app.evaluation.suites.source_values import write_source
from app.evaluation.suites.suite import Suite, structural_verdict
from app.problem_sets.problem_files import hub_rows, rows
from app.problem_sets.task import CallTask, Task
from app.prompting.protocols import Message
from app.prompting.tool_calls import Call, MalformedCallError, call_text, parse_calls
from app.prompting.tool_prompts import STOP, calls_prompt
from app.records import Problem, ProblemStyle, Status, Verdict

HUB = "gorilla-llm/Berkeley-Function-Calling-Leaderboard"
CATEGORIES = (
    "simple_python simple_java simple_javascript multiple parallel parallel_multiple irrelevance live_simple "
    "live_multiple live_parallel live_parallel_multiple live_irrelevance live_relevance"
).split()
_OLD_NAMES = {"simple_python": "simple", "simple_java": "java", "simple_javascript": "javascript"}
"""Names of categories in version 3 of BFCL, which is what the Hub has; the others had the same."""
_NO_CALL = ("irrelevance", "live_irrelevance")
_SOME_CALL = ("live_relevance",)
_LANGUAGES = {"simple_java": "java", "simple_javascript": "javascript"}
_TITLES = {"java": "Java", "javascript": "JavaScript"}
_KINDS = {
    name: kind
    for kind, names in {
        "string": "string String char",
        "integer": "integer byte short long Bigint",
        "number": "number float double",
        "boolean": "boolean bool Boolean",
        "array": "array list tuple Array ArrayList Queue Stack Set",
        "object": "dict object HashMap Hashtable",
    }.items()
    for name in names.split()
}
"""BFCL's types as JSON schema's; every other one (any) says nothing about the type."""
DECLINED = "None of the functions fits this question."


class ToolUse(Suite):
    """BFCL and, as its last category, the documentation search."""

    name = "tooluse"
    place = f"the Hub data set {HUB} (Apache-2.0) and this repository (MIT)"
    stop = STOP

    def __init__(self) -> None:
        self._search = SearchDocs()

    def load(self, path: Path | None) -> list[Task]:
        if path is not None and not path.is_dir():
            raise UserError(
                f"--problems {path} is no folder: give the one of BFCL's files (BFCL_v4_simple_python.jsonl and so on, "
                "possible_answer beside them), or leave it out to fetch them from the Hub"
            )
        tasks = [task for category in CATEGORIES for task in _category(category, path)]
        ours = self._search.load(None)
        return tasks + [
            dataclasses.replace(task, problem=dataclasses.replace(task.problem, difficulty=self._search.name))
            for task in ours
        ]

    def chat(self, problem: Problem, replies: Sequence[str]) -> list[Message] | None:
        if self._is_search(problem):
            return self._search.chat(problem, replies)
        return None if replies else dialogue(problem)

    def completion(self, problem: Problem, replies: Sequence[str]) -> str | None:
        if self._is_search(problem):
            return self._search.completion(problem, replies)
        return None if replies else calls_prompt(json.loads(problem.tools), dialogue(problem))

    def verdict(self, problem: Problem, protocol: str, replies: Sequence[str]) -> Verdict:
        if self._is_search(problem):
            return self._search.verdict(problem, protocol, replies)
        try:
            calls = parse_calls(replies[0] if replies else "")
        except MalformedCallError as error:
            return structural_verdict(problem, Status.PROTOCOL, str(error))
        fault = _fault(calls, json.loads(problem.tests), json.loads(problem.tools))
        return structural_verdict(problem, Status.WRONG_ANSWER if fault else Status.PASSED, fault or "")

    def _is_search(self, problem: Problem) -> bool:
        return problem.source == self._search.name


def dialogue(problem: Problem) -> list[Message]:
    """The turns of a problem: its prompt is a user's question, or the JSON of several turns."""
    try:
        turns = json.loads(problem.prompt)
    except (ValueError, RecursionError):
        turns = None
    if type(turns) is list and turns and all(type(turn) is dict and {"role", "content"} <= set(turn) for turn in turns):
        return turns
    return [{"role": "user", "content": problem.prompt}]


def tool_schema(function: Mapping[str, Any], language: str = "python") -> dict[str, Any]:
    """BFCL's description of a function as an OpenAI tool.

    Values of Java and JavaScript are asked for as source in a string, as BFCL asks for them.
    """
    parameters = _json_schema(function["parameters"])
    if language != "python":
        properties = function["parameters"]["properties"]
        parameters["properties"] = {name: _source_schema(entry, language) for name, entry in properties.items()}
    return {
        "type": "function",
        "function": {"name": function["name"], "description": function["description"], "parameters": parameters},
    }


def _json_schema(entry: Mapping[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in entry.items() if key not in ("type", "optional", "properties", "items")}
    kind = _KINDS.get(entry.get("type", ""))
    if kind:
        schema = {"type": kind, **schema}
    if "properties" in entry:
        schema["properties"] = {name: _json_schema(inner) for name, inner in entry["properties"].items()}
    if "items" in entry:
        schema["items"] = _json_schema(entry["items"])
    return schema


def _source_schema(entry: Mapping[str, Any], language: str) -> dict[str, Any]:
    kind = entry["type"] or "any"
    what = "value of any type" if kind == "any" else kind
    if "items" in entry:
        what += f" of {entry['items']['type']}"
    schema = {key: value for key, value in entry.items() if key not in ("optional", "properties", "items")}
    hint = f"{_TITLES[language]} {what}, written as {_TITLES[language]} source in a string."
    return {**schema, "type": "string", "description": f"{entry.get('description', '')} {hint}".strip()}


def _category(category: str, folder: Path | None) -> Iterator[Task]:
    answers = {}
    if category not in _NO_CALL + _SOME_CALL:
        answers = {row.get("id"): row for row in _file(category, folder, "possible_answer")}
    for row in _file(category, folder, ""):
        try:
            answer = answers[row["id"]]["ground_truth"] if answers else []
            task = bfcl_task(row, category, answer)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, StopIteration) as error:
            raise UserError(
                f"problem {row.get('id')!r} of BFCL's category {category} can't be read ({type(error).__name__}: "
                f"{error}): give the files as ShishirPatil/gorilla has them, possible_answer of the same version"
            ) from None
        yield task


def _file(category: str, folder: Path | None, inner: str) -> Iterator[dict[str, Any]]:
    old_stem = f"BFCL_v3_{_OLD_NAMES.get(category, category)}"
    if folder is None:
        return hub_rows("tooluse", HUB, "/".join(filter(None, (inner, f"{old_stem}.json"))))
    stems = (f"BFCL_v4_{category}", old_stem)
    names = [stem + ending for stem in stems for ending in (".jsonl", ".json", ".jsonl.gz", ".json.gz")]
    for name in names:
        if (folder / inner / name).is_file():
            return rows(folder / inner / name)
    raise UserError(
        f"--problems {folder} has no {names[0]} in {folder / inner}: a part of BFCL is no score of it, so give all of "
        f"{', '.join(CATEGORIES)}, or leave --problems out to fetch them from the Hub"
    )


def bfcl_task(row: Mapping[str, Any], category: str, answer: Sequence[Mapping[str, Any]]) -> Task:
    """The task of a row of BFCL and its possible answers. Raises KeyError and the like for a row that is none."""
    language = _LANGUAGES.get(category, "python")
    tools = [tool_schema(function, language) for function in row["function"]]
    tests: dict[str, Any] = {"expect": "calls", "language": language}
    if category in _NO_CALL:
        tests = {"expect": "no call"}
    elif category in _SOME_CALL:
        tests = {"expect": "some call"}
    else:
        tests["calls"] = [_expected(row["function"], *next(iter(call.items()))) for call in answer]
    turns = row["question"][0]
    alone = len(turns) == 1 and turns[0]["role"] == "user"
    problem = Problem(
        id=f"bfcl/{row['id']}",
        source="bfcl",
        licence="Apache-2.0",
        prompt=turns[0]["content"] if alone else json.dumps(turns, ensure_ascii=False),
        entry_point="",
        tests=json.dumps(tests, ensure_ascii=False),
        style=ProblemStyle.CALLS,
        tools=json.dumps(tools, ensure_ascii=False),
        difficulty=category,
    )
    reply = _canonical(tests, tools)
    fault = _fault(parse_calls(reply), tests, tools)
    return CallTask(problem=problem, canonical_solution="" if fault else reply)


def _expected(functions: list[dict[str, Any]], name: str, answer: dict[str, list[Any]]) -> Expected:
    parameters = next(function for function in functions if function["name"] == name)["parameters"]
    return {
        "name": name,
        "required": parameters.get("required", []),
        "parameters": {
            parameter: {
                "kind": _KINDS.get(schema.get("type", ""), "any"),
                "items": _KINDS.get(schema.get("items", {}).get("type", ""), "any"),
                "values": values or [[]],
                "known": parameter in parameters["properties"],
            }
            for parameter, values in answer.items()
            for schema in [parameters["properties"].get(parameter, {})]
        },
    }


def _canonical(tests: dict[str, Any], tools: list[dict[str, Any]]) -> str:
    if tests["expect"] == "no call":
        return DECLINED
    if tests["expect"] == "some call":
        return call_text([Call(name=tools[0]["function"]["name"], arguments={})])
    language = tests["language"]
    calls = []
    for wanted in tests["calls"]:
        arguments = pick(wanted)
        if language != "python":
            arguments = {name: write_source(value, language) for name, value in arguments.items()}
        calls.append(Call(name=wanted["name"], arguments=arguments))
    return call_text(calls)


def _fault(calls: Sequence[Call], tests: dict[str, Any], tools: list[dict[str, Any]]) -> str | None:
    """The rule that the calls break, and how."""
    if tests["expect"] == "calls":
        return mismatch_of_calls(calls, tests["calls"], tests["language"])
    if tests["expect"] == "no call":
        return f"{CALLED}: {calls[0].name[:120]!r}" if calls else None
    if not calls:
        return f"{DID_NOT_CALL}: one of the functions fits"
    offered = [tool["function"]["name"] for tool in tools]
    unknown = [call.name for call in calls if not any(same_name(call.name, name) for name in offered)]
    return f"{WRONG_FUNCTION}: {unknown[0][:120]!r} is not offered" if unknown else None
