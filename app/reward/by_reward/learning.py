"""One training by reward, or by distillation, from problems to its adapter: all that needs neither Ray nor a pipeline.

    FOLDER/drafts/step-00001-0.parquet   a step's drafts and verdicts (`app.reward.drafts.drafting`)
    FOLDER/metrics.jsonl                 figures (`outlets`), and validation.jsonl (`validation`)
    FOLDER/best/ recent/ fallback.json   what is kept beside the checkpoints (`keeping`)
    FOLDER/drafts-kl/                    the drafts after the fallback
    FOLDER/cut.json                      there, where the deadline ended it
    FOLDER/adapter/                      what came of it

Which adapter that is: the best validated checkpoint's where the watch or a deadline ended the training; where all steps
were taken, or nothing more could be learnt, the last one's, or the mean of the last ones (`grm.mean_of_checkpoints`),
because the best of many validations that differ by chance is no better than the last.

Where validation fell and nothing held the policy near its base, it goes on once from its best checkpoint with
`grm.kl_fallback` instead. Started again, a training goes on from the last checkpoint that its Outlet has, and learns
from the drafts that it had drawn by then.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from app.files.json_files import write_json
from app.models.adapter_means import mean_adapter
from app.models.base import ensure_model, load_tokenizer
from app.models.sizes import GIB
from app.progress import say
from app.records import Generator, Judge
from app.reward.by_reward.base import with_base
from app.reward.by_reward.credit import Credit, by_tests
from app.reward.by_reward.distillation import by_teacher, check_teacher, teacher_of
from app.reward.by_reward.grpo import Rollouts, training_settings
from app.reward.by_reward.keeping import FALLBACK, Fallback, Kept, adapter_only, make_whole
from app.reward.by_reward.meter import Meter
from app.reward.by_reward.one_card import stay, turns
from app.reward.by_reward.outlets import Files, Outlet, progress_of
from app.reward.by_reward.policy import Policy
from app.reward.by_reward.validation import ValidationFile, Validator
from app.reward.by_reward.watch import StepFigures, Validation, Watch
from app.reward.drafts.asking import asked
from app.reward.records import TrainingProblem
from app.reward.turns import trainer_gib
from app.running.arm_paths import ArmPaths
from app.running.deadlines import NEVER, Deadline
from app.settings import Profile
from app.stage_settings.grm import GrmSettings
from app.training import loop, lora
from app.training.feed import Batch
from app.training.memory import choose_keep, shape_of
from app.training.out_of_memory import Ladder
from app.training.saved_activations import Keep
from app.training.state import ADAPTER

Enough = Callable[[Sequence[StepFigures]], bool]


def learn(
    folder: Path,
    profile: Profile,
    problems: Sequence[TrainingProblem],
    generator: Generator,
    judge: Judge,
    device: torch.device,
    outlet: Outlet | None = None,
    *,
    held_out: Sequence[TrainingProblem] = (),
    facts: Mapping[str, Any] = {},
    engine_sleeps: bool = False,
    enough: Enough = lambda figures: False,
    weights: Mapping[str, float] = {},
    deadline: Deadline = NEVER,
) -> Path:
    """Train an adapter by `profile.grm`, whose arm is grpo or distill, until all steps are taken, nothing more can be
    learnt, or the watch says so; returns FOLDER/adapter, which is made unless it is there.

    outlet: keeps figures and checkpoints in the folder, if nothing is said. held_out: problems to validate by. facts:
    what else decides what is drawn and judged, kept with the drafts. engine_sleeps: the engine gives the card back
    while the trainer works, for a card that can't hold what both need. enough(figures): asked before each step with
    those of the steps that are taken, whether the training is to end there. weights: how often problems come up, by id
    (`grpo.order_of`); all alike, if nothing is said. deadline: ends the training after the step that it falls into.
    Raises UserError where nothing can be learnt from the problems (`app.reward.by_reward.grpo`), and for a teacher of
    other tokens.
    """
    adapter = folder / ADAPTER
    if adapter.exists():
        return adapter
    learning = _Learning(
        folder, profile, problems, generator, judge, device, outlet or Files(folder, profile.grm.updates_per_step),
        held_out=held_out, facts=facts, engine_sleeps=engine_sleeps, enough=enough, weights=weights, deadline=deadline,
    )  # fmt: skip
    watch = learning.train()
    if learning.falls_back(watch):
        watch = learning.train()
    learning.finish(watch)
    return adapter


def why_ended(
    figures: Sequence[StepFigures], grm: GrmSettings, validations: Sequence[Validation] = (), *, is_cut: bool = False
) -> str:
    """Of a training that has ended, as a sentence's end. is_cut: by its deadline."""
    if is_cut:
        return "its time was over"
    if reason := Watch(figures, validations, grm).reason:
        return reason
    return "all steps were taken" if len(figures) == grm.steps else "no drafts of a problem differed any more in reward"


