"""Best of n with tests on a card: what the system solves beside the same model's greedy answers, and what it costs.

    python -m benchmarks.hardened_suites make --suite mbpp=FILE --suite leetcode=FILE --tests hardened.jsonl.gz
    python -m benchmarks.best_of --model FOLDER --gpu --out OUT --tests hardened.jsonl.gz
        --suite humaneval=HumanEvalPlus.jsonl.gz --suite leetcode_examples=FILE --suite mbpp=FILE [--drafts 8]

Each problem is asked once greedily and --drafts times at --temperature; examples of the question choose
(`app.best_of`), hidden tests judge. LeetCode is asked with the whole statement, since version 0.2.0 of the data set
leaves the examples out of its question. Examples of MBPP and LeetCode are most of their given tests, so what counts is
`hardened`: given and further tests (`benchmarks.hardened_suites`); for HumanEval it is HumanEval+'s inputs, read from
the release file, and without a file its own tests.

Told, one JSON line a suite and one pooled: pass@1 of the greedy answer and of the system with their paired difference,
by given and by hardened tests; tokens drawn a problem; which stage chose; of the drafts the mean, and the share of
problems that any of them solves (`oracle`, what a perfect choice would come to), both by hardened tests. OUT keeps
drafts as they are drawn and each suite's line, and a run that was ended goes on there. Limits: one seed; the repaired
draft is not among those of the oracle.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from app.best_of.choice import ChosenBy
from app.errors import UserError
from app.evaluation.best_of import PROTOCOL, Chosen, chosen, drawn
from app.evaluation.statistics import compare
from app.evaluation.suites.registry import evenly_spaced, get_suite
from app.evaluation.suites.suite import Suite
from app.files.json_files import read_json, write_json
from app.models.base import ensure_model, load_tokenizer
from app.prompting.protocols import chat_prompt
from app.records import Generator, Problem, Prompt, Sampling, Status
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from benchmarks.hardened_suites import hard_tests
from benchmarks.reward import profile_of
from benchmarks.sft_arms import engine_of, told_of

JUDGED_BY = ("given", "hardened")
Rates = dict[str, float]
"""1 or 0 by problem."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, required=True)
    add("--suite", action="append", required=True, metavar="NAME[=FILE]")
    add("--tests", type=Path, metavar="FILE.jsonl.gz", help="what benchmarks.hardened_suites made")
    add("--model", help="folder of the base; the profile's own if left out")
    add("--profile", default="laptop")
    add("--gpu", action="store_true")
    add("--drafts", type=int, default=8)
    add("--temperature", type=float, default=0.7)
    add("--top-p", type=float, default=0.95)
    add("--new-tokens", type=int, default=640)
    add("--problems", type=int, help="of each suite, evenly spaced; all if left out")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    profile = profile_of(arguments)
    tokenizer = load_tokenizer(ensure_model(profile.model))
    hardened = hard_tests(arguments.tests) if arguments.tests else {}
    lines: dict[str, dict[str, Any]] = {}
    generator: Generator | None = None
    with closing(LocalJudges(profile.sandbox, confinement())) as judges:
        for text in arguments.suite:
            name, _, path = text.partition("=")
            folder = arguments.out / name
            if not (folder / "line.json").exists():
                suite, problems, hard = asked_of(name, path, arguments.problems, hardened)
                generator = generator or warm(engine_of(profile), tokenizer)
                line = one_suite(arguments, folder, suite, problems, hard, tokenizer, generator, judges)
                write_json(folder / "line.json", line)
            lines[name] = read_json(folder / "line.json")
            _say(lines[name]["told"])
    if len(lines) > 1:
        _say({"suite": "pooled", **pooled([line["rates"] for line in lines.values()])})


def asked_of(
    name: str, path: str, count: int | None, hardened: Mapping[str, Any]
) -> tuple[Suite, list[Problem], dict[str, Problem]]:
    """The suite, its problems, and by id the problems with hardened tests."""
    file = Path(path) if path else None
    if name == "humaneval":
        suite = get_suite(name)
        tasks = suite.load(None)
        hard = {task.problem.id: task.problem for task in get_suite("humaneval_plus").load(file)} if file else {}
    else:
        suite = get_suite(name)
        tasks = suite.load(file)
        hard = {task.problem.id: hardened[task.problem.id].problem for task in tasks if task.problem.id in hardened}
        if len(hard) < len(tasks):
            lacking = next(task.problem.id for task in tasks if task.problem.id not in hard)
            raise UserError(f"--tests knows nothing of {lacking!r} of {name}: make it with benchmarks.hardened_suites")
    problems = [task.problem for task in evenly_spaced(tasks, count)]
    return suite, problems, {one.id: hard.get(one.id, one) for one in problems}


def warm(generator: Generator, tokenizer: Any) -> Generator:
    """The engine, loaded, so that no measurement counts it."""
    text = chat_prompt(tokenizer, [{"role": "user", "content": "Hello"}])
    generator.generate([Prompt(id="warm", text=text)], Sampling(max_new_tokens=2))
    return generator


