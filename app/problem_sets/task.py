"""A benchmark's problem with its reference solution, as the readers of this room make it."""

from dataclasses import dataclass

from app.records import BenchmarkText, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A problem with its reference solution, which only decontamination and the harness's own tests read."""

    problem: Problem
    canonical_solution: str

    @property
    def benchmark_text(self) -> BenchmarkText:
        text = "\n".join((self.problem.prompt, self.canonical_solution, self.problem.tests))
        return BenchmarkText(problem_id=self.problem.id, entry_point=self.problem.entry_point, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTask(Task):
    """A problem whose tests only say how calls are compared: its text is the question and the right calls."""

    @property
    def benchmark_text(self) -> BenchmarkText:
        text = f"{self.problem.prompt}\n{self.canonical_solution}"
        return BenchmarkText(problem_id=self.problem.id, entry_point=self.problem.entry_point, text=text)
