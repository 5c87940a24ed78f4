"""What a model learns of calling tools: rows made of documented functions, SFT on them, GRPO with graded rewards, both.

    python -m benchmarks.tool_arms rows --out OUT --tooluse BFCL_FOLDER [--files 24000] [--number 2400]
    python -m benchmarks.tool_arms sft  --out OUT --name sft --model FOLDER --gpu [--number 800]
    python -m benchmarks.tool_arms grpo --out OUT --name grpo --model FOLDER --gpu
    python -m benchmarks.tool_arms grpo --out OUT --name sft-grpo --start sft --model FOLDER --gpu
    python -m benchmarks.sft_arms measure --out OUT --model FOLDER --gpu --protocols chat --new-tokens 512
        --suite tooluse=BFCL_FOLDER --suite search_docs --arm sft:none:grm.steps=1 --arm grpo:none:grm.steps=1
        --arm sft-grpo:none:grm.steps=1
    python -m benchmarks.tool_arms report --out OUT

`rows` needs no card and is made once, on the machine with the corpus' packages: OUT/rows (train.jsonl,
validation.jsonl, attribution.csv). `sft` and `grpo` write OUT/adapters/NAME, and go on where they were ended, as
`measure` does: give the same command again. `report` compares what was measured with the base, by category, paired.
--set KEY=VALUE changes a setting, `grpo --keep missing=0.2` takes so much of a form. Prints JSON lines.
`benchmarks.tool_form` says what the form of asking gives the untouched model.

`grpo` without a start is what gained most in calls (docs/reward.md). Limits: --number of `sft` takes the first rows;
one seed a name (--set seed=1). Validation of `grpo` is on problems of the same kind; a fall stops it.
"""

import argparse
import json
import math
import os
import re
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from app import rights
from app.corpus.clean.decontamination import Decontaminator
from app.corpus.draws import by_hash
from app.corpus.recipe_files import load_recipe
from app.errors import UserError
from app.evaluation.guarded_suites import guard_for
from app.evaluation.stage import BASE
from app.evaluation.statistics import compare
from app.evaluation.suites.registry import get_suite
from app.files.json_files import read_json, read_json_lines, write_atomic
from app.learnt_from import OLDER
from app.models.base import ensure_model, load_tokenizer
from app.models.licences import public_name
from app.overrides import with_overrides
from app.profiles import get_profile
from app.reward.by_reward.learning import learn
from app.reward.by_reward.outlets import Files
from app.reward.by_reward.validation import read_validations
from app.reward.imitation.lessons import write_lessons
from app.reward.imitation.training import imitate_in_files
from app.reward.tool_use.formats import formatted_problems
from app.reward.tool_use.judge import CallJudge
from app.reward.tool_use.lessons import lessons_of
from app.reward.tool_use.making import made_problems, side_of
from app.reward.tool_use.names import benchmark_names
from app.reward.tool_use.reading import found_functions, untouched, write_whose
from app.reward.tool_use.records import Form, ToolProblem, read_problems, write_problems
from app.reward.tool_use.searches import offline_library, search_problems
from app.running.arm_paths import ArmPaths
from app.settings import Profile
from app.training.state import ADAPTER, start_anew
from benchmarks.reward import ends_of, profile_of
from benchmarks.sft_arms import engine_of

SEARCHES, FORMATTED = 0.11, 0.14
"""Of the rows; the shares of the other forms are `making.SHARES`."""
VALIDATION = 0.125
"""Rows to validate by, for each to learn from."""
SFT = (
    "grm.imitate.learning_rate=1e-4", "grm.imitate.epochs=2", "grm.imitate.batch=32", "grm.lora_r=32",
    "grm.lora_alpha=32", "grm.seq_len=2048", "grm.checkpoint_every=10",
)  # fmt: skip
GRPO = (
    "grm.arm=grpo", "grm.prompts_per_step=32", "grm.num_drafts=8", "grm.learning_rate=2e-5", "grm.temperature=1",
    "grm.max_new_tokens=256", "grm.steps=100", "grm.warmup_steps=3", "grm.kl=0", "grm.kl_fallback=0",
    "grm.most_length=50", "grm.least_entropy=0.02", "grm.lora_r=32", "grm.lora_alpha=32", "grm.seq_len=2048",
    "grm.checkpoint_every=5", "grm.validate_every=25", "grm.validation_problems=200",
)  # fmt: skip
NO_CALL = ("irrelevance", "live_irrelevance")
_CATEGORY = re.compile(r"bfcl/(\D+?)_\d")


