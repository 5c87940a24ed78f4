"""On-policy distillation: the model draws, and a larger one says of each drawn token how likely it finds it.

What falls is the reverse KL, token by token, on the model's own drafts (GKD, arXiv 2306.13649, with lambda = 1; "On-
Policy Distillation", Thinking Machines Lab, 2025): the advantage of a token is log p teacher - log p student, without
a baseline and without what later tokens come to. It needs no tests, learns from every draft, those that were cut at
their limit included, and tells of every token, where a verdict tells one bit of a whole draft. What is gained
comes from another model, so this is not self-improvement.

The teacher is asked about the token ids that were drawn, in the prompt as the student was asked it. Both must read
tokens alike, which `check_same_tokens` makes sure of; that their heads may have other numbers of rows beyond the
vocabulary (Qwen pads them) does not matter, because only drawn tokens are looked up.

It is held by the trainer's process, as a frozen transformers model: a second vLLM would take 2 GiB of a card for
itself alone and minutes to start, to compute one pass over some hundred drafts. On a card it is loaded for each step
while the trainer and the engine wait, and given back. By arithmetic, of 8 GiB a student of 0.5B holds 0.3 meanwhile
(adapter, moments), a teacher of 1.5B in bfloat16 2.9, and its pass over TOKENS_A_PASS tokens under 1, beside
what the sleeping engine keeps; where the memory runs out all the same it goes on with fewer tokens a pass, which
changes no score. Four bits would make room for a larger one, but their rounding would be learnt.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.corpus.rows.packing import Sample
from app.errors import UserError
from app.models.base import ensure_model, load_tokenizer
from app.reward.by_reward.credit import Credit, Credited
from app.reward.by_reward.rows import sample_of
from app.reward.records import JudgedDraft
from app.reward.turns import TOKENS_A_PASS
from app.settings import GenerationSettings, ModelSettings
from app.stage_settings.grm import GrmSettings

if TYPE_CHECKING:
    import torch

    from app.generation.scoring import Pair
    from app.generation.transformers_engine import TransformersEngine

FEWEST_A_PASS = 256
"""To which TOKENS_A_PASS are halved where a card's memory runs out; a longer draft is scored in parts."""


def check_teacher(model: ModelSettings, settings: GrmSettings) -> None:
    """Raise UserError for a teacher whose tokens are not the model's, before anything is drawn."""
    teacher = settings.distill.teacher
    ours, theirs = (load_tokenizer(ensure_model(one)) for one in (model, teacher))
    check_same_tokens(ours, theirs, model.name, teacher.name)


def check_same_tokens(ours: Any, theirs: Any, model: str, teacher: str) -> None:
    """Raise UserError unless two tokenizers have one vocabulary, and the same tokens begin a text and end a turn."""
    way_out = "so it can't say how likely the model's tokens are: take a larger model of the same family"
    differing = sorted(ours.get_vocab().items() ^ theirs.get_vocab().items())
    if differing:
        raise UserError(
            f"grm.distill.teacher.name={teacher} has another vocabulary than {model} ({len(differing)} entries differ, "
            f"{differing[0][0]!r} is one of them), {way_out}"
        )
    for role in ("bos_token", "eos_token"):
        mine, other = getattr(ours, role), getattr(theirs, role)
        if mine != other:
            raise UserError(
                f"grm.distill.teacher.name={teacher} has the {role} {other!r}, and {model} {mine!r}, {way_out}"
            )


def teacher_of(settings: GrmSettings, device: "torch.device") -> "TransformersEngine":
    """The engine that holds the teacher, to be asked for scores alone."""
    from app.generation.transformers_engine import TransformersEngine

    generation = GenerationSettings(
        use_gpu=device.type == "cuda", max_model_len=settings.seq_len, max_num_batched_tokens=TOKENS_A_PASS
    )
    return TransformersEngine(settings.distill.teacher, generation)


def by_teacher(
    teacher: "TransformersEngine",
    *,
    before: Callable[[], None] = lambda: None,
    after: Callable[[], None] = lambda: None,
) -> Credit:
    """Learn every drawn token by how much likelier the teacher finds it than the student did when it drew it.

    before, after: called around the teacher's pass, for a card that it has to make room on.
    """

    def credited(prompts: Mapping[str, Sequence[int]], drafts: Sequence[JudgedDraft]) -> Credited:
        start = time.perf_counter()
        drawn = [one.draft for one in drafts if one.draft.token_ids]
        before()
        scores = _scores(teacher, [(prompts[draft.problem_id], draft.token_ids) for draft in drawn])
        after()
        samples: dict[str, list[Sample]] = {}
        gaps: list[float] = []
        for draft, score in zip(drawn, scores, strict=True):
            gap = [ours - theirs for ours, theirs in zip(draft.token_logprobs, score, strict=True)]
            gaps += gap
            sample = sample_of(prompts[draft.problem_id], draft, [-one for one in gap])
            samples.setdefault(draft.problem_id, []).append(sample)
        return Credited(samples=samples, teacher_gaps=gaps, seconds=time.perf_counter() - start)

    return credited


def _scores(teacher: "TransformersEngine", pairs: Sequence["Pair"]) -> list[list[float]]:
    """The pairs' scores, with fewer tokens a pass from then on where a card's memory runs out."""
    from app.training.out_of_memory import descend

    def lower() -> str:
        tokens = teacher.max_tokens
        if tokens <= FEWEST_A_PASS:
            return ""
        teacher.max_tokens = tokens // 2
        return f"{teacher.max_tokens:,} tokens at once instead of {tokens:,}"

    return descend(functools.partial(teacher.score_ids, pairs), lower, "the pass of the teacher")
