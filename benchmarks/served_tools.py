"""Tool use as the served agent has it: BFCL's problems asked of a running server by the openai client.

    python -m app serve --run DIR ...
    python -m benchmarks.served_tools --out OUT --url http://127.0.0.1:8000/v1 --key KEY --model grm
        --tooluse BFCL_FOLDER [--problems 400] [--choice auto] [--beside RESULT]

What a reply calls is what the client gets as `tool_calls`: a call that stays text is none. Compared is as the suite
`tooluse` does. Names that OpenAI's protocol does not allow (math.sum) are sent with "_" and read back. RESULT:
result.json of the same model and suite as `evaluate` or `benchmarks.sft_arms measure` wrote it, or another of this
script's files, for the paired difference by category. One JSON line; OUT/served-MODEL-CHOICE.json has the rates by
problem. A request that the server refuses counts as wrong and is told. Limit: the problems of `search_docs` are left
out, since there the server's own tool answers.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openai

from app.evaluation.suites.registry import get_suite
from app.evaluation.suites.tooluse import dialogue
from app.files.json_files import read_json, write_json
from app.prompting.tool_calls import Call, call_text
from app.records import Problem, Status
from benchmarks.tool_arms import compared, groups_of

AT_ONCE = 64
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_-]")


async def asked(arguments: argparse.Namespace, problems: Sequence[Problem]) -> list[tuple[str, str, str]]:
    """Of each problem the calls as a model would write them, the text beside them, and why there is neither."""
    client = openai.AsyncOpenAI(base_url=arguments.url, api_key=arguments.key, max_retries=2, timeout=600)
    free = asyncio.Semaphore(AT_ONCE)

    async def one(problem: Problem) -> tuple[str, str, str]:
        tools = json.loads(problem.tools)
        names = {_FORBIDDEN.sub("_", tool["function"]["name"]): tool["function"]["name"] for tool in tools}
        for tool in tools:
            tool["function"]["name"] = _FORBIDDEN.sub("_", tool["function"]["name"])
        request: dict[str, Any] = {"model": arguments.model, "messages": dialogue(problem), "tools": tools}
        async with free:
            try:
                got = await client.chat.completions.create(
                    **request, tool_choice=arguments.choice, temperature=0, max_tokens=arguments.new_tokens
                )
            except openai.APIError as error:
                return "", "", f"{type(error).__name__}: {error}"[:200]
        message = got.choices[0].message
        text = message.content or ""
        try:
            calls = [read_call(one.function, names) for one in message.tool_calls or ()]
        except ValueError as error:
            return "", text, f"arguments that are no JSON object: {error}"[:200]
        return call_text(calls) if calls else "", text, ""

    return list(await asyncio.gather(*map(one, problems)))


def read_call(function: Any, names: dict[str, str]) -> Call:
    arguments = json.loads(function.arguments)
    if not isinstance(arguments, dict):
        raise ValueError(function.arguments[:100])
    return Call(name=names.get(function.name, function.name), arguments=arguments)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    suite = get_suite("tooluse")
    found = [task.problem for task in suite.load(arguments.tooluse) if task.problem.source == "bfcl"]
    problems = found[:: max(1, len(found) // arguments.problems)] if arguments.problems else found
    start = time.perf_counter()
    replies = asyncio.run(asked(arguments, problems))
    seconds = time.perf_counter() - start
    rates, failed = dict[str, float](), Counter[str]()
    for problem, (reply, _, why) in zip(problems, replies, strict=True):
        failed.update([why] if why else [])
        passed = not why and suite.verdict(problem, "chat", [reply]).status == Status.PASSED
        rates[problem.id] = float(passed)
    name = f"served-{arguments.model}-{arguments.choice}".replace("/", "-")
    texts = {one.id: (calls, text) for one, (calls, text, _) in zip(problems, replies, strict=True)}
    write_json(arguments.out / f"{name}.json", {"pass_rates": rates, "replies": texts})
    others = read_json(arguments.beside)["pass_rates"] if arguments.beside else rates
    groups = defaultdict(list, {"all": list(rates)})
    for problem_id in rates:
        for group in groups_of(problem_id, {}):
            groups[group].append(problem_id)
    return {
        "model": arguments.model,
        "choice": arguments.choice,
        "problems": len(problems),
        "seconds": round(seconds, 1),
        "failed": dict(failed.most_common(5)),
        "by_category": {group: compared(held, others, rates) for group, held in sorted(groups.items())},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", required=True, help="one of the server's names")
    parser.add_argument("--tooluse", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--problems", type=int, default=0, help="spread evenly over all; all of them if left out")
    parser.add_argument("--choice", choices=("auto", "required"), default="auto")
    parser.add_argument("--new-tokens", type=int, default=512)
    parser.add_argument("--beside", type=Path, metavar="RESULT")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(json.dumps({"benchmark": "served_tools", **measured(arguments)}), flush=True)


if __name__ == "__main__":
    main()