def keep_of(model: Any, profile: Profile, micro_batch: int, device: torch.device) -> Sequence[Keep]:
    """What fused layers keep: all without a card, with one what fits beside a sleeping engine."""
    shape = shape_of(model.config)
    if device.type != "cuda":
        return [Keep.ALL] * shape.layers
    sft = profile.sft.model_copy(update={"micro_batch": micro_batch, "lora_r": profile.grm.lora_r})
    return choose_keep(shape, profile.model, sft, profile.grm.seq_len, trainer_gib(profile) * GIB) or ()


class _Learning:
    """A training, taken up where it was ended; the arguments are those of `learn`."""

    def __init__(
        self,
        folder: Path,
        profile: Profile,
        problems: Sequence[TrainingProblem],
        generator: Generator,
        judge: Judge,
        device: torch.device,
        outlet: Outlet,
        *,
        held_out: Sequence[TrainingProblem],
        facts: Mapping[str, Any],
        engine_sleeps: bool,
        enough: Enough,
        weights: Mapping[str, float],
        deadline: Deadline,
    ) -> None:
        grm, base = profile.grm, ensure_model(profile.model)
        if grm.arm == "distill":
            check_teacher(profile.model, grm)
        tokenizer = load_tokenizer(base)
        self._folder, self._profile, self._device, self._outlet = folder, profile, device, outlet
        self._generator, self._judge, self._facts = generator, judge, facts
        self._enough, self._weights, self._deadline = enough, weights, deadline
        self._cut = ArmPaths(folder).cut
        self._cut.unlink(missing_ok=True)
        self._problems, self._pad_id = asked(problems, tokenizer, grm), tokenizer.pad_token_id or 0
        self._settings = training_settings(profile.sft, grm)
        self._model = lora.load_for_training(base, profile.model, self._settings, profile.seed, device)
        self._before, self._after = turns(self._model, device, generator) if engine_sleeps else (stay, stay)
        self._sleep: Callable[[], None] = generator.sleep if engine_sleeps else stay
        self._credit = self._credit_of()
        self._ladder_of_base = Ladder(cuts=False)
        self._kept = Kept(folder, grm.mean_of_checkpoints)
        self._validations = ValidationFile(folder / "validation.jsonl", held_out)
        self._validator: Validator | None = None
        if held_out and grm.validate_every:
            self._validator = Validator(
                asked(held_out, tokenizer, grm), grm, generator, judge,
                seed=profile.seed, facts=facts, before_drafts=self._before, after_drafts=self._after,
            )  # fmt: skip
        size = f"{grm.prompts_per_step} x {grm.num_drafts} drafts"
        say(f"  {len(self._problems)} problems, at most {grm.steps} steps of {size}")

    def train(self) -> Watch:
        """Take the steps that are left; returns what is known at their end."""
        grm, updates = self._profile.grm, self._profile.grm.updates_per_step
        fallback = self._kept.fallback
        start = self._start(fallback)
        taken = progress_of(start)
        self._kept.forget_after(taken.step // updates)
        self._validations.forget_after(taken.step // updates)
        watch = Watch(self._outlet.figures(), self._validations.read(), grm)
        drafts = self._folder / ("drafts-kl" if fallback else "drafts")
        drafts.mkdir(parents=True, exist_ok=True)
        if self._validator and not watch.validations:
            self._kept.keep_best(adapter_only(self._save_adapter))  # before: a validation says that it is there
            self._validate(watch, drafts, 0)
        kl = fallback.kl if fallback else grm.kl
        policy = Policy(clip_low=grm.clip_low, clip_high=grm.clip_high, cap=grm.importance_cap, kl=kl)
        meter = Meter(updates, taken.tokens, policy, self._device, (watch.figures.append, self._outlet.on_figures))
        rollouts = Rollouts(
            self._problems,
            grm,
            drafts,
            self._generator,
            self._judge,
            self._credit,
            save_adapter=self._save_adapter,
            pad_id=self._pad_id,
            seed=self._profile.seed,
            facts=self._facts,
            on_drawn=meter.on_drawn,
            before_drafts=self._before,
            after_drafts=self._after,
            with_more=lambda step, batches: self._with_base(step, batches, kl),
            is_over=lambda: bool(watch.reason) or self._enough(watch.figures) or self._is_cut(watch.figures),
            weights=self._weights,
        )
        loop.train(
            self._model,
            rollouts,
            self._settings,
            grm.steps * updates,
            device=self._device,
            on_step=meter.on_step,
            on_checkpoint=lambda update, save: self._on_checkpoint(watch, drafts, update, save),
            resume_from=start,
            keep=keep_of(self._model, self._profile, self._settings.micro_batch, self._device),
            weigh=policy,
        )
        return watch

    def falls_back(self, watch: Watch) -> bool:
        """Whether the training is to go on from its best checkpoint, held near the base; it is noted."""
        grm = self._profile.grm
        if not watch.fall or watch.reason != watch.fall or grm.kl or not grm.kl_fallback or self._kept.fallback:
            return False
        step = watch.best_step
        assert step is not None, "what fell was measured"
        self._kept.fall_back(Fallback(step=step, kl=grm.kl_fallback, reason=watch.fall))
        say(f"  {watch.fall}: the training goes on from step {step} with grm.kl={grm.kl_fallback:g}")
        return True

    def finish(self, watch: Watch) -> None:
        """Write FOLDER/adapter, and say which one it is."""
        target, recent = self._folder / ADAPTER, self._kept.recent
        if watch.reason:
            say(f"  the training was stopped: {watch.reason}")
        is_cut = self._cut.exists()
        if is_cut:
            say(f"  the training was ended at its deadline, after {len(watch.figures)} steps")
        if (watch.reason or is_cut) and watch.best_step is not None:
            best = self._kept.best
            make_whole(target, lambda place: shutil.copytree(best / ADAPTER, place, dirs_exist_ok=True))
            say(f"  the adapter is that of step {watch.best_step}, which solved most in validation")
        elif not watch.reason and len(recent) > 1:
            error = mean_adapter(recent, target)
            say(f"  the adapter is the mean of the last {len(recent)} checkpoints but for {error:.2%} of its norm")
        else:
            make_whole(target, self._save_adapter)

    def _is_cut(self, figures: Sequence[StepFigures]) -> bool:
        """Whether the deadline ends the training here, which is noted: one step is taken in any case."""
        if not figures or not self._deadline.is_over():
            return False
        write_json(self._cut, {"steps": len(figures)})
        return True

    def _start(self, fallback: Fallback | None) -> Path | None:
        """The checkpoint to go on from: the Outlet's last, unless that was learnt before the fallback."""
        last = self._outlet.last()
        if fallback is None or last is not None and (last / FALLBACK).exists():
            return last
        state = self._kept.best_state
        self._outlet.go_back(fallback.step, state)
        lora.restore(self._model, self._kept.best / ADAPTER)  # of the start there is no more to restore
        return state

    def _on_checkpoint(self, watch: Watch, drafts: Path, update: int, save: Callable[[Path], None]) -> None:
        grm = self._profile.grm
        step = update // grm.updates_per_step
        if self._validator and (step % grm.validate_every == 0 or step == grm.steps):
            self._validate(watch, drafts, step)
            if watch.best_step == step:
                self._kept.keep_best(save)
        self._kept.keep_recent(step, self._save_adapter)

        def save_marked(place: Path) -> None:
            save(place)
            self._kept.mark(place)

        self._outlet.on_checkpoint(update, save_marked)

    def _validate(self, watch: Watch, drafts: Path, step: int) -> None:
        assert self._validator is not None
        adapter = drafts / "now"
        if step:
            self._save_adapter(adapter)
        found = self._validator.measured(drafts, step, str(adapter) if step else "")
        watch.validations.append(found)
        self._validations.append(found)
        say(f"  validation after step {step}: {found.mean:.1%} of {len(found.rates)} problems")

    def _with_base(self, step: int, batches: list[Batch], kl: float) -> list[Batch]:
        """All with the base's log-probabilities where they are learnt from; else the first, before a checkpoint."""
        measured = len(batches) if kl else int(step % self._profile.grm.checkpoint_every == 0)
        if not measured:
            return batches
        told = with_base(self._model, batches[:measured], self._settings.loss_chunk, self._ladder_of_base)
        return [*told, *batches[measured:]]

    def _credit_of(self) -> Credit:
        grm = self._profile.grm
        if grm.arm != "distill":
            return by_tests(by_deviation=grm.by_deviation)
        teacher = teacher_of(grm, self._device)
        gives_back = self._device.type == "cuda"
        return by_teacher(teacher, before=self._sleep, after=teacher.sleep if gives_back else lambda: None)

    def _save_adapter(self, place: Path) -> None:
        lora.save(self._model, place)
