"""Settings of self-reward (`app.reward`), gathered with the others in `app.settings.Profile`."""

from typing import Literal

from pydantic import Field, model_validator

from app.stage_settings.base import Settings
from app.stage_settings.model import ModelSettings


class DistillSettings(Settings):
    """On-policy distillation (`app.reward.by_reward.distillation`): grm.arm=distill."""

    teacher: ModelSettings = ModelSettings(source="hub", name="Qwen/Qwen2.5-Coder-1.5B-Instruct", dtype="bfloat16")
    """A larger model of the same tokens, which says how likely it finds what the model drew."""

    @model_validator(mode="after")
    def _teacher_is_whole(self) -> "DistillSettings":
        if self.teacher.quantization != "none":
            what = f"grm.distill.teacher.quantization={self.teacher.quantization}"
            raise ValueError(f"{what} has a rounding that would be learnt: set it to none")
        return self


class CriticSettings(Settings):
    """The critic (`app.reward.critic.critic`): a small model that learns from judged drafts to rank others, on the
    CPU."""

    train: Literal["auto", "always", "never"] = "auto"
    """auto: where drafts are imitated and some problem has no tests, so that nothing else can choose among its drafts;
    never: the best of the rankings that need no critic is used."""
    model: ModelSettings = ModelSettings(source="package", name="SmolLM2-135M-Instruct")
    lora_r: int = Field(default=16, ge=1, le=256)
    lora_alpha: int = Field(default=32, ge=1, le=1024)
    learning_rate: float = Field(default=3e-4, gt=0, le=0.1)
    epochs: int = Field(default=2, ge=1, le=100)
    drafts_a_problem: int = Field(default=8, ge=2, le=256)
    """Learnt from at most, one half of them right."""
    max_drafts: int = Field(default=2000, ge=2)
    """Learnt from at most, of all problems."""
    held_out: float = Field(default=0.3, gt=0, lt=1)
    """Share of the problems, drawn by hash, that is not learnt from and on which rankings are compared."""
    best_of: int = Field(default=10, ge=2, le=256)
    """Drafts of a problem of which the best-ranked one is taken, when rankings are compared."""
    seq_len: int = Field(default=1024, ge=32, le=32_768)
    """Tokens of a row, and of a problem with its program at most: what is longer loses its end."""
    micro_batch: int = Field(default=2, ge=1, le=1024)
    """Rows of a pass."""
    batch: int = Field(default=24, ge=1, le=4096)
    """Drafts of a training step."""
    checkpoint_every: int = Field(default=10, ge=1)
    batch_size: int = Field(default=16, ge=1, le=1024)
    """Drafts that are scored at once."""
    num_cpus: int | None = Field(default=None, ge=1, le=1024)
    """Cores that its actor reserves and uses; None: those of a machine that are free when it starts."""


class ImitateSettings(Settings):
    """The arms that imitate drafts: rft learns right ones (after ReST-EM, arXiv 2312.06585), upft the beginnings of any
    (arXiv 2503.02875). They draw and train as the other settings of `grm` say, but for what is said here."""

    prompts: int = Field(default=2000, ge=1)
    """Problems that drafts are drawn of, chosen by hash; all, where there are fewer."""
    drafts: int = Field(default=10, ge=1, le=256)
    """Of each problem in a round; rft. Round 1 takes the drafts of the solve rates and draws what is missing."""
    rounds: int = Field(default=2, ge=1, le=4)
    """rft: each draws with the adapter of the one before and trains the base anew on the drafts of all."""
    replay_share: float = Field(default=0.25, ge=0, lt=1)
    """rft: of the samples, the untouched model's own greedy answers to ordinary questions
    (`app.reward.imitation.replay`)."""
    prefix_tokens: int = Field(default=32, ge=1, le=8192)
    """upft: tokens of a beginning."""
    whole_share: float = Field(default=0.1, ge=0, le=1)
    """upft: problems of which a draft is learnt to its end."""
    learning_rate: float = Field(default=1e-4, gt=0, le=0.01)
    """The peak of a cosine."""
    warmup_fraction: float = Field(default=0.05, ge=0, le=0.5)
    epochs: int = Field(default=2, ge=1, le=100)
    batch: int = Field(default=64, ge=1, le=65_536)
    """Samples of a step."""


