"""A critic's model of two layers that learns in a second, and drafts in which one word says what is right."""

from pathlib import Path

from app.overrides import with_overrides
from app.profiles import smoke
from app.records import Status
from app.reward.records import JudgedDraft, TrainingProblem
from app.settings import Profile
from tests.tiny_model import write_model
from tests.unit.reward.made_drafts import judged, problem

RIGHT, WRONG = "sorted", "list"


def critic_profile(folder: Path, *changes: str) -> Profile:
    """The smoke profile with a critic of its own model, below a folder."""
    write_model(folder, ["Yes", "No", f"{RIGHT}(x)", f"{WRONG}(x)"])
    given = [
        "grm.critic.model.source=path", f"grm.critic.model.name={folder}", "grm.critic.seq_len=64",
        "grm.critic.micro_batch=8", "grm.critic.batch=16", "grm.critic.learning_rate=0.03",
        "grm.critic.epochs=3", "grm.critic.checkpoint_every=10", "grm.critic.max_drafts=2000", "sandbox.num_workers=2",
    ]  # fmt: skip
    return with_overrides(smoke(), [*given, *changes])


def planted(num_problems: int, num_drafts: int = 8) -> tuple[list[TrainingProblem], list[JudgedDraft]]:
    """Problems with as many right as wrong drafts, which one word tells apart: likely ones are wrong, all are of one
    length, and half of them agree on either."""
    names = [f"planted/{number}" for number in range(num_problems)]
    return [problem(name) for name in names], [one for name in names for one in drafts_of(name, num_drafts)]


def drafts_of(name: str, number: int, *, is_tested: bool = True) -> list[JudgedDraft]:
    statuses = [Status.WRONG_ANSWER if sample % 2 else Status.PASSED for sample in range(number)]
    return [
        judged(
            status if is_tested else None,
            name=name,
            sample=sample,
            program=f"def f(x): {sample}; return {RIGHT if status == Status.PASSED else WRONG}(x)",
            logprob=-0.5 if status == Status.PASSED else -0.4,
        )
        for sample, status in enumerate(statuses)
    ]
