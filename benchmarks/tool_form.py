"""Whether a model's tool calls can be read at all, and what the form of asking gives it: the untouched model, greedy.

    python -m benchmarks.tool_form --out OUT --model FOLDER --gpu [--problems 200] [--hows template,shots]
    python -m benchmarks.tool_form --out OUT --model FOLDER --gpu --tooluse BFCL_FOLDER --problems 4000 --scores

Asked are problems of OUT/rows/validation.jsonl (`benchmarks.tool_arms rows`), or BFCL's, in four ways (--hows):

    template     in the model's own chat template, with the tools: as `tooluse` is measured in a dialogue
    suite        as `tooluse` asks a base model: plain text with two worked examples
    shots        the template, with the same two examples in the system turn
    constrained  the template, and while it decodes held to a JSON list of calls by the tools' schemas, which may be
                 empty (vLLM's structured outputs)

Told is what can be read, apart for problems that want a call and that want none, and of rows of ours what is exact,
paired with the first way. Of BFCL's problems right answers are counted with --scores alone, because a test suite is
opened once for a claim. One JSON line a way; the replies lie in OUT/form-*.json. Limit: two examples of one function.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.evaluation.suites.registry import get_suite
from app.evaluation.suites.tooluse import dialogue
from app.files.json_files import write_json
from app.models.base import ensure_model, load_tokenizer
from app.prompting.protocols import Message, begin_text, chat_prompt
from app.prompting.tool_calls import Call, MalformedCallError, call_text, parse_calls
from app.prompting.tool_prompts import STOP, calls_prompt
from app.records import Generator, Problem, Prompt, Sampling
from app.reward.tool_use.judge import graded
from app.reward.tool_use.records import read_problems
from app.settings import Profile
from benchmarks.reward import profile_of
from benchmarks.sft_arms import engine_of
from benchmarks.tool_arms import compared

HOWS = ("template", "suite", "shots", "constrained")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A problem as `form` asks it."""

    problem: Problem
    turns: Sequence[Message]
    tools: list[dict[str, Any]]


EXAMPLE_TOOLS = (
    '{"name": "convert_currency", "description": "Convert an amount of money.", "parameters": {"amount": "number", '
    '"source": "string", "target": "string"}}'
)
EXAMPLE_CALL = call_text([Call(name="convert_currency", arguments={"amount": 250, "source": "CHF", "target": "NOK"})])
SHOTS = (
    "Two examples, with another function at hand:\n"
    f"{EXAMPLE_TOOLS}\n\nUser: How many Norwegian kroner are 250 Swiss francs?\nAssistant: {EXAMPLE_CALL}\n\n"
    "User: Which river flows through Vienna?\nAssistant: The Danube."
)
LISTED = 'Answer with a JSON list of calls, each {"name", "arguments"}; the list is empty where no function fits.'


def form(arguments: argparse.Namespace) -> None:
    profile = profile_of(arguments)
    tokenizer = load_tokenizer(ensure_model(profile.model))
    asked, shows_scores = asked_of(arguments)
    schemas = {one.problem.id: calls_schema(one.tools) for one in asked}
    engine: Any = engine_of(profile)
    if "constrained" in arguments.hows:
        engine = constrained_engine(profile, schemas)
    rates: dict[str, dict[str, float]] = {}
    for how in arguments.hows:
        prompts = [Prompt(id=one.problem.id, text=prompt_of(tokenizer, one, how)) for one in asked]
        sampling = Sampling(max_new_tokens=arguments.new_tokens, stop=STOP if how == "suite" else ())
        if hasattr(engine, "is_constrained"):
            engine.is_constrained = how == "constrained"
        start = time.perf_counter()
        drafts = engine.generate(prompts, sampling)
        seconds = round(time.perf_counter() - start, 1)
        replies = {one.problem.id: draft.text for one, draft in zip(asked, drafts, strict=True)}
        told: dict[str, Any] = shapes(asked, replies)
        if shows_scores:
            rates[how] = {one.problem.id: score(one, replies) for one in asked}
            told |= {"exact": by_category(asked, rates[arguments.hows[0]], rates[how])}
        tokens, cut = (
            sum(draft.num_tokens for draft in drafts),
            sum(draft.finish_reason == "length" for draft in drafts),
        )
        line = {"how": how, "problems": len(asked), "seconds": seconds, "tokens": tokens, "cut": cut, **told}
        print(json.dumps({"benchmark": "tool_form", **line}), flush=True)
        write_json(arguments.out / f"form-{how}.json", {"line": line, "replies": replies})


