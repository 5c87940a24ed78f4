"""One pool of drafts and verdicts for all individuals of a run: what one has found out, nobody has to find out again.

    evolve/pool/verdicts-NAME.jsonl                               a line a verdict that NAME came to (`PooledJudge`)
    evolve/individuals/ID/GENERATION/drafts/step-00001-0.parquet  judged drafts, as a training by reward leaves them
    evolve/individuals/ID/GENERATION/drafts-kl/                   the same after its fallback

The pool's drafts are the union of these files. Those that passed are imitated (`union_lessons`), and all of them say
how many problems the population solves (`coverage`). Drafts by which individuals are validated have other names, and
are of problems that nobody learns from: both keeps them out.
"""

import dataclasses
import functools
import hashlib
import json
import math
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from app.corpus.draws import by_hash
from app.errors import NothingToLearnError, UserError
from app.evaluation.statistics import pass_at_k
from app.evaluation.stored_results import VERDICTS
from app.evolution.records import Coverage
from app.files.json_files import append_json_line, numbered_json_lines, trim_json_lines
from app.records import Generator, Judge, Problem, Status, Verdict
from app.reward.drafts.asking import Asked
from app.reward.drafts.files import read_drafts
from app.reward.drafts.solve_rates import Rates, rates
from app.reward.imitation.lessons import lesson, read_lessons, write_lessons
from app.reward.imitation.replay import replayed
from app.reward.imitation.selection import selected
from app.reward.records import JudgedDraft, Lesson, LessonKind
from app.settings import Profile

LASTING = (Status.PASSED, Status.WRONG_ANSWER, Status.RUNTIME_ERROR, Status.LOAD_ERROR)
"""What the tests said to the end. Other ends are rare, and most of them may be the doing of a slow or full machine."""
DRAFTS = ("drafts", "drafts-kl")
MOST_OF_A_PROBLEM = 16
"""Programs of a problem that are held, drawn by hash: four times what is imitated of one at most."""


class PooledJudge:
    """Implements `records.Judge` around another one: a program that anybody has had judged, on the same problem by the
    same tests, gets that verdict without running.

    Kept are verdicts that count and that another run would give again (`LASTING`). Every writer has a file of its own,
    so the folder may lie on a file system that several machines share. What others find out after the start is not
    seen. Limits: a program that draws random numbers keeps its first verdict; all verdicts are held in memory, some 300
    bytes each; only one process at a time may judge under a name.
    """

    def __init__(self, judge: Judge, folder: Path, name: str, facts: Mapping[str, Any] = {}) -> None:
        """name: of the writer. facts: what decides a verdict beside problem and program (the sandbox's limits), as
        JSON. Raises UserError naming a line that is broken, except for a last one that a kill tore."""
        self._judge, self._path = judge, folder / f"verdicts-{name}.jsonl"
        self._facts = json.dumps([VERDICTS, facts], sort_keys=True)
        trim_json_lines(self._path)
        self._held = {key: verdict for path in sorted(folder.glob("verdicts-*.jsonl")) for key, verdict in _read(path)}
        self.num_shared = 0
        """Verdicts that came from the pool."""
        self.num_judged = 0

    def judge_all(self, jobs: Iterable[tuple[Problem, Sequence[str]]]) -> Iterator[list[Verdict]]:
        """As `records.Judge` has it. A job that the pool answers goes to the other judge without programs, so that its
        turn comes where all judges keep the order, and no verdict waits for a later one."""
        asked = deque[list[tuple[bytes, Verdict | None]]]()

        def missing() -> Iterator[tuple[Problem, Sequence[str]]]:
            """It runs in the other judge's own thread."""
            for problem, programs in jobs:
                keys = [self._key(problem, program) for program in programs]
                held = [self._held.get(key) for key in keys]
                asked.append(list(zip(keys, held, strict=True)))
                yield problem, [program for program, there in zip(programs, held, strict=True) if there is None]

        for judged in self._judge.judge_all(missing()):
            new = iter(judged)
            yield [self._shared(there) if there else self._added(key, next(new)) for key, there in asked.popleft()]

    def told(self) -> str:
        """For a person."""
        return f"{self.num_shared} of {self.num_shared + self.num_judged} verdicts came from the pool"

    def _key(self, problem: Problem, program: str) -> bytes:
        told = f"{self._facts}\n{_digest_of(problem)}\n{json.dumps(program)}"
        return hashlib.sha256(told.encode()).digest()[:16]

    def _shared(self, verdict: Verdict) -> Verdict:
        self.num_shared += 1
        return verdict

    def _added(self, key: bytes, verdict: Verdict) -> Verdict:
        self.num_judged += 1
        if _lasts(verdict):
            self._held[key] = verdict
            append_json_line(self._path, {"key": key.hex(), **asdict(verdict)})
        return verdict


