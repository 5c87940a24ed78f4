"""One candidate more at the end of a generation: the base, trained anew on what all individuals have solved so far
(rejection-sampled tuning, after ReST-EM, arXiv 2312.06585), which one run alone can't have."""

import math
import shutil

import torch

from app.errors import NothingToLearnError
from app.evolution.history import LIVED, read_lived, write_lived
from app.evolution.inheritance import begin
from app.evolution.measuring import measured
from app.evolution.pool import DraftFile, draft_files, pooled, union_lessons
from app.evolution.records import Lived
from app.evolution.trial import STATE, Surroundings
from app.files.json_files import read_json_lines
from app.models.base import ensure_model, load_tokenizer
from app.models.sizes import GIB
from app.progress import say
from app.reward.drafts.asking import asked
from app.reward.imitation.training import imitate_in_files
from app.running.arm_paths import ArmPaths
from app.runs import Run
from app.training.memory import give_back, peak_bytes
from app.training.state import ADAPTER


def imitation_id(generation: int) -> str:
    return f"imitation.{generation}"


def imitate_pool(run: Run, generation: int, around: Surroundings, device: torch.device) -> Lived | None:
    """Train and measure it, or go on with it. Who calls holds a slot of the card. None where nobody solved anything.

    Its tokens are drawn by others, so that it has none of its own but those that it learns."""
    name = imitation_id(generation)
    at = run.individual(name, generation)
    if (at.folder / LIVED).exists() and (at.folder / STATE).exists():
        return read_lived(at.folder)
    if not _lessons(run, at, generation, around):
        return None
    if around.engine_sleeps:
        around.generator.sleep()
    if not at.adapter.exists():
        imitate_in_files(at, around.profile, device, around.deadline)
    give_back()  # the engine is to have what the trainer held
    shutil.rmtree(at.folder / STATE, ignore_errors=True)
    begin(at.adapter, at.folder / STATE)
    metrics, seconds = measured(
        at.folder, str(at.folder / STATE / ADAPTER), around.ruler, around.generator, around.judge, around.facts
    )
    rows = read_json_lines(at.metrics)
    lived = Lived(
        id=name,
        generation=generation,
        config={},
        metrics=metrics,
        steps=len(rows),
        drafts=0,
        drawn_tokens=0,
        learnt_tokens=sum(row["label_tokens"] for row in rows),
        drafting_seconds=0.0,
        judging_seconds=0.0,
        training_seconds=math.fsum(row["seconds"] for row in rows),
        measuring_seconds=seconds,
        peak_gib=peak_bytes(device) / GIB,
        reward=None,
        why_ended="all lessons were learnt",
    )
    write_lived(at.folder, lived)
    for part in (at.folder / "checkpoints", at.adapter):
        shutil.rmtree(part, ignore_errors=True)
    return lived


def _lessons(run: Run, at: ArmPaths, generation: int, around: Surroundings) -> bool:
    """Whether there is anything to imitate; it is chosen once."""
    if at.lessons.exists():
        return True
    profile = around.profile
    problems = asked(around.problems, load_tokenizer(ensure_model(profile.model)), profile.grm)
    files = draft_files(run.evolve_individuals, generation)
    if run.grm_rates.exists():
        files = [DraftFile(path=run.grm_rates), *files]
    pool = pooled(files, {one.problem.given.id for one in problems})
    try:
        lessons = union_lessons(
            at.lessons,
            pool,
            profile,
            problems,
            around.untouched,
            around.generator,
            around.judge,
            answers=run.evolve_pool / "answers.parquet",
            facts=around.facts,
        )
    except NothingToLearnError as error:
        say(f"  {error}")
        return False
    say(f"  {imitation_id(generation)} learns from {len(lessons)} of {pool.num_passed} drafts that passed")
    return True
