"""One individual, one generation: it learns by reward from what it draws, until its tokens are spent, and is measured.

    FOLDER/begun/        the TrainState that it begins with, at its own rank (`app.evolution.inheritance`)
    FOLDER/drafts/       what it drew to learn from, and verdicts; metrics.jsonl beside it (`app.reward.by_reward`)
    FOLDER/validation/   what it was measured by (`app.evolution.measuring`)
    FOLDER/state/        what its next generation, or its children, begin with: a TrainState, and in rates.jsonl how
                         often it solved the problems it drew, a line a generation, its ancestors' first
    FOLDER/lived.json    written last; the larger parts that only a restart needs are gone then

Who calls it holds a slot of the card, so that nothing is nested: the training loop runs in the caller's own process.
Started again, it goes on wherever it was ended. All individuals spend as many tokens, drawn and learnt ones together,
however their genomes divide them into steps.
"""

import contextlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.corpus.draws import bits
from app.errors import NothingToLearnError
from app.evolution.curriculum import weights_of
from app.evolution.fitness import fitness_of
from app.evolution.history import LIVED, read_lived, write_lived
from app.evolution.inheritance import inherit
from app.evolution.measuring import Ruler, measured
from app.evolution.pool import PooledJudge
from app.evolution.records import Genome, Lived, Value
from app.files.json_files import read_json_lines, write_json_lines
from app.records import Generator, Judge
from app.reward.by_reward.keeping import make_whole
from app.reward.by_reward.learning import learn
from app.reward.by_reward.outlets import Files, read_figures
from app.reward.by_reward.watch import StepFigures, Watch
from app.reward.drafts.files import read_drafts
from app.reward.drafts.solve_rates import Rates, rates
from app.reward.records import TrainingProblem
from app.running.arm_paths import ArmPaths
from app.running.deadlines import NEVER, Deadline
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from app.training.memory import give_back
from app.training.state import ADAPTER

STATE, BEGUN, RATES = "state", "begun", "rates.jsonl"
MOST_STEPS = 10_000
"""Of an individual in all generations; its tokens end it long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all individuals of a population share. Made by `app.evolution.stage`."""

    profile: Profile
    problems: Sequence[TrainingProblem]
    """To learn from, with hardened tests; their prompts leave a draft its tokens."""
    untouched: Rates
    """How often the untouched model solves them."""
    ruler: Ruler
    """What everybody is measured by."""
    generator: Generator
    judge: Judge
    pool: Path
    """Where verdicts are shared (`app.evolution.pool`)."""
    facts: Mapping[str, Any]
    """What decides drafts and verdicts beside prompts and sampling, kept with the drafts."""
    engine_sleeps: bool
    """Trainer and engine take turns on the card (`app.reward.turns`)."""
    deadline: Deadline = NEVER
    """After which nobody learns any more than a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """An individual at the start of a generation. Made by who calls `live`."""

    id: str
    generation: int
    genome: Genome
    config: Mapping[str, Value]
    """The genome as Tune carries it."""
    grm: GrmSettings
    """With the genome's values."""
    start: Path
    """The TrainState that it goes on from: its own, or its parent's."""
    tokens: int
    """That it may draw and learn."""
    draws_as: str
    """By which its drafts and prompts are drawn: the same where an experiment is begun anew."""


def live(at: ArmPaths, birth: Birth, around: Surroundings, device: torch.device) -> Lived:
    """Learn and be measured; what came of it is in FOLDER/state and in what is returned.

    An individual that finds nothing to learn keeps what it began with. Raises ValueError for one that diverged.
    """
    if (at.folder / LIVED).exists() and (at.folder / STATE).exists():
        return read_lived(at.folder)
    begun = at.folder / BEGUN
    if not begun.exists():
        inherit(birth.start, begun, birth.genome.lora_r, seed=around.profile.seed)
    why = _learn(at, birth, around, begun, device)
    figures = read_figures(at.metrics)
    last = Files(at.folder, birth.grm.updates_per_step, begun).last()
    assert last is not None, "it had something to begin with"
    found = rates(one for path in sorted(at.drafts.glob("*.parquet")) for one in read_drafts(path))
    make_whole(at.folder / STATE, lambda place: _write_state(place, last, [*rates_in(birth.start), found]))
    lived = _lived(birth, around, at, figures, why)
    write_lived(at.folder, lived)
    for part in (begun, at.folder / "checkpoints", at.adapter):
        shutil.rmtree(part, ignore_errors=True)
    return lived