@functools.lru_cache(maxsize=8192)
def _digest_of(problem: Problem) -> str:
    return hashlib.sha256(json.dumps(astuple(problem)).encode()).hexdigest()


def _lasts(verdict: Verdict) -> bool:
    return verdict.reward is not None and verdict.status in LASTING


def _read(path: Path) -> Iterator[tuple[bytes, Verdict]]:
    for number, row in numbered_json_lines(path):
        try:
            key = bytes.fromhex(row["key"])
            verdict = Verdict(
                problem_id=sys.intern(row["problem_id"]),  # interned: a few texts, each in many lines
                status=Status(row["status"]),
                detail=sys.intern(row["detail"]),
                cpu_seconds=row["cpu_seconds"],
                wall_seconds=row["wall_seconds"],
                tier=sys.intern(row["tier"]),
                points=row.get("points"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}, line {number} is no verdict ({error!r}): take that line out, or remove the file, and its "
                "programs are judged again"
            ) from None
        if _lasts(verdict):
            yield key, verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftFile:
    """Judged drafts of one policy. Made by `draft_files`; for the untouched model by who has its drafts."""

    path: Path
    individual: str = ""
    """Empty: the untouched model."""
    generation: int = 0
    """Of the untouched model 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """A draft that passed, and who drew it first. Made by `pooled`."""

    judged: JudgedDraft
    """Without the log-probabilities of its tokens."""
    individual: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What is known from the drafts of some individuals together. Made by `pooled`."""

    drafts: tuple[Pooled, ...]
    """Of each problem programs of different shape, by problem."""
    num_passed: int
    """Drafts that passed, copies among them."""
    rates: Rates
    """Of all drafts, whether they passed or not."""
    own: Mapping[str, Rates]
    """The same by individual."""


def draft_files(individuals: Path, generation: int) -> list[DraftFile]:
    """What all individuals have drawn to learn from up to a generation, in the generations' order. Files that are not
    whole yet are passed over."""
    found = []
    for path in (path for name in DRAFTS for path in individuals.glob(f"*/*/{name}/step-*.parquet")):
        individual, number = path.parts[-4:-2]
        if number.isdigit() and int(number) <= generation:
            found.append(DraftFile(path=path, individual=individual, generation=int(number)))
    return sorted(found, key=lambda one: (one.generation, one.individual, one.path))


def pooled(files: Iterable[DraftFile], problems: Collection[str], most: int = MOST_OF_A_PROBLEM) -> Pool:
    """The union of the files' drafts of these problems, in memory for `most` programs of each and one file.

    Which programs are held does not depend on the order of the files; of copies the first is. Raises UserError for a
    file that holds no drafts.
    """
    held: dict[str, dict[str, Pooled]] = {}
    found = defaultdict[str, list[Rates]](list)
    num_passed = 0
    for file in files:
        drafts = [one for one in read_drafts(file.path) if one.draft.problem_id in problems]
        found[file.individual].append(rates(drafts))
        for one in drafts:
            if one.reward == 1:
                num_passed += 1
                _hold(held.setdefault(one.draft.problem_id, {}), one, file, most)
    drafts_of = (programs.values() for programs in held.values())
    own = {individual: summed(held) for individual, held in found.items()}
    return Pool(
        drafts=tuple(one for group in drafts_of for one in group),
        num_passed=num_passed,
        rates=summed(own.values()),
        own=own,
    )


