"""Judge and engine of `tests.sums` for the tests of what is imitated: nothing is run, and what is drawn is counted."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from app.generation.transformers_engine import TransformersEngine
from app.records import Draft, Problem, Prompt, Sampling, Status, Verdict


class LikesSums:
    """A judge of `tests.sums` that runs nothing: the last word of a program decides."""

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, programs in jobs:
            yield [
                Verdict(problem_id=problem.id, detail="", tier="full", status=self._status(problem, program))
                for program in programs
            ]

    def _status(self, problem: Problem, program: str) -> Status:
        is_right = program.strip().endswith("f=sum;") and not problem.id.endswith("never")
        return Status.PASSED if is_right else Status.WRONG_ANSWER


class EndedError(Exception):
    pass


class Counting:
    """Notes what an engine draws, and by which adapter; ends before a draft of this number."""

    def __init__(self, engine: TransformersEngine, ends_at: int = -1) -> None:
        self._engine, self._left = engine, ends_at
        self.drawn = Counter[str]()

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        is_greedy = sampling.temperature == 0
        if is_greedy:  # an untrained model's greedy answer goes on without end
            sampling = dataclasses.replace(sampling, temperature=1.0, seed=9)
        for draft in self._engine.stream(prompts, sampling, adapter=adapter):
            if not self._left:
                raise EndedError
            self._left -= 1
            self.drawn[f"{'greedy' if is_greedy else 'drawn'} {Path(adapter).parent.name}"] += 1
            yield draft
