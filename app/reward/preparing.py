"""What self-reward and evolution do alike before and after they learn: problems with further tests, what decides drafts
and verdicts, and whose problems were learnt from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.corpus.manifest import Attributed, write_attribution
from app.progress import progress
from app.reward.drafts.asking import Asked
from app.reward.problems.find import licences
from app.reward.problems.hardening import Hardened
from app.reward.problems.store import made_once
from app.reward.records import TrainingProblem
from app.sandbox.tiers import confinement
from app.settings import Profile


def hardened(folder: Path, profile: Profile, problems: Sequence[TrainingProblem], stage: str) -> list[Hardened]:
    """The problems with further tests, made on this machine's cores where the folder has none, or had others."""
    made = []
    with progress(f"{stage}: further tests", len(problems), "problems") as update:
        for one in made_once(folder, problems, profile.sandbox, confinement()):
            made.append(one)
            update(len(made))
    return made


def facts_of(profile: Profile) -> dict[str, Any]:
    """What decides drafts and verdicts beside prompts and sampling."""
    sandbox = profile.sandbox
    return {
        "model": profile.model.model_dump(),
        "sandbox": {"timeout_s": sandbox.timeout_s, "memory_bytes": sandbox.memory_bytes},
    }


def write_whose(path: Path, learnt: Sequence[Asked]) -> None:
    """Whose problems were learnt from: a row a source and licence, with their questions' tokens and their ids."""
    rows = []
    for source, licence in sorted(licences([one.problem for one in learnt])):
        theirs = [one for one in learnt if (one.problem.given.source, one.problem.given.licence) == (source, licence)]
        tokens = sum(len(one.prompt_ids) for one in theirs)
        ids = [one.problem.given.id for one in theirs]
        rows.append(Attributed(source, "", licence, "problem", "", "", tokens=tokens, files=ids))
    write_attribution(path, rows)
