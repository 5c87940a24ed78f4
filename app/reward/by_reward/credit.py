"""What of a step's drafts is learnt, and by which advantage of each token: by tests here, by a teacher in
`app.reward.by_reward.distillation`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.corpus.rows.packing import Sample
from app.reward.by_reward.advantages import groups_of
from app.reward.by_reward.rows import sample_of
from app.reward.records import JudgedDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """What some drafts teach. Made by `Credit`; read by `app.reward.by_reward.grpo.Rollouts`."""

    samples: Mapping[str, Sequence[Sample]]
    """The drafts to learn, by problem; of problems that teach something."""
    teacher_gaps: Sequence[float] = ()
    """log p student - log p teacher of each token that a teacher was asked about, nats."""
    seconds: float = 0.0
    """That the teacher took."""


Credit = Callable[[Mapping[str, Sequence[int]], Sequence[JudgedDraft]], Credited]
"""credit(prompts, drafts): prompts: token ids by problem, of all the drafts' problems."""


def by_tests(*, by_deviation: bool = False) -> Credit:
    """Learn the groups in which some drafts pass and some fail (`app.reward.by_reward.advantages`): GRPO's."""

    def credited(prompts: Mapping[str, Sequence[int]], drafts: Sequence[JudgedDraft]) -> Credited:
        samples: dict[str, list[Sample]] = {}
        for group in groups_of(drafts, by_deviation=by_deviation):
            if group.advantages is not None:
                prompt = prompts[group.problem_id]
                pairs = zip(group.drafts, group.advantages, strict=True)
                learnt = [sample_of(prompt, one.draft, gain) for one, gain in pairs if one.reward is not None]
                samples[group.problem_id] = learnt
        return Credited(samples=samples)

    return credited
