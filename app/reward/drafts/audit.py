"""The audit of drafts that passed: whether they are right beyond the tests that rewarded them.

After the learning a sample of the run's rewarded drafts, drawn by hash, is judged a second time: by a sandbox started
anew, with the given tests and with others, on inputs that no test of the training has
(`app.reward.problems.hardening.fresh`). A draft that fails them was a false pass. Where a problem has no such inputs
(it has no reference, or allows several answers), its drafts can't be audited; they are counted by the reason.

    grm/audit.jsonl    what the sample was drawn from, then a line a draft: `Audited`

Called again, drafts that have their line are not judged again. Limit: an audit answers by the same reference, and draws
inputs by the same rules, so what both get wrong stays unseen.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from app.corpus.draws import by_hash
from app.corpus.mining.records import NoProblemError
from app.evaluation.stored_results import VERDICTS
from app.evaluation.verdict_counts import mean_score
from app.files.json_files import append_json_line, read_json_lines, trim_json_lines, write_json_lines
from app.progress import progress, say
from app.records import UNTRUSTED_TIERS, FinishReason, Score, Status, Verdict
from app.reward.drafts.files import read_columns
from app.reward.problems.hardening import VERSION, fresh
from app.reward.records import TrainingProblem
from app.sandbox.local import LocalJudges
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement
from app.settings import SandboxSettings

MOST = 400
"""Drafts of a sample."""
NAME = "audit"
"""By which inputs are drawn, other ones than those of hardening."""
COLUMNS = ("problem_id", "sample", "program", "shape", "status", "finish_reason", "tier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A draft that was rewarded. Made by `passed_in`."""

    problem_id: str
    file: str
    """Of drafts, below grm/."""
    sample: int
    program: str
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What became of a draft of the sample: a line of audit.jsonl."""

    problem_id: str
    source: str
    file: str
    sample: int
    inputs: int
    """Fresh ones, on which it was called; 0 where it could not be audited."""
    status: str
    """Of the second verdict; empty where there is none."""
    detail: str
    why_not: str
    """Why it could not be audited; empty where it was."""
    program: str
    """Of a false pass; else empty."""

    @property
    def is_false(self) -> bool:
        return not self.why_not and self.status != Status.PASSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit came to. Made by `counted`; kept in grm/meta.json, read by the report."""

    passing: int
    """Rewarded drafts, of which the sample was drawn."""
    audited: int
    problems: int
    """That the audited drafts are of."""
    false_passes: int
    rate: Score | None
    """Of false passes: each problem's share, averaged over problems. None where nothing was audited."""
    by_source: Mapping[str, tuple[int, int]]
    """Audited drafts and false passes."""
    not_audited: Mapping[str, int]
    """Drafts of the sample by the reason."""


def audit(
    lines: Path,
    files: Mapping[str, Path],
    problems: Sequence[TrainingProblem],
    settings: SandboxSettings,
    confined: Confinement,
    *,
    seed: int,
) -> Audit:
    """Judge a sample of the files' rewarded drafts again, and say what came of it.

    lines: audit.jsonl. files: those of drafts, by their place below grm/. problems: with hardened tests.
    """
    by_id = {one.given.id: one for one in problems}
    passing = [one for name, path in files.items() for one in passed_in(path, name) if one.problem_id in by_id]
    sample = drawn(passing, seed)
    held = _begin(lines, _identity(sample, settings))
    left: dict[str, list[Passed]] = defaultdict(list)
    for one in sample:
        if (one.problem_id, one.file, one.sample) not in held:
            left[one.problem_id].append(one)
    with closing(LocalJudges(settings, confined)) as judges, progress("grm: audit", len(sample), "drafts") as update:
        jobs = ((by_id[name], drafts) for name, drafts in left.items())
        for found in judges.work_all(lambda supervisor, job: list(_of_problem(supervisor, *job)), jobs):
            for line in found:
                append_json_line(lines, asdict(line))
                held.add((line.problem_id, line.file, line.sample))
            update(len(held))
    audited = counted(read_lines(lines), len(passing))
    say(f"  audit: {told(audited)}")
    return audited


