"""An experiment of Ray Tune, read from its folder alone: what each trial reported, and why some failed.

    FOLDER/TRIAL/result.json     a line a report (Tune's JSON logger)
    FOLDER/TRIAL/error.txt       where the trial failed
    FOLDER/pbt_global.txt        who took whose place, where its scheduler is population-based

All of it is JSON or text: nothing is unpickled, so a folder of others may be read. Whoever made the experiment, its
trials report `fitness`, the more the better. After a restore Tune may have reports twice; the later one counts.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evolution.standings import short
from app.files.json_files import read_json_lines

FITNESS, TIME, WHO = "fitness", "training_iteration", "individual"
OWN = {
    TIME, WHO, FITNESS, "config", "date", "timestamp", "done", "trial_id", "pid", "hostname", "node_ip",
    "experiment_tag",
    "time_this_iter_s", "time_total_s", "time_since_restore", "iterations_since_restore", "checkpoint_dir_name",
    "should_checkpoint", "warmup_time", "timesteps_total", "episodes_total",
}  # fmt: skip
"""What Tune itself puts into a report, and what has columns of its own."""
MOST_ROWS = 200
"""Reports in the table, the best ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of a trial. Made by `read_experiment`."""

    trial: str
    who: str
    """The individual that a trial of ours was then; else the trial."""
    time: int
    """Its number within the trial, from 1: of a trial of ours the generation."""
    fitness: float | None
    """None where none was reported, or no number."""
    figures: Mapping[str, float]
    """The other numbers that it told."""
    config: Mapping[str, Any]
    """By name; of what is nested the innermost name."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Made by `read_experiment`; shown by `app.report.write_tune_report`."""

    folder: Path
    trials: int
    reports: Sequence[Report]
    """The fittest first, those without fitness last."""
    errors: Mapping[str, str]
    """By trial, the last line of what it says."""
    places: Sequence[tuple[int, str, str]]
    """Time, whose place was taken, and by a child of whom."""

    @property
    def figures(self) -> list[str]:
        return sorted({name for one in self.reports for name in one.figures})

    @property
    def varying(self) -> list[str]:
        """What differs between configs."""
        names = dict.fromkeys(name for one in self.reports for name in one.config)
        return [name for name in names if len({json.dumps(one.config.get(name)) for one in self.reports}) > 1]

    @property
    def best(self) -> Report:
        return self.reports[0]


def read_experiment(folder: Path) -> Experiment:
    """Raises UserError where the folder holds no experiment, or no fitness."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the folder of a Tune experiment, such as runs/NAME/evolve/tune")
    logs = sorted(folder.glob("*/result.json"))
    reports = [one for path in logs for one in _reports(path)]
    if not reports:
        raise UserError(
            f"{folder} holds no report of a trial (TRIAL/result.json): give the folder of a Tune experiment, such as "
            "runs/NAME/evolve/tune, whose trials have reported and whose loggers were not switched off"
        )
    if all(one.fitness is None for one in reports):
        told = ", ".join(sorted({name for one in reports for name in one.figures})) or "no number"
        raise UserError(f"no trial of {folder} reports {FITNESS!r}, but {told}: have its trials report {FITNESS!r}")
    return Experiment(
        folder=folder,
        trials=len(logs),
        reports=sorted(reports, key=lambda one: -math.inf if one.fitness is None else one.fitness, reverse=True),
        errors={_trial_of(path): _last_line(path) for path in sorted(folder.glob("*/error.txt"))},
        places=_places(folder / "pbt_global.txt"),
    )


def _reports(path: Path) -> list[Report]:
    found: dict[int, Report] = {}
    for row in read_json_lines(path):
        time, trial = int(row.get(TIME, len(found) + 1)), str(row.get("trial_id") or path.parent.name)
        numbers = {name: float(value) for name, value in row.items() if _is_number(value)}
        found[time] = Report(
            trial=trial,
            who=short(str(row[WHO])) if row.get(WHO) else trial,
            time=time,
            fitness=numbers.get(FITNESS),
            figures={name: value for name, value in numbers.items() if name not in OWN},
            config=_flat(row.get("config") or {}),
            seconds=numbers.get("time_this_iter_s", 0.0),
        )
    return list(found.values())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def _trial_of(path: Path) -> str:
    rows = read_json_lines(path.with_name("result.json"))
    return str(rows[-1].get("trial_id")) if rows else path.parent.name


def _last_line(path: Path) -> str:
    return (path.read_text(errors="replace").strip().splitlines() or ["no reason is given"])[-1]


def _places(path: Path) -> list[tuple[int, str, str]]:
    """What Tune's log of exploits says, a line for each: the tags of the trial that lost its place and of its donor,
    their times and two configs. A tag begins with its trial's number."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            taken, donor, time, *_ = json.loads(line)
            found.append((int(time), _number(taken), _number(donor)))
        except (ValueError, TypeError):  # a line that a kill cut off
            continue
    return found


def _number(tag: str) -> str:
    return tag.split("@")[0].split("_")[0]


def picture(found: Experiment) -> Any:
    """Fitness by report, a line a trial; a Matplotlib Figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    for trial in sorted({one.trial for one in found.reports}):
        of_trial = [one for one in found.reports if one.trial == trial]
        told = sorted((one.time, one.fitness) for one in of_trial if one.fitness is not None)
        axes.plot([time for time, _ in told], [fitness for _, fitness in told], marker="o", label=trial)
    axes.set(xlabel="report", ylabel="fitness", title="Fitness of each trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if len({one.trial for one in found.reports}) <= 12:
        axes.legend(fontsize="small", frameon=False)
    return figure
