"""What self-reward takes: drafts at the speed of drafting, what goes through the trainer at that of training, and
verdicts at the sandbox's.

Drafts are those of the solve rates, of all steps, as if no training ended early, and of its validations; that by which
the gate decides is a phase of its own. Critic and teacher are `app.planning.reward_models`. Limit: what the run's
corpus mines is taken for what one environment gave.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.files.table_rows import read_lines
from app.files.user_files import user_path
from app.hardware import num_cores
from app.models.sizes import BYTES, GIB
from app.planning.inputs import (
    EVALUATE_START_S,
    RAY_GIB,
    SFT_START_S,
    TORCH_GIB,
    Inputs,
    Phase,
    drafting_of,
    rounded_down,
    training_speed,
)
from app.planning.reward_models import critic_work, scoring_speed, teacher_gib, teacher_seconds
from app.planning.training_choice import Choice, choice_of
from app.problem_sets import own
from app.problem_sets.problem_files import yaml_files
from app.reward.drafts.audit import MOST as MOST_AUDITED
from app.reward.problems.find import is_of_user, num_untested
from app.reward.problems.held_out import sources_of, validates
from app.reward.turns import asleep_gib, engine_settings, idle_trainer_gib, take_turns, trainer_gib
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from app.training.memory import CONTEXT_GIB, Shape

DRAFT, QUESTION = 250, 200
"""Tokens of a draft, where grm.max_new_tokens allows as many, and of what is asked: Qwen2.5-Coder-0.5B's drafts had 205
to 276 within 448 (docs/log)."""
VARIED = 0.5
"""Share of the groups of which some drafts pass and some fail: between a third and two thirds (docs/log)."""
SELECTED = 2.0
"""Drafts of a problem that imitation learns, four at most and where none is right none; assumed."""
VERDICTS = 100.0
"""Verdicts a second and core, half of what was measured with ten drafts a problem (docs/log): drafts of many problems
share less."""
HARDEN_S = 0.5
"""Seconds of a core for a problem's further tests, and for those of the audit: 441 s of two cores for 1,645 problems
(docs/log)."""
GIVEN = {"mbpp": 218, "leetcode": 1427, "mined": 950}
"""Problems of a source that were left by the guard (docs/log); mined ones of one environment's packages."""
HELD_OUT = {"ours": 54, "mbpp": 23, "leetcode": 199}
"""Problems of a source to validate by that were left by the guard (docs/log)."""
NO_TESTS = "none of its problems has tests: add some to grm.problems, or take an arm that needs none, as grm.arm=rft"
"""Where no problem is left to learn from, which only grpo asks for."""
TRAINED = re.compile(r"^\s+split: train\s*$", re.M)
"""What a problem of ours says that is learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the stage is to do. Made by `work_of`."""

    problems: int
    """That the arm can learn from."""
    rated: int
    """Drafts by the untouched model."""
    drafts: int
    """Drafts of all steps, or of all rounds."""
    how: str
    """In how many steps or rounds, for a person."""
    tokens: int
    """Tokens of a draft."""
    trained: int
    """Tokens that go through the trainer, those of the questions included."""
    validations: int = 0
    """Checkpoints that are validated, the model at the start among them."""
    held_out: int = 0
    """Problems that each of them is asked."""
    validated: int = 0
    """Drafts of all validations."""


def work_of(profile: Profile) -> Work:
    grm = profile.grm
    problems, untested = num_problems(grm.problems), num_untested(grm.problems)
    tested, tokens = problems - untested, draft_tokens(grm)
    if grm.arm in ("rft", "upft"):
        return _imitation(grm, problems, tested, tokens)
    by_teacher = grm.arm == "distill"  # it learns from all groups, and from no solve rates
    varied = 1.0 if by_teacher else VARIED
    groups = grm.steps * grm.prompts_per_step * (1 + grm.refill * (1 - varied))
    learnt = groups * varied * grm.num_drafts * grm.updates_per_step
    validations = 1 + math.ceil(grm.steps / grm.validate_every) if validates(grm) else 0
    held_out = num_held_out(grm) if validations else 0
    return Work(
        problems=problems if by_teacher else tested,
        rated=0 if by_teacher else tested * grm.rate_drafts,
        drafts=int(groups * grm.num_drafts),
        how=f"in {grm.steps} steps",
        tokens=tokens,
        trained=int(learnt * (tokens + QUESTION)),
        validations=validations,
        held_out=held_out,
        validated=validations * held_out * grm.validation_drafts,
    )