class GrmSettings(Settings):
    """Self-reward (`app.reward`): the model learns from its own drafts, which tests have judged. GRPO's settings are
    those of one-card runs at this size (Dr. GRPO, arXiv 2503.20783; DAPO, arXiv 2503.14476)."""

    when: Literal["auto", "always", "never"] = "auto"
    """auto: the pipeline has this stage for an instruct model, since it asks in dialogues. Whatever this says, an
    adapter that does harm is not kept (`app.evaluation.gate`)."""
    arm: Literal["grpo", "rft", "upft", "distill"] = "grpo"
    """How is learnt (`app.reward.arms`): by reward, by imitation of right drafts or of drafts' beginnings, or from a
    larger model."""
    distill: DistillSettings = DistillSettings()
    imitate: ImitateSettings = ImitateSettings()
    problems: tuple[str, ...] = Field(default=("ours",), min_length=1)
    """What is learnt from (`app.reward.problems.find`): ours, mbpp, mbpp=FILE, leetcode=FILE, mined (by the run's
    corpus), mined=FOLDER, or FILE.jsonl."""
    rate_drafts: int = Field(default=16, ge=0, le=256)
    """Drafts of every problem with tests by the untouched model, for its solve rates; 0: none, all problems are learnt
    from."""
    rate_band: tuple[float, float] = (0.0, 0.9)
    """grpo: solve rates between which, both left out, problems are learnt from: others' drafts all get the same
    reward."""
    lora_r: int = Field(default=32, ge=1, le=256)
    lora_alpha: int = Field(default=32, ge=1, le=1024)
    learning_rate: float = Field(default=7e-5, gt=0, le=0.01)
    """grpo, distill: constant after the warm-up. With steps, drafts and refill as measured (docs/reward.md)."""
    warmup_steps: int = Field(default=3, ge=0)
    """In which the rate rises, update by update; at most half of the steps."""
    steps: int = Field(default=40, ge=1, le=10_000)
    prompts_per_step: int = Field(default=32, ge=1, le=4096)
    """Groups that a step learns from, as many as can be had."""
    num_drafts: int = Field(default=16, ge=2, le=256)
    """Drafts of a group."""
    refill: float = Field(default=0.0, ge=0, le=8)
    """Groups in which all drafts fail or all pass teach nothing; so many others are drawn for each of them, once."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    max_new_tokens: int = Field(default=512, ge=16, le=8192)
    """A draft that is cut there is not learnt from; but in distill, to its last token."""
    timeout_s: float = Field(default=1.0, gt=0, le=600)
    """CPU time of a draft's program and its judge together, at most sandbox.timeout_s. Of 4,974 drafts
    that passed the slowest took 0.23 s; those that never end take most of the judges' time (docs/log)."""
    seq_len: int = Field(default=2048, ge=128, le=32_768)
    """Tokens of a row, into which drafts are packed with their prompts."""
    micro_batch: int = Field(default=4, ge=1, le=1024)
    """Rows of a pass."""
    reward: Literal["tests", "format", "shuffled"] = "tests"
    """format, shuffled: controls that know nothing of right and wrong (`app.reward.by_reward.controls`)."""
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.28, gt=0)
    importance_cap: float = Field(default=2.0, ge=1)
    """What a token's probability under the trainer may be of that under the engine, at most."""
    updates_per_step: int = Field(default=1, ge=1, le=16)
    """How often a step's drafts are learnt from."""
    by_deviation: bool = False
    """Divide advantages by their group's deviation, as GRPO first did (arXiv 2402.03300)."""
    kl: float = Field(default=0.0, ge=0, le=10)
    """How strongly each token is held near the base (`app.reward.by_reward.policy`)."""
    kl_fallback: float = Field(default=1e-3, ge=0, le=10)
    """grm.kl with which a training whose validation fell goes on from its best checkpoint, once; 0: it ends there."""
    least_entropy: float = Field(default=0.2, ge=0, lt=1)
    """A training is stopped when the entropy of its drafts is less than so much of its start's. It falls without harm
    where replies get exact, as calls do."""
    most_length: float = Field(default=2.0, gt=0, le=1000)
    """A training is stopped when its drafts are so many times as long as at its start. Replies that are to hold several
    calls grow without harm."""
    checkpoint_every: int = Field(default=5, ge=1)
    validate_every: int = Field(default=0, ge=0)
    """Steps between validations of a checkpoint (`app.reward.by_reward.validation`), a multiple of checkpoint_every; 0:
    none."""
    validation: tuple[str, ...] = ()
    """Sources of the problems to validate by, written as in grm.problems, whose held-out halves are taken, and the
    whole of a FILE.jsonl; none: those of grm.problems."""
    validation_problems: int = Field(default=64, ge=1, le=10_000)
    """At most, drawn by hash."""
    validation_drafts: int = Field(default=1, ge=1, le=64)
    """Of each; one is greedy, several are drawn at grm.temperature."""
    mean_of_checkpoints: int = Field(default=1, ge=1, le=16)
    """A training that is not stopped gives the mean of its last so many checkpoints (`app.models.adapter_means`)."""
    critic: CriticSettings = CriticSettings()

    @model_validator(mode="after")
    def _something_can_be_learnt(self) -> "GrmSettings":
        if self.max_new_tokens >= self.seq_len:
            what = f"grm.max_new_tokens={self.max_new_tokens} leaves no room for a prompt in rows of {self.seq_len}"
            raise ValueError(f"{what}: raise grm.seq_len")
        if not 0 <= self.rate_band[0] < self.rate_band[1]:
            raise ValueError(f"grm.rate_band={self.rate_band} holds no solve rate: give 0 or more, then a larger one")
        if self.validate_every % self.checkpoint_every:
            what = f"grm.validate_every={self.validate_every} is no multiple of grm.checkpoint_every"
            raise ValueError(f"{what}={self.checkpoint_every}, and a checkpoint is what is validated: change either")
        return self