def rows(arguments: argparse.Namespace) -> None:
    os.environ["ENV"] = "offline"  # nothing is searched on a network
    profile, recipe = get_profile("laptop"), load_recipe(arguments.recipe)
    tasks = get_suite("tooluse").load(arguments.tooluse)
    told = profile.evaluation.model_copy(update={"problems": (f"tooluse={arguments.tooluse}",)})
    guarded = guard_for(told)
    guard = Decontaminator(signs=guarded.signs())
    folder = arguments.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    names, work = benchmark_names(tasks), arguments.out / "work"
    found = found_functions(recipe, guard, names, work, seed=arguments.seed, max_files=arguments.files)
    library, made = offline_library(found.distributions, work), dict[str, list[ToolProblem]]()
    for side, number in (("train", arguments.number), ("validation", round(VALIDATION * arguments.number))):
        own = [one for one in found.functions if side_of(one.name, arguments.seed) == side]
        searches, formatted = round(SEARCHES * number), round(FORMATTED * number)
        problems = made_problems(own, number - searches - formatted, arguments.seed)
        problems += formatted_problems(formatted, arguments.seed, side, names)
        problems += search_problems(library, searches, arguments.seed, side)
        kept = untouched(problems, guard)
        made[side] = sorted(kept, key=lambda one: by_hash(f"{arguments.seed} {one.problem.id}"))
        write_problems(folder / f"{side}.jsonl", made[side])
        forms = Counter(one.form for one in made[side])
        say(arguments, side=side, functions=len(own), rows=len(kept), near=len(problems) - len(kept), forms=forms)
    write_whose(folder / "attribution.csv", [one for held in made.values() for one in held], found, guarded.facts())
    say(arguments, files=arguments.files, functions=len(found.functions), left_out=dict(found.left_out.most_common()))


def sft(arguments: argparse.Namespace) -> None:
    profile, device = prepared(arguments, SFT)
    tokenizer, at = load_tokenizer(ensure_model(profile.model)), ArmPaths(arguments.out / "adapters" / arguments.name)
    problems = read_problems(arguments.out / "rows" / "train.jsonl")
    if not at.lessons.exists():
        write_lessons(at.lessons, lessons_of(problems, tokenizer, profile.grm.seq_len)[: arguments.number])
    start = time.perf_counter()
    if not at.adapter.exists():
        imitate_in_files(at, profile, device)
    write_rights(arguments, profile, at.adapter)
    losses = [row["loss"] for row in read_json_lines(at.metrics)]
    seconds = round(time.perf_counter() - start, 1)
    say(arguments, steps=len(losses), loss=dict(ends_of(losses)), seconds=seconds, adapter=str(at.adapter))


def grpo(arguments: argparse.Namespace) -> None:
    profile, device = prepared(arguments, GRPO)
    folder, updates = arguments.out / "adapters" / arguments.name, profile.grm.updates_per_step
    train, held_out = (read_problems(arguments.out / "rows" / f"{side}.jsonl") for side in ("train", "validation"))
    train = with_shares(train, dict(arguments.keep))
    state = started_from(arguments.out / "adapters" / arguments.start, folder) if arguments.start else None
    start = time.perf_counter()
    learn(
        folder,
        profile,
        judged(train),
        engine_of(profile),
        CallJudge(),
        device,
        Files(folder, updates, state),
        held_out=judged(held_out)[: profile.grm.validation_problems],
        facts={"model": profile.model.model_dump()},
    )
    write_rights(arguments, profile, folder / ADAPTER, arguments.start)
    figures = read_json_lines(folder / "metrics.jsonl")
    told = {name: dict(ends_of([row[key] for row in figures])) for name, key in FIGURES.items()}
    seconds = {key: round(sum(row[f"{key}_seconds"] for row in figures), 1) for key in ("drafting", "training")}
    validation = {one.step: round(one.mean, 4) for one in read_validations(folder / "validation.jsonl")}
    whole = round(time.perf_counter() - start, 1)
    say(arguments, steps=len(figures), **told, validation=validation, seconds_of=seconds, seconds=whole)


CARD = """\
---
library_name: peft
tags: [lora, code]
---

# Adapter of {base}, which was taught to call tools (`{name}`)

## What it learnt from

{section}

The licence of {base} holds for its weights.
"""


def write_rights(arguments: argparse.Namespace, profile: Profile, adapter: Path, parent: str = "") -> None:
    """Write a card, and what travels with an adapter: the rows' own, and that of the adapter that it began with."""
    folder = arguments.out / "rows"
    before = arguments.out / "adapters" / parent / ADAPTER
    own = rights.read(folder) or rights.Rights(remarks=(OLDER,))
    held = rights.union((parent and rights.read(before)) or rights.Rights(), own)
    rights.write(adapter, held, {"tools": folder / "attribution.csv"})
    section = rights.section(held, list(rights.tables(adapter)))
    base = public_name(profile.model)
    write_atomic(adapter / "README.md", CARD.format(base=base, name=arguments.name, section=section))


FIGURES = {"reward": "reward_mean", "varied": "share_with_variance", "entropy": "entropy", "tokens": "mean_tokens"}


def judged(problems: Sequence[ToolProblem]) -> list[Any]:
    """Those whose replies can be told right from wrong."""
    return [one.training_problem for one in problems if one.problem.tests]


