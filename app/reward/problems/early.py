"""What can be found wrong with the sources of problems before anything runs: a corpus and an SFT may take days, and a
stage that is begun sets aside what it made under other settings.
"""

from app.reward.problems.find import OF_RUN, load, of_arm
from app.reward.problems.held_out import held_out, sources_of, to_measure_by, unseen, validates
from app.settings import EvaluationSettings
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings

ON_HUB = "mbpp"
"""The source that is fetched unless its file is given."""


def check(settings: GrmSettings, decided_by: EvaluationSettings | None = None, *, fetches: bool = True) -> None:
    """Raise what `load`, `of_arm` and `held_out` would, of all that is there before a corpus is built.

    decided_by: as `load` has it. fetches: what is on the Hub counts as there.
    """
    to_come = {OF_RUN} if fetches else {OF_RUN, ON_HUB}
    here = [source for source in settings.problems if source not in to_come]
    problems = load(here, decided_by=decided_by) if here else []
    if len(here) == len(settings.problems):
        of_arm(problems, settings.arm)
    if validates(settings):
        sources = sources_of(settings)
        if to_come.isdisjoint(sources):
            held_out(settings, problems, decided_by=decided_by)
        else:
            unseen(settings, [one for one in sources if one not in to_come], problems, decided_by=decided_by)


def check_evolution(settings: EvolveSettings, grm: GrmSettings, *, fetches: bool = True) -> None:
    """The same of the problems that evolution learns from and measures by."""
    to_come = {OF_RUN} if fetches else {OF_RUN, ON_HUB}
    here = [source for source in grm.problems if source not in to_come]
    problems = load(here) if here else []
    if len(here) == len(grm.problems):
        of_arm(problems, "grpo")
    if to_come.isdisjoint((*settings.validation, *grm.problems)):
        to_measure_by(settings, grm, problems)