def _imitation(grm: GrmSettings, problems: int, tested: int, tokens: int) -> Work:
    """Each round learns from the drafts of all rounds before, and of its own; the first takes those of the rates, which
    problems without tests have none of."""
    how, asked = grm.imitate, min(problems, grm.imitate.prompts)
    rated = asked * tested // max(1, problems)
    if grm.arm == "upft":
        drafts, learnt = asked - rated * min(1, grm.rate_drafts), asked * how.epochs
        tokens_learnt = how.prefix_tokens + how.whole_share * tokens
    else:
        drafts = asked * how.rounds * how.drafts - rated * min(how.drafts, grm.rate_drafts)
        learnt = int(how.rounds * asked * SELECTED / (1 - how.replay_share)) * how.epochs
        tokens_learnt = float(tokens)
    return Work(
        problems=problems,
        rated=tested * grm.rate_drafts,
        drafts=drafts,
        how=f"in {how.rounds if grm.arm == 'rft' else 1} rounds",
        tokens=tokens,
        trained=int(learnt * (tokens_learnt + QUESTION)),
    )


def draft_tokens(grm: GrmSettings) -> int:
    """Tokens of a draft, about."""
    return min(DRAFT, grm.max_new_tokens)


def num_problems(sources: Sequence[str]) -> int:
    """How many problems the sources hold, about. Raises UserError for one that can't be read."""
    total = 0
    for source in sources:
        name, _, path = source.partition("=")
        if name == "ours":
            files = yaml_files(own.place_of(path), "datasets/problems")
            total += sum(len(TRAINED.findall(file.read_text())) for file in files)
        else:
            total += GIVEN.get(name) or sum(1 for _ in read_lines(user_path(source), "grm.problems"))
    return total


def num_held_out(grm: GrmSettings) -> int:
    """How many problems a checkpoint is validated by, about. Raises UserError for a source that can't be read."""
    total = 0
    for source in sources_of(grm):
        if is_of_user(source):
            total += num_problems([source]) - num_untested([source])
        else:
            total += HELD_OUT.get(source.partition("=")[0], grm.validation_problems)
    return min(total, grm.validation_problems)


def grm(inputs: Inputs) -> Phase:
    """The whole stage, as it is set; nothing where it is left out."""
    profile, settings = inputs.profile, inputs.profile.grm
    if settings.when == "never":
        return Phase(name="grm", peak_ram_gib=0.0, how="left out by grm.when=never")
    turns = Turns(inputs)
    choice, engine, work = turns.choice, turns.engine, work_of(profile)
    drawing, drawn_per_s = drafting_of(inputs, engine, work.tokens)
    trained_per_s, is_measured = training_speed(choice, inputs)
    seconds = _seconds(inputs, work, drawn_per_s, trained_per_s)
    critic, notes = critic_work(profile, work.problems, work.tokens + QUESTION), turns.notes
    if critic:
        seconds["critic"] = critic.hours * 3600
        notes = (*notes, str(critic))
    said = ", ".join(f"{name} {time / 3600:.2f} h" for name, time in seconds.items() if name != "start")
    trainer_ram = TORCH_GIB[profile.sft.use_gpu] + inputs.weights_gib + 1.0
    trainer_ram += 0.0 if profile.sft.use_gpu else turns.teacher
    ram = RAY_GIB + TORCH_GIB[engine.use_gpu] + inputs.weights_gib
    ram += max(trainer_ram, critic.gib if critic else 0.0)  # the critic ranks before the trainer starts
    ram += 0.0 if engine.use_gpu else engine.kv_cache_bytes / GIB
    validated = f", {work.validated:,} in {work.validations} validations" if work.validations else ""
    return Phase(
        name="grm",
        peak_ram_gib=ram,
        disk_gib=(work.rated + work.drafts + work.validated) * (work.tokens * 8 + 4e3) / GIB,
        hours=sum(seconds.values()) / 3600,
        detail=turns.fuller(drawing),
        how=f"{work.rated:,} drafts of {work.problems:,} problems and {work.drafts:,} {work.how}{validated}, of "
        f"{work.tokens} tokens at {drawn_per_s:,.0f} a second, {work.trained / 1e6:.1f} M tokens learnt at "
        f"{trained_per_s:,.0f}, {'measured' if is_measured else 'projected'}: {said}",
        problem=turns.problem(drawing) if work.problems else NO_TESTS,
        notes=notes,
        less_vram=turns.less_vram(drawing),
    )


