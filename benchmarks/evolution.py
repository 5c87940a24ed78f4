"""What the population of evolution is worth beside Ray Tune's own methods, on a task whose optimum is known.

Every method trains the same number of individual-generations, 4 x 3, and draws the same number of noisy verdicts; only
`close` may leave some undrawn. `benchmarks.evolution_task` says how the task learns and is measured,
`benchmarks.evolution_methods` how each method is read. All runs are real ones of Ray Tune, on one Ray with one core.
Regret is the optimum's pass rate less the true pass rate of what the method chose in the end by what it had measured.

All methods of a seed have the same problems and the same learning rate as the best one. With `--founders space` all
begin with the same four rates, drawn from all that evolution may have; with `--founders product` those that are
populations begin as evolution does, with the run's own rate and three mutations of it.

Run: python -m benchmarks.evolution [--seeds 20] [--methods evolve,pbt,...] [--reach 1.0] [--drafts 2]
    [--problems 150] [--founders space] [--out FILE.jsonl]

FILE.jsonl keeps each run's figures: what was stopped goes on there.

One JSON line, pass rates in points (0 to 100). Of each method: regret and its 95 % interval over seeds; in how many
seeds the choice was truly the best of those that it was made from (four, and more of asha); how many were replaced,
and how often by one that was truly better, equal or worse. against: the first method's pass rate less this one's,
paired by seed. one_run_of_3 and one_run_of_12 are computed, not run: the run's own rate alone, nothing measured, for
as many generations as an individual has, and for all of the budget one after another; the optimum is of 3. Progress
goes to standard error.

Limits: one gene, a model of learning without noise of its own, problems that measure what is asked for. Of 20 seeds
the bootstrap's intervals are about a tenth too narrow. A run takes some seconds, whatever it costs to learn.
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.cluster.session import connected
from app.evaluation.statistics import bootstrap_interval
from app.files.json_files import append_json_line, read_json_lines
from app.progress import progress
from app.settings import ClusterSettings
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings
from benchmarks.evolution_methods import AGAIN, GENES, LIVED, METHODS, POPULATION, Experiment, fit
from benchmarks.evolution_task import START, Task, drawn_rates
from tune_spaces.alpha_evolve import first_population

QUIET = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}
"""No files of results beside ours, no tables on standard output."""
Row = Mapping[str, Any]
"""Of lived.jsonl (`benchmarks.evolution_methods.fit`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One method on one seed."""

    pass_rate: float
    """The true one of the individual that was chosen."""
    regret: float
    is_best: bool
    """Whether no other of the last individuals is truly better."""
    chosen_from: int
    better: int
    """Individuals whose place a truly better one's child took."""
    equal: int
    worse: int
    verdicts: int
    seconds: float


def run(method: str, task: Task, founders: str, drafts: int) -> Run:
    """Raises RuntimeError where the method did not train what all train."""
    is_population = method not in ("asha", "random")
    rates = drawn_rates(task.seed, POPULATION * task.generations if method == "asha" else POPULATION)
    if founders == "product" and is_population:
        settings = EvolveSettings(population=POPULATION, genes=GENES)
        rates = [child.genome.learning_rate for child in first_population(GrmSettings(), settings, task.seed)]
    with tempfile.TemporaryDirectory(prefix="evolution-") as folder:
        experiment = Experiment(task=task, rates=rates, drafts=drafts, work=Path(folder))
        start = time.perf_counter()
        chosen = fit(method, experiment)
        seconds = time.perf_counter() - start
        rows = read_json_lines(experiment.work / LIVED)
        again = read_json_lines(experiment.work / AGAIN)
    if len(rows) != experiment.individual_generations:
        raise RuntimeError(
            f"{method} trained {len(rows)} individual-generations of {experiment.individual_generations}"
        )
    verdicts = sum(row["judged"] for row in (*rows, *again))
    return Run(**told(rows, chosen, task), verdicts=verdicts, seconds=seconds)


def told(rows: Sequence[Row], chosen: int, task: Task) -> dict[str, Any]:
    """What the rows tell of the final choice and of who was replaced, but for what it cost. chosen: its place."""
    left = {(row["place"], row["generation"]): row["left"] for row in rows}
    last = {row["place"]: row["left"] for row in sorted(rows, key=lambda row: row["generation"])}
    signs = []
    for row in rows:
        if row["came_from"] != row["place"]:
            donor, replaced = (left[place, row["generation"] - 1] for place in (row["came_from"], row["place"]))
            signs.append((donor < replaced) - (donor > replaced))
    pass_rate = task.pass_rate(last[chosen])
    return {
        "pass_rate": pass_rate,
        "regret": task.optimum() - pass_rate,
        "is_best": last[chosen] == min(last.values()),
        "chosen_from": len(last),
        "better": signs.count(1),
        "equal": signs.count(0),
        "worse": signs.count(-1),
    }


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    regrets = [one.regret for one in runs]
    return {
        "pass_rate": points(statistics.fmean(one.pass_rate for one in runs)),
        "regret": points(statistics.fmean(regrets)),
        "interval_95": [points(end) for end in bootstrap_interval(regrets)],
        "chose_the_best": sum(one.is_best for one in runs),
        "chosen_from": round(statistics.fmean(one.chosen_from for one in runs), 1),
        "replaced": sum(one.better + one.equal + one.worse for one in runs),
        "by_a_better": sum(one.better for one in runs),
        "by_an_equal": sum(one.equal for one in runs),
        "by_a_worse": sum(one.worse for one in runs),
        "verdicts": round(statistics.fmean(one.verdicts for one in runs)),
        "seconds_a_run": round(statistics.median(one.seconds for one in runs), 1),
    }


def against(rates: Sequence[float], others: Sequence[float]) -> dict[str, Any]:
    """True pass rates less others, seed by seed."""
    differences = [one - other for one, other in zip(rates, others, strict=True)]
    return {
        "difference": points(statistics.fmean(differences)),
        "interval_95": [points(end) for end in bootstrap_interval(differences)],
        "better": sum(difference > 0 for difference in differences),
        "worse": sum(difference < 0 for difference in differences),
    }


def one_run(task: Task, generations: int) -> float:
    """The true pass rate of the run's own learning rate after that many generations."""
    left = START
    for _ in range(generations):
        left = task.trained(left, GrmSettings().learning_rate)
    return task.pass_rate(left)


def points(rate: float) -> float:
    return round(100 * rate, 2)


def all_runs(arguments: argparse.Namespace, tasks: Sequence[Task], methods: Sequence[str]) -> dict[str, list[Run]]:
    """By method those of the tasks, in their order; what arguments.out has is not run again."""
    same = {name: getattr(arguments, name) for name in ("reach", "drafts", "problems", "founders")}
    known = [row for row in read_json_lines(arguments.out) if row["settings"] == same] if arguments.out else []
    done = {(row["method"], row["seed"]): Run(**row["run"]) for row in known}
    with progress("evolution", len(tasks) * len(methods), "runs") as update:
        for number, (task, method) in enumerate(itertools.product(tasks, methods), start=1):
            key = (method, task.seed)
            if key not in done:
                done[key] = run(method, task, arguments.founders, arguments.drafts)
                row = {"settings": same, "method": method, "seed": task.seed, "run": asdict(done[key])}
                if arguments.out:
                    append_json_line(arguments.out, row)
            update(number, f"{method}, seed {task.seed}: regret {points(done[key].regret)}")
    return {method: [done[method, task.seed] for task in tasks] for method in methods}


def measured(arguments: argparse.Namespace, methods: Sequence[str]) -> dict[str, Any]:
    seeds = range(arguments.seeds)
    tasks = [Task(seed=seed, reach=arguments.reach, num_problems=arguments.problems) for seed in seeds]
    runs = all_runs(arguments, tasks, methods)
    generations = tasks[0].generations
    budget = POPULATION * generations
    rates = {method: [one.pass_rate for one in found] for method, found in runs.items()}
    alone = {f"one_run_of_{number}": [one_run(task, number) for task in tasks] for number in (generations, budget)}
    first, *others = (rates | alone).items()
    optimum = statistics.fmean(task.optimum() for task in tasks)
    return {
        "seeds": arguments.seeds,
        "reach": arguments.reach,
        "founders": arguments.founders,
        "drafts": arguments.drafts,
        "problems": arguments.problems,
        "individual_generations": budget,
        "untrained": points(statistics.fmean(task.pass_rate(START) for task in tasks)),
        "optimum": points(optimum),
        "methods": {method: summary(found) for method, found in runs.items()},
        "one_run_regret": {name: points(optimum - statistics.fmean(found)) for name, found in alone.items()},
        "against": {name: against(first[1], found) for name, found in others},
        "pass_rates": {name: [points(rate) for rate in found] for name, found in (rates | alone).items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--methods", default=",".join(METHODS), help="the first is held against the others")
    parser.add_argument("--reach", type=float, default=1.0, help="logits that the best schedule gains")
    parser.add_argument("--drafts", type=int, default=2, help="of a problem, for an individual in a generation")
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--out", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--founders", choices=("space", "product"), default="space")
    arguments = parser.parse_args()
    methods = arguments.methods.split(",")
    if unknown := [method for method in methods if method not in METHODS]:
        parser.error(f"--methods: {unknown[0]!r} is none of {', '.join(METHODS)}")
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"RAY_TMPDIR": folder, "RAY_ADDRESS": "", **QUIET}
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        with connected(ClusterSettings(num_cpus=1, object_store_bytes=200 << 20, dashboard=False)):
            result = measured(arguments, methods)
    print(json.dumps({"benchmark": "evolution", **result}), flush=True)


if __name__ == "__main__":
    main()
