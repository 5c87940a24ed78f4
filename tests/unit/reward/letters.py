"""Learning by reward in seconds: a real tiny model that writes letters, and judges whose optimum is known."""

import json
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch

from app.overrides import with_overrides
from app.profiles import smoke
from app.records import Draft, Generator, Judge, Problem, Prompt, Sampling, Status, Verdict
from app.reward.by_reward import learning
from app.reward.records import TrainingProblem
from app.running.deadlines import NEVER, Deadline
from app.settings import Profile

CPU = torch.device("cpu")
STEPS = 6
DRAFTS = 64
"""Of a step."""
LEAST = 0.3
"""Share of vowels with which a draft passes."""


def training_problem(name: str) -> TrainingProblem:
    problem = Problem(id=name, source="toy", licence="MIT", prompt="", entry_point="f", tests="assert f() == 1")
    question = ({"role": "user", "content": " ".join(name)},)
    return TrainingProblem(suite="mbpp", given=problem, problem=problem, reference="", question=question)


PROBLEMS = [training_problem(name) for name in ("ada", "bob", "cyd", "dan")]
HELD_OUT = [training_problem(string.ascii_lowercase[start : start + 3]) for start in range(24)]


class LikesVowels:
    """A judge whose optimum is known: a draft passes if three in ten of its letters are vowels, as five of 26 are.

    spoils: of problems that are held out, drafts with too many of them fail, so validation first rises and then
    falls."""

    def __init__(self, *, spoils: bool = False) -> None:
        self._spoilt = {one.given.id for one in HELD_OUT} if spoils else set()

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, programs in jobs:
            most = 0.42 if problem.id in self._spoilt else 1.0
            least = 0.25 if problem.id in self._spoilt else LEAST
            yield [verdict(problem, is_right=least <= vowels(program) <= most) for program in programs]


class RefusesAll(LikesVowels):
    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, programs in jobs:
            yield [verdict(problem, is_right=False) for _ in programs]


def vowels(text: str) -> float:
    """Their share."""
    return sum(letter in "aeiou" for letter in text) / max(1, len(text.split()))


def verdict(problem: Problem, *, is_right: bool) -> Verdict:
    status = Status.PASSED if is_right else Status.WRONG_ANSWER
    return Verdict(problem_id=problem.id, detail="", tier="full", status=status)


def profile_of(model: Path, *settings: str) -> Profile:
    return with_overrides(
        smoke(),
        [
            "model.source=path", f"model.name={model}", "grm.prompts_per_step=4", "grm.num_drafts=16",
            "grm.max_new_tokens=32", "grm.seq_len=128", "grm.refill=0", "grm.micro_batch=8", f"grm.steps={STEPS}",
            "grm.warmup_steps=0", "grm.learning_rate=0.01", "grm.checkpoint_every=2", "generation.batch_size=64",
            *settings,
        ],
    )  # fmt: skip


def learn(
    folder: Path,
    engine: Generator,
    profile: Profile,
    judge: Judge | None = None,
    *,
    validates: bool = False,
    deadline: Deadline = NEVER,
) -> list[dict[str, float]]:
    """Lines of metrics.jsonl."""
    held_out = HELD_OUT if validates else []
    learning.learn(folder, profile, PROBLEMS, engine, judge or LikesVowels(), CPU, held_out=held_out, deadline=deadline)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


SAME = ("step", "reward_mean", "share_with_variance", "num_tokens", "entropy", "grad_norm", "mismatch", "kl",
        "teacher_kl")  # fmt: skip
"""Figures that a training has again when it goes on."""


def same(rows: Sequence[dict[str, float]]) -> list[list[float]]:
    return [[row[name] for name in SAME] for row in rows]


class EndedError(Exception):
    pass


class Ending:
    """An engine that ends a training in the middle of a step's drafts."""

    def __init__(self, engine: Generator, after: int) -> None:
        self._engine, self._left = engine, after
        self.drawn = 0

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        for draft in self._engine.stream(prompts, sampling, adapter=adapter):
            if not self._left:
                raise EndedError
            self._left -= 1
            self.drawn += 1
            yield draft
