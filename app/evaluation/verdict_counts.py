"""Count verdicts as they come, in memory that grows with the problems and not with their samples."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from app.errors import UserError
from app.evaluation.statistics import detectable_difference, pass_at_k, score_interval
from app.files.python_source import parsed
from app.prompting.replies import answers
from app.records import IN_PROCESS, FinishReason, Problem, Score, Status, SuiteResult

KS = (1, 10, 100)
DISCORDANCE = 0.1
"""Share of problems assumed to change between two candidates, for a result by itself."""


class Tally:
    """Add each sample's status and tier; `result` is what they come to."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        held = list(problems)
        self._categories = {problem.id: problem.difficulty for problem in held}
        self._entry_points = {problem.id: problem.entry_point for problem in held}
        self._judged: Counter[str] = Counter()  # samples that count, by problem
        self._passed: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._tiers: Counter[str] = Counter()
        self._unsplit = self._passed_unsplit = 0
        self._drafts = self._tokens = 0
        self._programs = self._parsed = self._defined = self._ended = 0
        self._logprob_sum = 0.0

    def add(
        self, problem_id: str, status: str, tier: str, draft: dict[str, Any] | None = None, program: str = ""
    ) -> None:
        """draft: fields of `records.Draft`, where the sample is ours; program: what was run of it."""
        if draft is not None and program:
            self._programs += 1
            self._ended += draft["finish_reason"] == FinishReason.STOP
            tree = parsed(program)
            self._parsed += tree is not None
            self._defined += tree is not None and answers(tree, self._entry_points.get(problem_id, ""))
        passed = status == Status.PASSED
        self._statuses[str(status)] += 1
        if tier:
            self._tiers[tier] += 1
        if draft is not None and draft["num_tokens"]:  # a prompt without room drew nothing
            self._drafts += 1
            self._tokens += draft["num_tokens"]
            self._logprob_sum += draft["mean_logprob"]
        if tier == IN_PROCESS and status != Status.INFRA:
            self._unsplit += 1
            self._passed_unsplit += passed
        elif status != Status.INFRA:
            self._judged[problem_id] += 1
            self._passed[problem_id] += passed

    @property
    def num_samples(self) -> int:
        """All that were added."""
        return self._statuses.total()

    @property
    def num_passed(self) -> int:
        return self._passed.total()

    def pass_rates(self) -> dict[str, float]:
        """Share of samples that passed, by problem, in the suite's order."""
        known = (problem for problem in self._categories if problem in self._judged)
        return {problem: self._passed[problem] / self._judged[problem] for problem in known}

    def result(self, suite: str, protocol: str, candidate: str) -> SuiteResult:
        """Raises UserError when nothing that counts was added, which gives no score."""
        if not self._judged:
            raise UserError(
                f"no sample of {suite} could be judged in the sandbox ({dict(self._statuses)}): see the details in its "
                "samples.jsonl, and whether this machine can confine programs (docs/security.md)"
            )
        rates = self.pass_rates()
        groups: dict[str, list[float]] = {}
        for problem, rate in rates.items():
            groups.setdefault(self._categories[problem], []).append(rate)
        return SuiteResult(
            suite=suite,
            protocol=protocol,
            candidate=candidate,
            num_samples=self._judged.total(),
            num_passed=self.num_passed,
            num_masked=self._statuses[Status.INFRA],
            num_unsplit=self._unsplit,
            num_passed_unsplit=self._passed_unsplit,
            pass_at=self._pass_at(),
            categories={name: mean_score(groups[name]) for name in sorted(groups)} if len(groups) > 1 else {},
            detectable=detectable_difference(len(rates), DISCORDANCE),
            status_counts=dict(self._statuses),
            tiers=dict(self._tiers),
            mean_logprob=self._logprob_sum / self._drafts if self._drafts else None,
            num_tokens=self._tokens,
            replies=self._replies(),
        )

    def _replies(self) -> dict[str, float]:
        counts = {"parsed": self._parsed, "defined": self._defined, "ended": self._ended}
        return {name: count / self._programs for name, count in counts.items()} if self._programs else {}

    def _pass_at(self) -> dict[str, Score]:
        fewest = min(self._judged.values())
        return {
            str(k): mean_score([pass_at_k(count, self._passed[problem], k) for problem, count in self._judged.items()])
            for k in KS
            if k <= fewest
        }


def mean_score(values: list[float]) -> Score:
    return Score(num_problems=len(values), value=sum(values) / len(values), interval_95=score_interval(values))