def passed_in(path: Path, name: str) -> Iterator[Passed]:
    """The rewarded drafts of a Parquet file; its tokens are not read."""
    for row in read_columns(path, COLUMNS, Status.PASSED):
        if row["finish_reason"] != FinishReason.LENGTH and row["tier"] not in UNTRUSTED_TIERS:
            yield Passed(
                problem_id=row["problem_id"],
                file=name,
                sample=row["sample"],
                program=row["program"],
                shape=row["shape"],
            )


def drawn(passing: Sequence[Passed], seed: int) -> list[Passed]:
    """The sample, the same on every machine."""
    return sorted(passing, key=lambda one: by_hash(f"{seed} {one.problem_id} {one.file} {one.sample}"))[:MOST]


def read_lines(lines: Path) -> list[Audited]:
    return [Audited(**row) for row in read_json_lines(lines)[1:]]


def counted(found: Sequence[Audited], passing: int) -> Audit:
    """passing: rewarded drafts, of which the sample was drawn."""
    shares: dict[str, list[bool]] = defaultdict(list)
    audited, false = Counter[str](), Counter[str]()
    for one in found:
        if not one.why_not:
            shares[one.problem_id].append(one.is_false)
            audited[one.source] += 1
            false[one.source] += one.is_false
    values = [sum(held) / len(held) for held in shares.values()]
    return Audit(
        passing=passing,
        audited=audited.total(),
        problems=len(shares),
        false_passes=false.total(),
        rate=mean_score(values) if values else None,
        by_source={source: (number, false[source]) for source, number in sorted(audited.items())},
        not_audited=dict(Counter(one.why_not for one in found if one.why_not).most_common()),
    )


def told(found: Audit) -> str:
    """For a person."""
    if not found.passing:
        return "no draft passed, so there is none to judge again"
    left = "; ".join(f"{reason}: {number}" for reason, number in found.not_audited.items())
    without = f"; without a second verdict, {left}" if left else ""
    if found.rate is None:
        return f"none of {found.passing} passing drafts could be judged again{without}"
    low, high = found.rate.interval_95
    return (
        f"{found.false_passes} of {found.audited} passing drafts, of {found.problems} problems, fail on fresh inputs: "
        f"{found.rate.value:.1%} false passes a problem (95 %: {low:.1%} to {high:.1%}){without}"
    )


def _begin(lines: Path, identity: str) -> set[tuple[str, str, int]]:
    """The drafts that have their line; the file is begun anew where its sample was another."""
    trim_json_lines(lines)
    rows = read_json_lines(lines)
    if not rows or rows[0].get("sample_of") != identity:
        write_json_lines(lines, [{"sample_of": identity}])
        return set()
    return {(row["problem_id"], row["file"], row["sample"]) for row in rows[1:]}


def _identity(sample: Sequence[Passed], settings: SandboxSettings) -> str:
    """Of all that decides the lines."""
    facts = [VERSION, NAME, VERDICTS, settings.timeout_s, settings.memory_bytes, *map(asdict, sample)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _of_problem(supervisor: Supervisor, problem: TrainingProblem, drafts: Sequence[Passed]) -> Iterator[Audited]:
    """A second verdict on each of a problem's drafts; copies of a program have one."""
    try:
        asked, inputs = fresh(problem, supervisor, NAME)
        why_not = ""
    except NoProblemError as error:
        asked, inputs, why_not = problem.given, 0, str(error).partition(":")[0]
    verdicts: dict[str, Verdict] = {}
    for one in drafts:
        key = one.shape or one.program
        if not why_not and key not in verdicts:
            verdicts[key] = supervisor.judge(asked, one.program)
        verdict = verdicts.get(key)
        reason = "its second verdict does not count" if verdict and verdict.reward is None else why_not
        is_false = verdict is not None and verdict.reward == 0
        yield Audited(
            problem_id=one.problem_id,
            source=problem.given.source,
            file=one.file,
            sample=one.sample,
            inputs=inputs,
            status=verdict.status if verdict else "",
            detail=verdict.detail if verdict else "",
            why_not=reason,
            program=one.program if is_false else "",
        )