def _seconds(inputs: Inputs, work: Work, drawn_per_s: float, trained_per_s: float) -> dict[str, float]:
    """By what takes them, without the critic's."""
    grm, cores = inputs.profile.grm, num_cores()
    hardened = work.problems + work.held_out + min(MOST_AUDITED, work.problems)
    found = {
        "drafting": (work.rated + work.drafts) * work.tokens / drawn_per_s,
        "training": work.trained / trained_per_s,
        "judging": ((work.rated + work.drafts) / VERDICTS + hardened * HARDEN_S) / cores,
        "start": SFT_START_S + EVALUATE_START_S,
    }
    if work.validations:
        found["validations"] = work.validated * (work.tokens / drawn_per_s + 1 / VERDICTS / cores)
    if grm.arm == "distill":
        found["teacher"] = teacher_seconds(inputs, work.drafts * (work.tokens + QUESTION))
    if grm.kl and grm.arm in ("grpo", "distill"):
        found["base"] = work.trained / grm.updates_per_step / scoring_speed(inputs, inputs.shape)
    return found


def trainer_choice(shape: Shape, config: Any, profile: Profile, vram_gib: float) -> Choice:
    """The stage's training as it is set. vram_gib: what its tensors may take of the card. config: transformers'."""
    grm = profile.grm
    rows = f"corpus.seq_len={grm.seq_len}", f"sft.micro_batch={grm.micro_batch}", f"sft.lora_r={grm.lora_r}"
    return choice_of(shape, config, profile, (*rows, "sft.lora_dropout=0", f"sft.vram_gib={vram_gib:g}"))


class Turns:
    """What trainer and engine take of a card on which they take turns (`app.reward.turns`)."""

    def __init__(self, inputs: Inputs, stage: str = "grm") -> None:
        """stage: that is left out where they have no room."""
        profile, grm = inputs.profile, inputs.profile.grm
        self._inputs, self._settings = inputs, grm
        self._leave_out = f"{stage}.when=never"
        self._shares, self._asleep = take_turns(profile), asleep_gib(profile)
        self._idle = idle_trainer_gib(profile, inputs.config)
        self.teacher = teacher_gib(grm)
        """GiB of a distillation's teacher while it scores; 0 without one."""
        self.engine = engine_settings(profile, inputs.config)
        self.choice = trainer_choice(inputs.shape, inputs.config, profile, trainer_gib(profile))

    def fuller(self, drawing: dict[str, float]) -> dict[str, float]:
        """GiB of the card by what takes them, while drafts are drawn or while they are learnt from. drawing: what the
        engine takes."""
        if not self._inputs.profile.sft.use_gpu:
            return drawing
        trainer = {"trainer": self.choice.memory.total / GIB, "context": CONTEXT_GIB}
        if not self._shares:
            return trainer | {"teacher": self.teacher} if self.teacher else trainer
        times: list[dict[str, float]] = [drawing | {"idle trainer": self._idle}, trainer | {"asleep": self._asleep}]
        if self.teacher:
            times.append({"idle trainer": self._idle, "teacher": self.teacher, "asleep": self._asleep})
        return max(times, key=lambda parts: sum(parts.values()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person has to know of the teacher, where there is one."""
        if not self.teacher:
            return ()
        where = "the card for a pass a step" if self._inputs.profile.sft.use_gpu else "main memory"
        name = self._settings.distill.teacher.name
        return (f"the teacher, {name}, takes {self.teacher:.2f} GiB of {where}",)

    def problem(self, drawing: dict[str, float]) -> str:
        """What can't run, and what to change."""
        if not self.choice.fits:
            limit = f"the {self.choice.profile.sft.vram_gib:.1f} GiB that sft.vram_gib leaves beside the engine"
            return f"a micro-batch takes {self.choice.memory}, more than {limit}: lower grm.micro_batch or grm.seq_len"
        room = self.choice.profile.sft.vram_gib + CONTEXT_GIB - self._idle
        if self.teacher and self._shares and self.teacher > room:
            what = f"the teacher takes {self.teacher:.2f} GiB, more than the {room:.2f} that sft.vram_gib leaves it"
            return f"{what}: take a smaller grm.distill.teacher, or raise sft.vram_gib"
        row = 2 * self._inputs.shape.layers * self._inputs.shape.keys * BYTES[self._inputs.profile.model.dtype]
        if self._shares and drawing["cache"] * GIB < row * self._settings.seq_len:
            what = f"generation.vram_gib leaves the engine {drawing['cache']:.2f} GiB for drafts beside the trainer"
            return f"{what}: take a smaller model or a lower grm.lora_r, or leave it out by {self._leave_out}"
        return ""

    def less_vram(self, drawing: dict[str, float]) -> str:
        """What to change where they take more than there is."""
        if self.engine.engine == "vllm" or not drawing:
            return f"--set generation.vram_gib={rounded_down(self._inputs.limit_gib):g}"
        room = self._inputs.limit_gib - self._idle - sum(drawing.values()) + drawing["cache"]
        if room < 1 / 16:
            return f"set {self._leave_out}"
        return f"--set generation.kv_cache_bytes={int(room * 1024) << 20}"
