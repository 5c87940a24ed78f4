"""A benchmark's problem with its reference solution, as the readers of this room make it."""

from dataclasses import dataclass

from app.files.python_source import parsed
from app.records import BenchmarkText, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A problem with its reference solution, which only decontamination and the harness's own tests read."""

    problem: Problem
    canonical_solution: str
    inputs: tuple[str, ...] = ()
    """Inputs that the problem's tests don't show, as source."""

    @property
    def benchmark_text(self) -> BenchmarkText:
        problem, solution = self.problem, self.canonical_solution
        completed = problem.prompt + solution
        return BenchmarkText(
            problem_id=problem.id,
            entry_point=problem.entry_point,
            text="\n".join((problem.prompt, solution, problem.tests)),
            solution=completed if parsed(completed) else solution,
            tests=problem.tests,
            inputs=self.inputs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTask(Task):
    """A problem whose tests only say how calls are compared: its text is the question and the right calls."""

    @property
    def benchmark_text(self) -> BenchmarkText:
        text = f"{self.problem.prompt}\n{self.canonical_solution}"
        return BenchmarkText(problem_id=self.problem.id, entry_point=self.problem.entry_point, text=text)
