"""The evaluation passes right programs, fails wrong ones, counts honestly, and goes on where it was killed."""

import dataclasses
import json
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.measure import Measurement, measure_candidate, plan_measurement
from app.evaluation.stage import check, read_result
from app.evaluation.suites import humaneval
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.registry import evenly_spaced, get_suite
from app.evaluation.suites.suite import ProgramSuite, structural_verdict
from app.evaluation.verdict_counts import Tally
from app.files.json_files import read_json, read_json_lines
from app.problem_sets.task import Task
from app.prompting.protocols import Message
from app.records import (
    Draft,
    FinishReason,
    Judge,
    Problem,
    ProblemStyle,
    Prompt,
    Sampling,
    Status,
    SuiteResult,
    Verdict,
)
from app.runs import Run
from app.sandbox.supervisor import Supervisor
from app.settings import EvaluationSettings, SandboxSettings

HOT = Sampling(max_new_tokens=8, temperature=0.5)


class Tokenizer:
    """As much of one as the completion protocol needs."""

    chat_template = None
    bos_token_id = 0

    def __call__(self, text: str) -> Any:
        return type("Encoding", (), {"input_ids": [1]})


class ScriptedGenerator:
    """Draws what it is told to, draft by draft; text by problem id, or a function of prompt and sample."""

    def __init__(self, texts: Any, die_after: int | None = None) -> None:
        self._texts, self._die_after, self.asked = texts, die_after, [0]

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        for prompt in prompts:
            for sample in prompt.samples:
                if self._die_after is not None and self.asked[0] >= self._die_after:
                    raise InterruptedError("killed")
                self.asked[0] += 1
                text = self._texts[prompt.id] if isinstance(self._texts, dict) else self._texts(prompt, sample)
                yield Draft(
                    problem_id=prompt.id,
                    text=text,
                    num_prompt_tokens=1,
                    num_tokens=len(text),
                    mean_logprob=-1.0,
                    finish_reason=FinishReason.STOP,
                    adapter=adapter,
                    seed=sampling.seed,
                    sample=sample,
                )