def score(one: Asked, replies: Mapping[str, str]) -> float:
    return float(graded(replies[one.problem.id], json.loads(one.problem.tests)).points == 1)


def shapes(asked: Sequence[Asked], replies: Mapping[str, str]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in asked:
        wants_none = json.loads(one.problem.tests)["expect"] == "no call"
        kind = "no call wanted" if wants_none else "call wanted"
        counts[kind][shape_of(replies[one.problem.id], one.tools)] += 1
    return {kind: dict(held.most_common()) for kind, held in counts.items()}


def asked_of(arguments: argparse.Namespace) -> tuple[list[Asked], bool]:
    """What is asked, and whether its right answers may be counted."""
    if arguments.tooluse:
        found = [task.problem for task in get_suite("tooluse").load(arguments.tooluse)]
        found = [one for one in found if one.source == "bfcl" and json.loads(one.tests)["expect"] != "some call"]
        chosen = found[:: max(1, len(found) // arguments.problems)]
        return [
            Asked(problem=one, turns=dialogue(one), tools=json.loads(one.tools)) for one in chosen
        ], arguments.scores
    ours = [one for one in read_problems(arguments.out / "rows" / "validation.jsonl") if one.problem.tests]
    ours = ours[: arguments.problems]
    return [Asked(problem=one.problem, turns=one.turns, tools=one.tools) for one in ours], True


def prompt_of(tokenizer: Any, one: Asked, how: str) -> str:
    if how == "suite":
        return begin_text(tokenizer) + calls_prompt(one.tools, one.turns)
    turns = list(one.turns)
    if more := {"shots": SHOTS, "constrained": LISTED}.get(how):
        first = [turns.pop(0)["content"]] if turns[0]["role"] == "system" else []
        turns = [{"role": "system", "content": "\n\n".join([*first, more])}, *turns]
    return chat_prompt(tokenizer, turns, tools=one.tools)


def shape_of(reply: str, tools: Sequence[Mapping[str, Any]]) -> str:
    """What can be read of a reply."""
    try:
        calls = parse_calls(reply)
    except MalformedCallError:
        return "malformed"
    if not calls:
        return "words" if reply.strip() else "nothing"
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    for call in calls:
        schema = offered.get(call.name)
        if schema is None:
            return "calls another function"
        if set(schema.get("required", ())) - set(call.arguments) or set(call.arguments) - set(schema["properties"]):
            return "calls with other arguments"
    return "calls as offered" if "<tool_call>" in reply else "calls as offered, without tags"


def calls_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """JSON schema of a list of calls of these tools."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool["function"]["name"]},
                "arguments": {**without_defaults(tool["function"]["parameters"]), "additionalProperties": False},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    return {"type": "array", "items": {"anyOf": calls}}


def without_defaults(schema: Any) -> Any:
    """A schema without what says nothing about form."""
    if isinstance(schema, dict):
        return {key: without_defaults(value) for key, value in schema.items() if key not in ("default", "description")}
    return [without_defaults(one) for one in schema] if isinstance(schema, list) else schema


def constrained_engine(profile: Profile, schemas: Mapping[str, Mapping[str, Any]]) -> Generator:
    """vLLM's engine that may be held to the schema of a problem's tools."""
    from vllm.sampling_params import StructuredOutputsParams

    from app.generation.vllm_engine import VllmEngine

    class Constrained(VllmEngine):
        is_constrained = False

        def _params(self, sampling: Sampling, prompt: Prompt, ids: list[int], sample: int) -> Any:
            params = super()._params(sampling, prompt, ids, sample)
            if self.is_constrained:
                params.structured_outputs = StructuredOutputsParams(json=json.dumps(schemas[prompt.id]))
            return params

    return Constrained(profile.model, profile.generation)


def by_category(asked: Sequence[Asked], base: Mapping[str, float], other: Mapping[str, float]) -> dict[str, Any]:
    groups: dict[str, list[str]] = defaultdict(list)
    for one in asked:
        groups[one.problem.difficulty].append(one.problem.id)
        groups["all"].append(one.problem.id)
    return {name: compared(held, base, other) for name, held in groups.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", metavar="FOLDER", help="SmolLM2's package if left out")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--tooluse", type=Path, metavar="FOLDER", help="BFCL's problems in place of ours")
    parser.add_argument("--scores", action="store_true", help="count BFCL's right answers too")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--hows", type=lambda text: text.split(","), default=list(HOWS), metavar="HOW,HOW")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    form(arguments)


if __name__ == "__main__":
    main()