def share_of(text: str) -> tuple[str, float]:
    """FORM=SHARE of 0 to 1. Raises ValueError, which argparse tells."""
    form, _, share = text.partition("=")
    if form not in get_args(Form) or not 0 <= float(share) <= 1:
        raise ValueError
    return form, float(share)


def with_shares(problems: Sequence[ToolProblem], shares: Mapping[str, float]) -> list[ToolProblem]:
    """Of each form that is named the first problems, as many as its share says, and all others, in their order."""
    left = {form: math.floor(share * sum(one.form == form for one in problems)) for form, share in shares.items()}
    kept = []
    for one in problems:
        if (number := left.get(one.form, 1)) > 0:
            kept.append(one)
            if one.form in left:
                left[one.form] = number - 1
    return kept


def started_from(trained: Path, folder: Path) -> Path:
    """A state from which a training takes its first step with the adapter that another one made."""
    if not (trained / ADAPTER).exists():
        raise UserError(f"{trained} holds no adapter to start from: run `sft --name {trained.name}` first")
    state = folder / "start"
    if not (state / "state.json").exists():
        shutil.copytree(trained / ADAPTER, state / ADAPTER, dirs_exist_ok=True)
        start_anew(state)
    return state


def prepared(arguments: argparse.Namespace, recipe: Sequence[str]) -> tuple[Profile, torch.device]:
    torch.set_float32_matmul_precision("high")
    profile = with_overrides(profile_of(arguments), [*recipe, *arguments.overrides])
    return profile, torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")


def report(arguments: argparse.Namespace) -> None:
    kinds = {task.problem.id: task.problem.difficulty for task in get_suite("search_docs").load(None)}
    for path in sorted(arguments.out.glob("measure-*/evaluation/*/*/result.json")):
        base = path.parent.with_name(BASE) / path.name
        if path.parent.name == BASE or not base.exists():
            continue
        rates = [read_json(one)["pass_rates"] for one in (base, path)]
        groups: dict[str, list[str]] = defaultdict(list)
        for problem in rates[0]:
            for name in groups_of(problem, kinds):
                groups[name].append(problem)
        told = {name: compared(held, *rates) for name, held in sorted(groups.items())}
        say(arguments, arm=path.parent.name, suite=path.parent.parent.name, by_category=told)


def groups_of(problem: str, kinds: Mapping[str, str]) -> list[str]:
    """What a problem is counted in, by its id: BFCL's category, and whether it wants calls; of a search its kind."""
    if match := _CATEGORY.match(problem):
        return [match[1], "no call" if match[1] in NO_CALL else "calls"]
    return ["search_docs"] + ([f"search_docs: {kinds[problem]}"] if problem in kinds else [])


def compared(ids: Sequence[str], base: Mapping[str, float], other: Mapping[str, float]) -> dict[str, Any]:
    """Right ones of these problems, and the difference to the base in points."""
    common = [one for one in ids if one in base and one in other]
    found = compare({one: base[one] for one in common}, {one: other[one] for one in common})
    if found is None:
        return {"problems": 0}
    return {
        "problems": found.num_problems,
        "right": round(math.fsum(other[one] for one in common), 2),
        "difference": round(100 * found.difference, 2),
        "interval_95": [round(100 * end, 2) for end in found.interval_95],
    }


def say(arguments: argparse.Namespace, **result: Any) -> None:
    line = json.dumps({"benchmark": "tool_arms", "step": arguments.step.__name__, **result})
    print(line, flush=True)
    with open(arguments.out / f"tool_arms-{arguments.step.__name__}.jsonl", "a") as file:
        file.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    for step in (rows, sft, grpo, report):
        one = steps.add_parser(step.__name__)
        one.add_argument("--out", type=Path, required=True)
        one.set_defaults(step=step)
    for name in ("sft", "grpo"):
        one = steps.choices[name]
        one.add_argument("--model", metavar="FOLDER", help="SmolLM2's package if left out")
        one.add_argument("--profile", default="laptop")
        one.add_argument("--gpu", action="store_true")
        one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    one = steps.choices["rows"]
    one.add_argument("--tooluse", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--recipe", default="datasets/recipes/tools.yaml")
    one.add_argument("--files", type=int, default=24_000)
    one.add_argument("--number", type=int, default=2400)
    one.add_argument("--seed", type=int, default=0)
    for name in ("sft", "grpo"):
        steps.choices[name].add_argument("--name", required=True)
    steps.choices["sft"].add_argument("--number", type=int, default=800)
    steps.choices["grpo"].add_argument("--start", default="", metavar="NAME", help="an adapter under OUT to go on from")
    one = steps.choices["grpo"]
    one.add_argument("--keep", type=share_of, action="append", default=[], metavar="FORM=SHARE", help="of its problems")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.step(arguments)


if __name__ == "__main__":
    main()