class StatedJudge:
    """Says what it is told to of each program, in the tier A."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        for problem, programs in jobs:
            yield [
                Verdict(
                    problem_id=problem.id,
                    status=self._status(problem, program),
                    detail="x",
                    cpu_seconds=0,
                    wall_seconds=0,
                    tier="A",
                )
                for program in programs
            ]


def measured(
    folder: Path, generator: Any, judge: Judge, tasks: list[Task], *, suite: Any = None, samples: int = 1, **facts: Any
) -> tuple[Run, SuiteResult]:
    run = Run(folder)
    what = Measurement(
        label="m",
        suite=suite or HumanEval(),
        protocol="completion",
        candidate="base",
        adapter="",
        tasks=tasks,
        sampling=HOT,
        num_samples=samples,
    )
    measure_candidate(
        run, plan_measurement(run, what, facts, Tokenizer()), {"contamination": None}, Tokenizer(), generator, judge
    )
    return run, read_result(run.suite_result("m", "base"))


def test_a_result_counts_what_the_sandbox_says_of_each_draft(tmp_path: Path) -> None:
    tasks = evenly_spaced(humaneval.load(), 4)
    texts = {task.problem.id: "\n" + task.canonical_solution for task in tasks}
    texts[tasks[0].problem.id] = "\n    return None\n"
    texts[tasks[1].problem.id] = "\n    while True: pass\n"
    with Supervisor(SandboxSettings(timeout_s=0.5)) as supervisor:
        run, base = measured(tmp_path, ScriptedGenerator(texts), supervisor, tasks)
        assert base.tiers == {supervisor.tier: 4}
    assert (base.num_passed, base.num_samples, base.num_masked, base.pass_at["1"].value) == (2, 4, 0, 0.5)
    assert base.status_counts == {"wrong_answer": 1, "timeout": 1, "passed": 2}
    rows = read_json_lines(run.suite_samples("m", "base"))
    assert {row["draft"]["problem_id"] for row in rows} == texts.keys()
    result = read_json(run.suite_result("m", "base"))
    assert list(result["pass_rates"].values()) == [0, 0, 1, 1]
    assert result["sampling"]["temperature"] == 0.5 and len(result["prompts_sha256"]) == 64


def test_what_the_sandbox_failed_on_is_left_out_and_counted(tmp_path: Path) -> None:
    tasks = evenly_spaced(humaneval.load(), 4)
    broken = tasks[2].problem.id
    judge = StatedJudge(lambda problem, _: Status.INFRA if problem.id == broken else Status.PASSED)
    _, base = measured(tmp_path, ScriptedGenerator(lambda *_: ""), judge, tasks)
    assert (base.num_passed, base.num_samples, base.num_masked, base.pass_at["1"].value) == (3, 3, 1, 1.0)
    assert base.pass_at["1"].interval_95[0] < 0.5, "three of three is no certainty"
    with pytest.raises(UserError, match="could be judged"):
        measured(tmp_path / "all", ScriptedGenerator(lambda *_: ""), StatedJudge(lambda *_: Status.INFRA), tasks)


def by_sample(prompt: Prompt, sample: int) -> str:
    return f"{prompt.id} {sample}"


def even_passes(problem: Problem, program: str) -> Status:
    return Status.PASSED if int(program[-1]) % 2 == 0 else Status.WRONG_ANSWER


def test_a_killed_evaluation_goes_on_with_the_samples_that_are_missing(tmp_path: Path) -> None:
    tasks, judge = humaneval.load()[:3], StatedJudge(even_passes)
    _, whole = measured(tmp_path / "whole", ScriptedGenerator(by_sample), judge, tasks, samples=5)
    with pytest.raises(InterruptedError):
        measured(tmp_path / "killed", ScriptedGenerator(by_sample, die_after=7), judge, tasks, samples=5)
    path = Run(tmp_path / "killed").suite_samples("m", "base")
    kept = len(read_json_lines(path))
    with path.open("a") as file:
        file.write('{"draft": {"problem_id": "HumanEval/2", "sam')  # what a kill in the middle of a write leaves
    rest = ScriptedGenerator(by_sample)
    run, resumed = measured(tmp_path / "killed", rest, judge, tasks, samples=5)
    assert kept >= 6 and rest.asked == [15 - kept]
    assert resumed == whole and resumed.pass_at["1"].value == pytest.approx(3 / 5)
    names = [(row["draft"]["problem_id"], row["draft"]["sample"]) for row in read_json_lines(path)]
    assert len(names) == len(set(names)) == 15


def test_samples_drawn_with_other_settings_are_never_mixed(tmp_path: Path) -> None:
    tasks, judge = humaneval.load()[:1], StatedJudge(lambda *_: Status.PASSED)
    measured(tmp_path, ScriptedGenerator(by_sample), judge, tasks, engine="one")
    with pytest.raises(UserError, match=r"measured with other settings \(engine: 'one' -> 'two'\)"):
        measured(tmp_path, ScriptedGenerator(by_sample), judge, tasks, engine="two")
    harder = [dataclasses.replace(tasks[0], problem=dataclasses.replace(tasks[0].problem, tests="assert f(1) == 2"))]
    with pytest.raises(UserError, match="problems_sha256"):
        measured(tmp_path, ScriptedGenerator(by_sample), judge, harder, engine="one")


def test_what_the_sandbox_failed_on_is_drawn_again(tmp_path: Path) -> None:
    tasks = humaneval.load()[:2]
    fails = StatedJudge(lambda *_: Status.INFRA)
    with pytest.raises(UserError):
        measured(tmp_path, ScriptedGenerator(by_sample), fails, tasks)
    works = StatedJudge(lambda *_: Status.PASSED)
    generator = ScriptedGenerator(by_sample)
    assert measured(tmp_path, generator, works, tasks)[1].num_passed == 2 and generator.asked == [2]


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    tasks, judge = humaneval.load()[:2], StatedJudge(lambda *_: Status.PASSED)

    def peak(folder: str, samples: int) -> int:
        tracemalloc.start()
        generator = ScriptedGenerator(lambda *_: "x" * 2000)
        measured(tmp_path / folder, generator, judge, tasks, samples=samples)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak("few", 20)
    assert peak("many", 1000) < few + (1 << 20), "2,000 samples of 4 KB are 8 MB"


class Counting(ProgramSuite):
    """Asks until the model says stop, scored by structure."""

    name = "counting"

    def completion(self, problem: Problem, replies: Sequence[str]) -> str | None:
        return None if replies and "stop" in replies[-1] else f"{problem.prompt} after {len(replies)}"

    def chat(self, problem: Problem, replies: Sequence[str]) -> list[Message] | None:
        return None

    def verdict(self, problem: Problem, protocol: str, replies: Sequence[str]) -> Verdict | None:
        return structural_verdict(problem, Status.PASSED if len(replies) == 3 else Status.WRONG_ANSWER, "")


def test_dialogues_are_drawn_turn_by_turn_and_survive_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = humaneval.load()[0]
    tasks = [dataclasses.replace(task, problem=dataclasses.replace(task.problem, style=ProblemStyle.CALLS))]

    def text(prompt: Prompt, sample: int) -> str:
        said = int(prompt.text.rpartition(" ")[2])
        return "stop" if said == sample else "go"

    judge = StatedJudge(None)
    monkeypatch.setattr("app.evaluation.measure.OPEN_DIALOGUES", 2)
    with pytest.raises(InterruptedError):  # 1 + 2 turns of the first two samples, 2 of the next
        measured(tmp_path, ScriptedGenerator(text, die_after=5), judge, tasks, suite=Counting(), samples=4)
    kept = read_json_lines(Run(tmp_path).suite_samples("m", "base"))
    assert {row["draft"]["sample"] for row in kept} == {0, 1}, "what was finished when it died"
    generator = ScriptedGenerator(text)
    run, result = measured(tmp_path, generator, judge, tasks, suite=Counting(), samples=4)
    assert (result.num_samples, result.num_passed, result.tiers) == (4, 1, {"structure": 4})
    rows = {row["draft"]["sample"]: row for row in read_json_lines(run.suite_samples("m", "base"))}
    assert rows[2]["replies"] == ["go", "go", "stop"] and "replies" not in rows[0]
    assert rows[2]["draft"]["num_tokens"] == 8, "over all turns"


@pytest.mark.parametrize(("count", "ids"), [(4, ["0", "41", "82", "123"]), (None, None)])
def test_a_part_of_the_suite_is_always_the_same_and_spread_out(count: int | None, ids: list[str] | None) -> None:
    tasks = humaneval.load()
    chosen = [task.problem.id.removeprefix("HumanEval/") for task in evenly_spaced(tasks, count)]
    assert chosen == (ids or [task.problem.id.removeprefix("HumanEval/") for task in tasks])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"suites": ("humanevl",)}, "did you mean 'humaneval'"),
        ({"num_samples": 4}, "temperature=0 would draw the same sample"),
        ({"problems": ("mbpp",)}, "write SUITE=PATH"),
        ({"problems": ("mbpp=/no/file",)}, "the problems of mbpp are not at /no/file"),
        ({"problems": ("mbp=/no/file",)}, "unknown suite 'mbp'"),
    ],
)
def test_settings_that_can_not_be_measured_get_one_sentence(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(EvaluationSettings(**settings))


def test_every_suite_follows_the_protocol() -> None:
    from app.evaluation.suites.registry import SUITES

    for name in SUITES:
        suite = get_suite(name)
        assert suite.name == name and suite.place and isinstance(suite.stop, tuple)


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    tasks = humaneval.load()[:2]
    run, result = measured(tmp_path, ScriptedGenerator(by_sample), StatedJudge(even_passes), tasks, samples=10)
    assert set(result.pass_at) == {"1", "10"} and result.pass_at["10"].value == 1.0
    stored = json.loads(run.suite_result("m", "base").read_text())["result"]
    assert SuiteResult(**stored).num_samples == 20 and read_result(run.suite_result("m", "base")) == result


def test_a_result_says_what_share_of_replies_parsed_was_a_whole_answer_and_ended() -> None:
    problem = Problem(id="a", source="s", licence="MIT", prompt="", entry_point="add", tests="")
    tally = Tally([problem])
    for program, reason in (
        ("def add(a, b):\n    return a + b", FinishReason.STOP),
        ("def other():\n    pass", FinishReason.STOP),
        ("def add(a, b):\n    return a +", FinishReason.LENGTH),
        ("", FinishReason.STOP),
    ):
        draft = {"num_tokens": 1, "mean_logprob": 0.0, "finish_reason": reason}
        tally.add("a", Status.PASSED, "A", draft, program)
    shares = {"parsed": pytest.approx(2 / 3), "defined": pytest.approx(1 / 3), "ended": pytest.approx(2 / 3)}
    assert tally.result("s", "chat", "base").replies == shares, "of three, since the fourth holds no program"


def test_a_stored_draft_is_read_back_without_its_tokens() -> None:
    draft = Draft(
        problem_id="a", text="b", num_prompt_tokens=1, num_tokens=2, mean_logprob=-0.5,
        finish_reason=FinishReason.STOP, adapter="", seed=0, token_ids=(1, 2), token_logprobs=(-0.4, -0.6),
    )  # fmt: skip
    assert Draft(**draft.stored()) == dataclasses.replace(draft, token_ids=(), token_logprobs=())