def summed(found: Iterable[Rates]) -> dict[str, tuple[int, int]]:
    """Rates of several sets of drafts as those of one."""
    passed, counted = Counter[str](), Counter[str]()
    for one in found:
        passed.update({name: number for name, (number, _) in one.items()})
        counted.update({name: number for name, (_, number) in one.items()})
    return {name: (passed[name], number) for name, number in counted.items()}


def _hold(programs: dict[str, Pooled], judged: JudgedDraft, file: DraftFile, most: int) -> None:
    """Add a problem's program unless it is there, and let the last one by hash go where there are too many."""
    shape = judged.shape or judged.program
    if shape in programs:
        return
    light = dataclasses.replace(judged, draft=dataclasses.replace(judged.draft, token_logprobs=()))
    programs[shape] = Pooled(judged=light, individual=file.individual, generation=file.generation)
    if len(programs) > most:
        del programs[max(programs, key=lambda shape: by_hash(f"{judged.draft.problem_id} {shape}"))]


def union_lessons(
    path: Path,
    pool: Pool,
    profile: Profile,
    problems: Sequence[Asked],
    untouched: Rates,
    generator: Generator,
    judge: Judge,
    *,
    answers: Path,
    facts: Mapping[str, Any] = {},
) -> list[Lesson]:
    """What a new candidate imitates of the pool, as the arm rft does of its own drafts: right programs, more of a
    problem that the untouched model seldom solves, and its ordinary answers beside them (`grm.imitate.replay_share`).
    They are written to `path`, and read where they are there. A lesson's round is the generation of its draft.

    problems: that may be learnt from. untouched: its solve rates; the pool's own stand in for what they lack. answers:
    the file of the ordinary answers, which are drawn once for all generations. facts: what else decides what is drawn
    and judged, kept with them. Raises NothingToLearnError where the pool holds none of the problems.
    """
    if path.exists():
        return read_lessons(path)
    prompts = {one.problem.given.id: one.prompt_ids for one in problems}
    usable = {id(one.judged): one for one in pool.drafts if one.judged.draft.problem_id in prompts}
    chosen = selected((one.judged for one in usable.values()), untouched={**pool.rates, **untouched})
    if not chosen:
        raise NothingToLearnError(
            f"none of the pool's drafts of {len(problems)} problems passed its tests, so there is nothing to imitate: "
            "give easier problems by grm.problems, or let a generation draw more drafts"
        )
    right = [lesson(one, prompts, LessonKind.RIGHT, usable[id(one)].generation) for one in chosen]
    write_lessons(path, right + replayed(answers, profile, problems, chosen, generator, judge, facts))
    return read_lessons(path)


def coverage(generation: int, own: Mapping[str, Rates]) -> Coverage | None:
    """Problems solved by anybody in the pool beside those that one individual solves with as many drafts; None where no
    problem was drawn by two of them. own: rates by individual.

    For each problem k is the number of drafts of whoever has fewest, and all are given the unbiased chance that one of
    k of their drafts passes, the individuals on the average. The untouched model's drafts would not do beside it: the
    problems were chosen by them, those that none of them solved were left out, so they solve all.
    """
    by_problem = defaultdict[str, list[tuple[int, int]]](list)
    for rated in own.values():
        for name, one in rated.items():
            by_problem[name].append(one)
    shared = [found for found in by_problem.values() if len(found) > 1]
    if not shared:
        return None
    least = [min(counted for _, counted in found) for found in shared]

    def share(solved: Callable[[list[tuple[int, int]], int], float]) -> float:
        return math.fsum(solved(found, k) for found, k in zip(shared, least, strict=True)) / len(shared)

    return Coverage(
        generation=generation,
        problems=len(shared),
        drafts_a_problem=sum(least) / len(least),
        pool=share(lambda found, k: pass_at_k(sum(c for _, c in found), sum(p for p, _ in found), k)),
        one_policy=share(lambda found, k: math.fsum(pass_at_k(c, p, k) for p, c in found) / len(found)),
    )
