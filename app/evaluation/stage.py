"""The evaluation stage: base model against adapter on HumanEval, greedy pass@1, every sample kept.

Drafts come from a Generator as they finish, are judged in the sandbox while it goes on, and are appended to
samples.jsonl one by one, so a killed evaluation loses only what was being drawn or judged. Run: python -m app
evaluate --profile P --run DIR [--full]
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from app.evaluation import humaneval
from app.evaluation.statistics import wilson_interval
from app.progress import progress, say
from app.prompts import STOP, program
from app.records import IN_PROCESS, Draft, Generator, Judge, Problem, Sampling, Status, SuiteResult, Verdict
from app.runs import Run, append_json_line, git_commit, read_json, read_json_lines, write_json, write_json_lines
from app.settings import EvaluationSettings

BASE, SFT = "base", "sft"


def suite_name(protocol: str, num_problems: int | None) -> str:
    return f"humaneval-{protocol}" + (f"-{num_problems}" if num_problems else "")


def full(settings: EvaluationSettings) -> EvaluationSettings:
    """All 164 problems in both protocols, instead of the profile's choice."""
    return settings.model_copy(update={"protocols": ("chat", "completion"), "num_problems": None})


def is_evaluated(run: Run, settings: EvaluationSettings) -> bool:
    suites = [suite_name(protocol, settings.num_problems) for protocol in settings.protocols]
    return all(run.suite_result(suite, candidate).exists() for suite in suites for candidate in (BASE, SFT))


def read_results(run: Run, settings: EvaluationSettings) -> list[SuiteResult]:
    suites = [suite_name(protocol, settings.num_problems) for protocol in settings.protocols]
    paths = [run.suite_result(suite, candidate) for candidate in (BASE, SFT) for suite in suites]
    return [SuiteResult(**read_json(path)["result"]) for path in paths]


def run_evaluation(run: Run, settings: EvaluationSettings, generator: Generator, judge: Judge) -> None:
    """Measure base and adapter in every protocol, as far as they have no result yet."""
    problems = humaneval.evenly_spaced([task.problem for task in humaneval.load()], settings.num_problems)
    for candidate, adapter in ((BASE, ""), (SFT, str(run.sft_adapter))):
        for protocol in settings.protocols:
            suite = suite_name(protocol, settings.num_problems)
            path = run.suite_result(suite, candidate)
            if not path.exists():
                _evaluate(run, suite, protocol, candidate, adapter, problems, settings, generator, judge)
            result = read_json(path)["result"]
            say(f"  {suite}, {candidate}: {result['num_passed']} of {result['num_problems']}")


def _evaluate(
    run: Run,
    suite: str,
    protocol: str,
    candidate: str,
    adapter: str,
    problems: list[Problem],
    settings: EvaluationSettings,
    generator: Generator,
    judge: Judge,
) -> None:
    path = run.suite_samples(suite, candidate)
    samples = {row["draft"]["problem_id"]: row for row in read_json_lines(path)}
    write_json_lines(path, list(samples.values()))  # without the line that a kill cut off
    sampling = Sampling(max_new_tokens=settings.max_new_tokens, stop=STOP[protocol])
    by_id = {problem.id: problem for problem in problems}
    missing = [problem for problem in problems if problem.id not in samples]
    with progress(f"{suite}, {candidate}", len(problems), "problems") as update:
        drafts = generator.stream(missing, sampling, adapter=adapter, protocol=protocol) if missing else ()
        for draft, source, verdict in _judged(drafts, by_id, protocol, judge):
            row = {"draft": asdict(draft), "program": source, "verdict": asdict(verdict)}
            append_json_line(path, row)
            samples[draft.problem_id] = row
            update(len(samples), f"{sum(row['verdict']['status'] == Status.PASSED for row in samples.values())} passed")
    rows = [samples[problem.id] for problem in problems]
    write_json_lines(path, rows)
    result = _result(suite, protocol, candidate, rows)
    write_json(
        run.suite_result(suite, candidate),
        {
            "result": asdict(result),
            "sampling": asdict(sampling),
            "settings": settings.model_dump(),
            "adapter": adapter,
            "parent": str(run.sft_meta) if adapter else "",
            "commit": git_commit(),
        },
    )


def _judged(
    drafts: Iterable[Draft], problems: dict[str, Problem], protocol: str, judge: Judge
) -> Iterator[tuple[Draft, str, Verdict]]:
    """Each draft with its program and verdict; judging goes on while the next draft is drawn."""
    sent: deque[tuple[Draft, str]] = deque()

    def jobs() -> Iterator[tuple[Problem, Sequence[str]]]:
        for draft in drafts:
            problem = problems[draft.problem_id]
            sent.append((draft, program(problem, protocol, draft.text)))
            yield problem, [sent[-1][1]]

    for verdicts in judge.judge_all(jobs()):
        yield (*sent.popleft(), verdicts[0])


def _result(suite: str, protocol: str, candidate: str, rows: list[dict]) -> SuiteResult:
    """Raises RuntimeError when no problem has a verdict that counts: that is no score."""
    verdicts = [row["verdict"] for row in rows]
    masked = [verdict for verdict in verdicts if verdict["status"] == Status.INFRA]
    unsplit = [verdict for verdict in verdicts if verdict["tier"] == IN_PROCESS]
    counted = len(rows) - len(masked) - len(unsplit)
    if not counted:
        raise RuntimeError(f"no problem of {suite} could be judged in the sandbox: {verdicts[0]['detail']}")
    passed_unsplit = sum(verdict["status"] == Status.PASSED for verdict in unsplit)
    passed = sum(verdict["status"] == Status.PASSED for verdict in verdicts) - passed_unsplit
    return SuiteResult(
        suite=suite,
        protocol=protocol,
        candidate=candidate,
        num_problems=counted,
        num_masked=len(masked),
        num_unsplit=len(unsplit),
        num_passed_unsplit=passed_unsplit,
        num_passed=passed,
        pass_at_1=passed / counted,
        interval_95=wilson_interval(passed, counted),
        status_counts=dict(Counter(verdict["status"] for verdict in verdicts)),
        mean_logprob=sum(row["draft"]["mean_logprob"] for row in rows) / len(rows),
        num_tokens=sum(row["draft"]["num_tokens"] for row in rows),
        tiers=dict(Counter(verdict["tier"] for verdict in verdicts if verdict["tier"])),
    )
