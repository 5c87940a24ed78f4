"""Made-up problems, drafts and verdicts for the tests of this folder."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

from app.records import Draft, FinishReason, Problem, Prompt, Sampling, Status, Verdict
from app.reward.drafts.drafting import UNTESTED, shape_of
from app.reward.records import JudgedDraft, TrainingProblem
from app.sandbox.catalogue import FIXTURE

HOT = Sampling(max_new_tokens=64, temperature=1.0)


def problem(name: str, tests: str = FIXTURE.tests) -> TrainingProblem:
    """Asks for f, which sorts."""
    given = dataclasses.replace(FIXTURE, id=name, prompt=f"def f(x):\n    '''Sort ({name}).'''\n", tests=tests)
    question = {"role": "user", "content": f"Complete f of {name}."}
    return TrainingProblem(suite="ours", given=given, problem=given, reference="", question=(question,))


def prompt(name: str, samples: int) -> Prompt:
    return Prompt(id=name, text=f"Complete f of {name}.", samples=tuple(range(samples)))


def draft(name: str, text: str, sample: int, seed: int = 0, adapter: str = "") -> Draft:
    ids = tuple(text.encode())
    return Draft(
        problem_id=name,
        text=text,
        num_prompt_tokens=5,
        num_tokens=len(ids),
        mean_logprob=-0.5,
        finish_reason=FinishReason.STOP,
        adapter=adapter,
        seed=seed,
        sample=sample,
        token_ids=ids,
        token_logprobs=tuple(-0.25 * (one % 5) for one in ids),
    )


def judged(
    status: Status | None,
    *,
    name: str = "a",
    sample: int = 0,
    program: str = "",
    tier: str = "A",
    tokens: int = 4,
    logprob: float = -0.5,
    cut: bool = False,
) -> JudgedDraft:
    """status: None for a problem without tests. A program is one of its own unless it is given."""
    program = program or f"def f(x): return {sample}"
    made = dataclasses.replace(
        draft(name, program, sample),
        num_tokens=tokens,
        mean_logprob=logprob,
        token_ids=(1,) * tokens,
        token_logprobs=(logprob,) * tokens,
        finish_reason=FinishReason.LENGTH if cut else FinishReason.STOP,
    )
    verdict = Verdict(
        problem_id=name, status=status or Status.INFRA, detail="", tier=UNTESTED if status is None else tier
    )
    return JudgedDraft(draft=made, program=program, shape=shape_of(program), verdict=verdict)


def group(marks: str, name: str = "a") -> list[JudgedDraft]:
    """Drafts of one problem: + passed, - wrong, ? the sandbox failed, ! forgeable, / cut at its limit of tokens."""
    statuses = {"+": Status.PASSED, "-": Status.WRONG_ANSWER, "?": Status.INFRA, "!": Status.PASSED, "/": Status.PASSED}
    return [
        judged(statuses[mark], name=name, sample=number, tier="in_process" if mark == "!" else "A", cut=mark == "/")
        for number, mark in enumerate(marks)
    ]


class ScriptedGenerator:
    """Draws the text that `text` gives for a problem's id and a sample; `die` is called before the draft of that
    number."""

    def __init__(self, text: Callable[[str, int], str], *, die: Callable[[], None] | None = None, at: int = -1) -> None:
        self._text, self._die, self._at = text, die, at
        self.drawn: list[tuple[str, int]] = []

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        for one in prompts:
            for sample in one.samples:
                if self._die and len(self.drawn) == self._at:
                    self._die()
                self.drawn.append((one.id, sample))
                yield draft(one.id, self._text(one.id, sample), sample, sampling.seed, adapter)

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        return list(self.stream(prompts, sampling, adapter=adapter))

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        raise NotImplementedError

    def sleep(self) -> None:
        pass


class CountingJudge:
    """Notes what it is given, and says of it what `status` says of the program."""

    def __init__(self, status: Callable[[str], Status] = lambda _: Status.PASSED) -> None:
        self._status = status
        self.programs: list[tuple[str, str]] = []

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for one, programs in jobs:
            self.programs += [(one.id, program) for program in programs]
            yield [Verdict(problem_id=one.id, status=self._status(p), detail=p[:9], tier="A") for p in programs]
