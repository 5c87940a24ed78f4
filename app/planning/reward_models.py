"""The models that self-reward needs beside the one that learns, and what they take: the critic, the teacher.

The critic's hours are those of its learning and of its scores on held-out problems, and, as if it were found to rank
best, of those that rank the drafts. A teacher's are those of its passes over all that is drawn, and on a card of its
loads, one a step.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from app.hardware import num_cores
from app.models.config import config_of
from app.models.sizes import BYTES, GIB
from app.planning import speed
from app.planning.inputs import TORCH_GIB, Inputs
from app.reward.problems.find import num_untested, some_tested
from app.reward.turns import TOKENS_A_PASS
from app.settings import ModelSettings, Profile
from app.stage_settings.grm import GrmSettings
from app.training.memory import Shape, shape_of

CRITIC_LEARNS, CRITIC_SCORES = 175 * 134.5e6, 430 * 134.5e6
"""Parameters a second and core, of a critic's learning and of its scores: SmolLM2-135M's tokens a second (docs/log)."""
RIGHT = 0.5
"""Drafts of problems with tests that pass, and so are ranked; assumed."""
CRITIC_ROWS_GIB = 2.0
"""What a critic's rows take beside its weights; assumed."""
LOADED_GIB_S = 1.0
"""At which a teacher's weights come back to a card; assumed."""
SCORING_GIB = 1.0
"""What a teacher's pass takes beside its weights, at most (`app.reward.by_reward.distillation`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticWork:
    """What a critic takes. Made by `critic_work`."""

    learnt: int
    """Drafts, at most."""
    scored: int
    hours: float
    gib: float
    """Main memory of its process."""
    cores: int

    def __str__(self) -> str:
        return (
            f"the critic learns from {self.learnt:,} drafts at most and scores {self.scored:,}, {self.hours:.2f} h of "
            f"{self.cores} core(s) and {self.gib:.1f} GiB of main memory"
        )


def models_beside(settings: GrmSettings) -> Mapping[str, ModelSettings]:
    """Those that are used, by the setting that names them; none where self-reward is left out."""
    found: dict[str, ModelSettings] = {}
    if settings.when == "never":
        return found
    if trains_critic(settings):
        found["grm.critic.model"] = settings.critic.model
    if settings.arm == "distill":
        found["grm.distill.teacher"] = settings.distill.teacher
    return found


def trains_critic(settings: GrmSettings) -> bool:
    """Whether a critic has something to rank and to learn from: right and wrong drafts of problems with tests."""
    if settings.arm != "rft" or settings.critic.train == "never" or settings.rate_drafts < 2:
        return False
    is_wanted = settings.critic.train == "always" or num_untested(settings.problems) > 0
    return is_wanted and some_tested(settings.problems)


def teacher_gib(settings: GrmSettings) -> float:
    """What the teacher takes while it scores, of the card or, without one, of main memory; 0 without a teacher."""
    if settings.arm != "distill":
        return 0.0
    return _weights_gib(shape_of_model(settings.distill.teacher), settings.distill.teacher) + SCORING_GIB


def teacher_seconds(inputs: Inputs, tokens: int) -> float:
    """What the teacher's passes take in all steps together. tokens: that it scores, those of the questions included."""
    grm = inputs.profile.grm
    teacher = grm.distill.teacher
    shape = shape_of_model(teacher)
    loads = grm.steps * _weights_gib(shape, teacher) / LOADED_GIB_S if inputs.profile.sft.use_gpu else 0.0
    return loads + tokens / scoring_speed(inputs, shape)


def scoring_speed(inputs: Inputs, shape: Shape) -> float:
    """Tokens a second of a pass by the trainer's process that only scores; without a card it has one core."""
    if inputs.card and inputs.profile.sft.use_gpu:
        return speed.scoring_speed(inputs.card, shape, TOKENS_A_PASS)
    return CRITIC_SCORES / (shape.linear + shape.others)


def critic_work(profile: Profile, problems: int, tokens: int) -> CriticWork | None:
    """None where no critic is trained. problems: of all sources; tokens: of a draft with its question."""
    grm, how = profile.grm, profile.grm.critic
    untested = num_untested(grm.problems)
    if not trains_critic(grm):
        return None
    shape, tested = shape_of_model(how.model), problems - untested
    learnt = min(how.max_drafts, int(tested * (1 - how.held_out)) * how.drafts_a_problem)
    compared = int(tested * how.held_out) * min(how.best_of, grm.rate_drafts)
    rounds = grm.imitate.rounds * (grm.imitate.rounds + 1) // 2  # each ranks the drafts of those before it too
    candidates = (untested + RIGHT * tested) * min(1, grm.imitate.prompts / max(1, problems))
    ranked = int(candidates * grm.imitate.drafts * rounds)
    cores = how.num_cpus or (num_cores() if profile.generation.use_gpu else 1)  # the generator has the others
    row = min(how.seq_len, tokens)
    seconds = row * (learnt * how.epochs / CRITIC_LEARNS + (compared + ranked) / CRITIC_SCORES)
    return CriticWork(
        learnt=learnt,
        scored=compared + ranked,
        hours=seconds * (shape.linear + shape.others) / cores / 3600,
        gib=TORCH_GIB[False] + _weights_gib(shape, how.model) + CRITIC_ROWS_GIB,
        cores=cores,
    )


@functools.cache
def shape_of_model(model: ModelSettings) -> Shape:
    """Kept, since a plan asks for it again and again, and a Hub that can't be reached each time takes seconds."""
    return shape_of(config_of(model)[0])


def _weights_gib(shape: Shape, model: ModelSettings) -> float:
    return (shape.linear + shape.others) * BYTES[model.dtype] / GIB