def one_suite(
    arguments: argparse.Namespace, folder: Path, suite: Suite, problems: list[Problem], hard: dict[str, Problem],
    tokenizer: Any, generator: Generator, judges: LocalJudges,
) -> dict[str, Any]:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    greedily = Sampling(max_new_tokens=arguments.new_tokens)
    sampling = dataclasses.replace(greedily, temperature=arguments.temperature, top_p=arguments.top_p)
    prompts = {one.id: chat_prompt(tokenizer, suite.chat(one, ()) or []) for one in problems}
    start = time.perf_counter()
    greedy = drawn(folder / "greedy.jsonl", prompts, {one.id: [0] for one in problems}, greedily, generator)
    greedy_s = time.perf_counter() - start
    start = time.perf_counter()
    found = chosen(folder, suite, problems, arguments.drafts, sampling, tokenizer, generator, judges)
    system_s = time.perf_counter() - start
    by_id = {one.problem_id: one for one in found}
    programs = {
        one.id: [suite.program(one, PROTOCOL, greedy[one.id][0].text), *by_id[one.id].programs] for one in problems
    }
    passes = judged(problems, hard, programs, judges)
    rates = {
        by: {
            "greedy": {one.id: float(passes[by][one.id, programs[one.id][0]]) for one in problems},
            "best_of": {one.id: float(passes[by][one.id, by_id[one.id].program]) for one in problems},
        }
        for by in JUDGED_BY
    }
    each = [
        [passes["hardened"][one.id, program] for program in by_id[one.id].programs[: arguments.drafts]]
        for one in problems
    ]
    told = {
        "suite": suite.name,
        "problems": len(problems),
        "drafts": arguments.drafts,
        **{by: scores(rates[by]) for by in JUDGED_BY},
        "tokens_a_problem": {
            "greedy": _mean([draft.num_tokens for drafts in greedy.values() for draft in drafts]),
            "best_of": _mean([one.num_tokens for one in found]),
        },
        "prompt_tokens": _mean([greedy[one.id][0].num_prompt_tokens for one in problems]),
        "seconds": {"greedy": round(greedy_s, 1), "best_of": round(system_s, 1)},
        "draft_mean": round(100 * _mean([sum(row) / len(row) for row in each]), 2),
        "oracle": round(100 * _mean([float(any(row)) for row in each]), 2),
        "stages": stages(found, passes["hardened"], {name: text[0] for name, text in programs.items()}),
    }
    return {"told": told, "rates": rates}


def judged(
    problems: Sequence[Problem], hard: Mapping[str, Problem], programs: Mapping[str, Sequence[str]], judges: LocalJudges
) -> dict[str, dict[tuple[str, str], bool]]:
    """By kind of tests, problem and program whether it passes. What fails the given tests fails the hardened ones,
    among which they are."""
    given = _passes([(one, list(dict.fromkeys(programs[one.id]))) for one in problems], judges)
    again = [
        (hard[one.id], [program for program in dict.fromkeys(programs[one.id]) if given[one.id, program]])
        for one in problems
    ]
    passing = _passes([(problem, texts) for problem, texts in again if texts], judges)
    return {"given": given, "hardened": {key: held and passing[key] for key, held in given.items()}}


def _passes(jobs: Sequence[tuple[Problem, Sequence[str]]], judges: LocalJudges) -> dict[tuple[str, str], bool]:
    return {
        (problem.id, program): verdict.status == Status.PASSED
        for (problem, texts), verdicts in zip(jobs, judges.judge_all(jobs), strict=True)
        for program, verdict in zip(texts, verdicts, strict=True)
    }


def scores(rates: Mapping[str, Rates]) -> dict[str, Any]:
    """In points, with the paired difference."""
    found = compare(rates["greedy"], rates["best_of"])
    assert found is not None
    return {name: round(100 * _mean(list(held.values())), 2) for name, held in rates.items()} | told_of(found)


def pooled(rates: Sequence[Mapping[str, Mapping[str, Rates]]]) -> dict[str, Any]:
    """All suites' problems together; their ids differ."""
    joined = {
        by: {
            name: {problem: rate for held in rates for problem, rate in held[by][name].items()}
            for name in ("greedy", "best_of")
        }
        for by in JUDGED_BY
    }
    return {by: scores(held) for by, held in joined.items()}


def stages(
    found: Sequence[Chosen], passes: Mapping[tuple[str, str], bool], greedy: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """For each way in which an answer was chosen: problems, their share, and how many are solved by it, by the greedy
    answer and by the first draft."""
    by_stage: dict[str, list[Chosen]] = {}
    for one in found:
        stage = str(one.choice.chosen_by) if one.choice else "nothing to call"
        if one.choice and not one.choice.examples:
            stage += ", no example"
        by_stage.setdefault(stage, []).append(one)
    return {
        stage: {
            "problems": len(held),
            "share": round(100 * len(held) / len(found), 1),
            "solved": sum(passes[one.problem_id, one.program] for one in held),
            "greedy": sum(passes[one.problem_id, greedy[one.problem_id]] for one in held),
            "first_draft": sum(passes[one.problem_id, one.programs[0]] for one in held),
        }
        for stage, held in sorted(by_stage.items())
    } | {"repairs": _repairs(found)}


def _repairs(found: Sequence[Chosen]) -> dict[str, int]:
    """How many were drawn, how many of them are the answer, and how many pass all examples."""
    choices = [one.choice for one in found if one.choice and one.was_repaired]
    better = [choice for choice in choices if choice.chosen_by == ChosenBy.REPAIR]
    return {
        "drawn": len(choices),
        "chosen": len(better),
        "pass_all": sum(choice.passed == choice.examples for choice in better),
    }


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _say(line: Mapping[str, Any]) -> None:
    print(json.dumps({"benchmark": "best_of", **line}), flush=True)


if __name__ == "__main__":
    main()
