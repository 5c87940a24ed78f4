"""Problems to validate checkpoints by, of the sources of `app.reward.problems.find`, and none that is learnt from.

Of those for validation the tuning half is taken (`app.evaluation.suites.splits`), so that the other half decides unseen
whether the training is kept. Limit: of "ours" the gate takes both halves.
"""

from collections.abc import Sequence
from pathlib import Path

from app.corpus.draws import by_hash
from app.errors import UserError
from app.evaluation.suites.splits import Half
from app.progress import say
from app.reward.problems.find import KNOWN, by_id, is_of_user
from app.reward.problems.user_file import words_of
from app.reward.records import TrainingProblem
from app.settings import EvaluationSettings
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings


def held_out(
    settings: GrmSettings,
    learnt: Sequence[TrainingProblem],
    mined: Path | None = None,
    decided_by: EvaluationSettings | None = None,
) -> list[TrainingProblem]:
    """The problems that checkpoints are validated by, drawn by hash over the held-out ones of settings.validation, or
    of settings.problems. Only where settings.validation names them: `ours`, because the gate decides by them, and a
    user's file, which says nothing of splits. None where none is to be validated. The rest is as `unseen` has it.

    Raises UserError where there is none although there should be, for two of one id, and for one that is in `learnt`.
    """
    if not validates(settings):
        return []
    sources = sources_of(settings)
    found = unseen(settings, sources, learnt, mined, decided_by)
    if not found:
        raise UserError(
            f"grm.validate_every={settings.validate_every} asks for problems with tests that are not learnt from, of "
            f"which {', '.join(sources or settings.problems)} holds none: name a source by grm.validation ({KNOWN}), "
            "or set grm.validate_every=0"
        )
    return sorted(found, key=lambda one: by_hash(one.given.id))[: settings.validation_problems]


def to_measure_by(
    settings: EvolveSettings, grm: GrmSettings, learnt: Sequence[TrainingProblem], mined: Path | None = None
) -> list[TrainingProblem]:
    """The problems by which evolution's individuals are measured: the held-out ones of settings.validation, or of
    grm.problems, of the half by which the gate decides too, since what is chosen among individuals is no more tuning;
    of "ours" both halves.

    Raises UserError where there is none, for two of one id, and for one that is in `learnt`."""
    sources = settings.validation or [one for one in grm.problems if not is_of_user(one)]
    named = bool(settings.validation)
    found = unseen(grm, sources, learnt, mined, each=named, half="validation") if sources else []
    if not found:
        asked = ", ".join(settings.validation or grm.problems)
        raise UserError(
            f"evolution measures individuals by problems with tests that are not learnt from, of which {asked} holds "
            f"none: name a source by evolve.validation ({KNOWN}), or set evolve.when=never"
        )
    return found


def validates(settings: GrmSettings) -> bool:
    return settings.validate_every > 0 and settings.arm in ("grpo", "distill")


def sources_of(settings: GrmSettings) -> list[str]:
    """Of problems to validate by."""
    implied = (one for one in settings.problems if not is_of_user(one) and one.partition("=")[0] != "ours")
    return list(settings.validation or implied)


def unseen(
    settings: GrmSettings,
    sources: Sequence[str],
    learnt: Sequence[TrainingProblem],
    mined: Path | None = None,
    decided_by: EvaluationSettings | None = None,
    *,
    each: bool | None = None,
    half: Half = "tuning",
) -> list[TrainingProblem]:
    """The sources' held-out problems. What `learnt` asks under another id, or has no tests, is left out and counted.

    mined, decided_by: as `app.reward.problems.find.load` has them; each, half: as `by_id` there. Raises UserError for
    a source that can't be read, or is named by settings.validation and holds none.
    """
    each = bool(settings.validation) if each is None else each
    found = by_id(sources, "validation", mined, decided_by, each=each, half=half)
    if both := sorted(found.keys() & {one.given.id for one in learnt}):
        raise UserError(f"the problem {both[0]!r} is in grm.validation and is learnt from too: leave one of them out")
    asked = {words_of(one.given.prompt) for one in learnt}
    kept = [one for one in found.values() if one.has_tests and words_of(one.given.prompt) not in asked]
    if len(kept) < len(found):
        left_out = f"{len(found) - len(kept)} of {len(found)} problems to validate by left out"
        say(f"  {left_out}, because they have no tests or are learnt from under another id")
    return kept