def rates_in(state: Path) -> list[Rates]:
    """How often who left this state, and before it those whose weights it has, solved what they drew to learn from, a
    generation each; none where that is not known."""
    rows = read_json_lines(state / RATES)
    return [{name: (passed, counted) for name, (passed, counted) in row.items()} for row in rows]


def spent(figures: Sequence[StepFigures]) -> int:
    """Tokens drawn and learnt."""
    return sum(one.num_tokens + one.learnt_tokens for one in figures)


def is_spent(figures: Sequence[StepFigures], tokens: int) -> bool:
    """Whether one step more would miss the tokens by more than stopping here does."""
    return bool(figures) and spent(figures) * (1 + 0.5 / len(figures)) > tokens


def told(lived: Lived, fitness: float | None) -> str:
    """For a person."""
    worth = "no verdict" if fitness is None else f"fitness {fitness:.3f}"
    reward = "" if lived.reward is None else f", reward {lived.reward:.3f} in its last step"
    return (
        f"generation {lived.generation}, {lived.id}: {worth}{reward}; {lived.steps} steps, {lived.drafts} drafts, "
        f"{lived.drawn_tokens} tokens drawn, {lived.learnt_tokens} learnt; {lived.why_ended}"
    )


def _learn(at: ArmPaths, birth: Birth, around: Surroundings, begun: Path, device: torch.device) -> str:
    """Why it ended."""
    grm = birth.grm.model_copy(
        update={"arm": "grpo", "steps": MOST_STEPS, "validate_every": 0, "mean_of_checkpoints": 1}
    )
    seed = bits(f"{around.profile.seed}:{birth.draws_as}") % 2**31  # else all would draw the same
    profile = around.profile.model_copy(update={"grm": grm, "seed": seed})
    judge = PooledJudge(around.judge, around.pool, f"{birth.id}-{birth.generation}", around.facts["sandbox"])
    if around.engine_sleeps:
        around.generator.sleep()
    try:
        weights = weights_of(around.problems, birth.genome, around.untouched, rates_in(birth.start))
        problems = [one for one in around.problems if weights[one.given.id] > 0]
        with contextlib.closing(Files(at.folder, grm.updates_per_step, begun, label="evolve")) as files:
            learn(
                at.folder,
                profile,
                problems,
                around.generator,
                judge,
                device,
                files,
                weights=weights,
                enough=lambda figures: is_spent(figures, birth.tokens),
                facts=around.facts,
                engine_sleeps=around.engine_sleeps,
                deadline=around.deadline,
            )
    except NothingToLearnError as error:
        return str(error)
    finally:
        give_back()  # the engine is to have what the trainer held
    figures = read_figures(at.metrics)
    if at.cut.exists():
        return "its time was over"
    if reason := Watch(figures, settings=grm).reason:
        return reason
    return "its tokens were spent" if is_spent(figures, birth.tokens) else "nothing more could be learnt"


def _write_state(place: Path, last: Path, found: list[Rates]) -> None:
    shutil.copytree(last, place, dirs_exist_ok=True)
    write_json_lines(place / RATES, [dict(one) for one in found])


def _lived(birth: Birth, around: Surroundings, at: ArmPaths, figures: Sequence[StepFigures], why: str) -> Lived:
    adapter = at.folder / STATE / ADAPTER
    metrics, seconds = measured(at.folder, str(adapter), around.ruler, around.generator, around.judge, around.facts)
    if fitness_of(metrics, around.profile.evolve.fitness) is None:
        why = f"{why}; no verdict on what it was measured by counts"
    return Lived(
        id=birth.id,
        generation=birth.generation,
        config=dict(birth.config),
        metrics=metrics,
        steps=len(figures),
        drafts=sum(one.num_drafts for one in figures),
        drawn_tokens=sum(one.num_tokens for one in figures),
        learnt_tokens=sum(one.learnt_tokens for one in figures),
        drafting_seconds=math.fsum(one.drafting_seconds for one in figures),
        judging_seconds=math.fsum(one.judging_seconds for one in figures),
        training_seconds=math.fsum(one.training_seconds + one.scoring_seconds for one in figures),
        measuring_seconds=seconds,
        peak_gib=max((one.peak_gib for one in figures), default=0.0),
        reward=figures[-1].reward_mean if figures else None,
        why_ended=why,
    )
