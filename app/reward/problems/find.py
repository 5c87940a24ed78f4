"""Which problems may be learnt from: those that come with the project, training splits, mined ones and a user's own.

A source is written as a name, or a name and a path:

    ours[=PATH]        datasets/problems, or a file or folder of the same form: those that say `split: train`
    mbpp[=FILE]        MBPP's tasks 601 to 974; without a file from the Hub
    leetcode=FILE      LeetCodeDataset's training file, without the problems for validation
    mined              what the run's own corpus mined, those of the training side
    mined=FOLDER       the same of another run, RUN/corpus/problems
    FILE.jsonl         a user's prompts, with tests or without (`app.reward.problems.user_file`)

What a test suite holds as well is left out and counted; in a user's file it is an error. What a source before it asks
in the same words is left out and counted too: it would be learnt twice. Every problem keeps its source's licence.

`app.reward.problems.held_out` reads the same sources for problems to validate by.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.mining.check import SOURCE as MINED
from app.corpus.mining.storage import read_problems
from app.corpus.sources.admission import judge_content
from app.errors import NothingToLearnError, UserError, did_you_mean
from app.evaluation.guarded_suites import measured_problems
from app.evaluation.suites.registry import get_suite
from app.evaluation.suites.splits import Half, half_of, repeats_a_test_problem, with_leetcode_splits
from app.files.json_files import read_json
from app.files.table_rows import read_lines, strict_rows
from app.files.user_files import user_path
from app.problem_sets import leetcode, mbpp, own
from app.problem_sets.problem_files import hub_rows
from app.problem_sets.task import Task
from app.progress import say
from app.prompting.replies import defines
from app.records import Problem
from app.reward.problems.user_file import SOURCE as USER
from app.reward.problems.user_file import UserProblem, user_problems, words_of
from app.reward.records import TrainingProblem
from app.settings import EvaluationSettings

OF_RUN = "mined"
"""The source that is the run's own corpus."""
HUB_FILE = "full/{split}-00000-of-00001.parquet"
"""MBPP's training split on the Hub."""
JSONL = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A problem as its source gives it, with a whole program that should pass its tests."""

    suite: str
    task: Task
    reference: str
    constraints: str = ""
    second: str = ""


def load(
    sources: Sequence[str], mined: Path | None = None, decided_by: EvaluationSettings | None = None
) -> list[TrainingProblem]:
    """The problems of all sources in their order.

    mined: the problems of the run's own corpus, for the source `mined`, which may hold none. decided_by: the run's
    settings of validation: none of its problems may be in a user's file.
    Raises UserError for a source that does not exist, can't be read or holds nothing to learn from, and for two
    problems of one id; NothingToLearnError where the run's own corpus was the only source, and has none.
    """
    if not sources:
        raise UserError(f"no source of problems to learn from is given: name one of {KNOWN}")
    found = by_id(sources, "train", mined, decided_by)
    if not found:
        raise NothingToLearnError(f"the run's corpus has no mined problems: add to grm.problems, of {KNOWN}")
    return list(found.values())


def of_arm(problems: Sequence[TrainingProblem], arm: str) -> list[TrainingProblem]:
    """Those that an arm can learn from: grpo, which knows nothing but verdicts, none that has no tests; how many these
    are is said. Raises NothingToLearnError where none is left."""
    kept = [one for one in problems if one.has_tests or arm != "grpo"]
    if not kept:
        raise NothingToLearnError(
            f"grm.arm={arm} learns from verdicts, and none of {len(problems)} problems has tests: add problems that do "
            "to grm.problems, or set grm.arm to rft, which ranks their drafts, to upft or to distill"
        )
    if len(kept) < len(problems):
        left = len(problems) - len(kept)
        say(f"  {left} of {len(problems)} problems have no tests, and grm.arm={arm} leaves them out")
    return kept


def num_untested(sources: Sequence[str]) -> int:
    """How many problems have no tests: only users' files hold such. Raises UserError for a file that can't be read."""
    return sum("tests" not in row for row in _rows_of_user(sources))


def some_tested(sources: Sequence[str]) -> bool:
    """Whether a problem has tests. Raises UserError for a file that can't be read."""
    return not all(map(is_of_user, sources)) or any("tests" in row for row in _rows_of_user(sources))


def licences(problems: Sequence[TrainingProblem]) -> Counter[tuple[str, str]]:
    """How many problems by their source and licence, for the report and the model card."""
    return Counter((problem.given.source, problem.given.licence) for problem in problems)


def _rows_of_user(sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    files = [user_path(source) for source in sources if is_of_user(source)]
    return (row for file in files for _, row in read_lines(file, "grm.problems"))


def given_source(source: str) -> str:
    """What `Problem.source` of a source's problems is. Two files of one kind have the same."""
    name, _, path = source.partition("=")
    is_own = name == "ours" and bool(path) and not own.is_of_project(own.place_of(path))
    return USER if is_own or is_of_user(source) else _GIVEN[name]


def is_of_user(source: str) -> bool:
    return source.partition("=")[0] not in _READERS and source.endswith(JSONL)


def by_id(
    sources: Sequence[str],
    split: str,
    mined: Path | None,
    decided_by: EvaluationSettings | None,
    *,
    each: bool = True,
    half: Half = "tuning",
) -> dict[str, TrainingProblem]:
    """All sources' problems in their order, without those that a source before theirs asks in the same words.

    split: train, or validation, of which `half` is taken. mined, decided_by: as `load` has them. each: whether every
    source but the run's corpus has to hold some. Raises UserError for two of one id."""
    found: dict[str, TrainingProblem] = {}
    came_from: dict[str, str] = {}
    asked_in: dict[str, str] = {}
    for source in sources:
        held, again = _of_source(source, split, mined, decided_by, each=each, half=half), 0
        for problem in held:
            name = problem.given.id
            if name in found:
                both = f"{came_from[name]} and {source}" if source != came_from[name] else f"{source}, twice"
                raise UserError(f"the problem {name!r} is in {both}: leave one of them out")
            if asked_in.setdefault(words_of(problem.given.prompt), source) != source:
                again += 1
                continue
            found[name], came_from[name] = problem, source
        if again:
            say(f"  {source}: {again} of {len(held)} problems left out, because a source before it asks the same")
    return found


def _of_source(
    source: str, split: str, mined: Path | None, decided_by: EvaluationSettings | None, *, each: bool, half: Half
) -> list[TrainingProblem]:
    """As `by_id` has them."""
    name, _, path = source.partition("=")
    if source == OF_RUN and mined is not None:
        path = str(mined)
    if is_of_user(source):
        deciding = measured_problems(decided_by) if decided_by else None
        return [_of_user(row) for row in user_problems(user_path(source), source, deciding)]
    if name not in _READERS:
        raise UserError(f"unknown source of problems {source!r}: {did_you_mean(name, _READERS, f'name {KNOWN}')}")
    given = [one for one in _READERS[name](path, split) if split == "train" or half_of(one.task.problem.id) == half]
    if split == "train":
        allow = _allowed_beside(user_path(path)) if name == MINED else frozenset()
        for one in given:
            _check_licence(source, one.task.problem, allow)
    kept = [one for one in given if not repeats_a_test_problem(one.task)]
    if len(kept) < len(given):
        say(f"  {name}: {len(given) - len(kept)} of {len(given)} problems left out, because test suites hold the like")
    if not kept and source == OF_RUN:
        say("  mined: the run's corpus has none")
    elif not kept and each:
        what = "to learn from" if split == "train" else "to validate by"
        raise UserError(f"{source} holds no problem {what}: give another, or leave it out")
    return [_asked(one) for one in kept]


def _allowed_beside(folder: Path) -> frozenset[str]:
    """Licences that the recipe of mined problems' corpus takes beside the OSI's."""
    manifest = folder.parent / "manifest.json"
    recipe = read_json(manifest).get("recipe", {}) if manifest.exists() else {}
    return frozenset(recipe.get("licences", {}).get("also_allow", ()))


def _check_licence(source: str, problem: Problem, also_allow: frozenset[str]) -> None:
    """Raise UserError for a problem whose text is under no licence by which it may be learnt from."""
    verdict = judge_content(problem.licence, also_allow)
    if not verdict.approved:
        raise UserError(
            f"{source}: the problem {problem.id!r} is under {problem.licence or 'no licence'!r}, and may not be learnt "
            f"from ({verdict.reason.rstrip('.')}): leave it out, or name the licence that its text has"
        )


def _of_user(row: UserProblem) -> TrainingProblem:
    """The head of a function is asked for and read as HumanEval's are; any other answer is read as MBPP's are, which
    take a function wherever it is in a reply."""
    suite = "mbpp" if row.words else "humaneval"
    return _asked(_Given(suite=suite, task=row.task, reference=row.reference), row.words)


def _asked(one: _Given, words: str = "") -> TrainingProblem:
    """words: the user's turn, where the suite has none for the problem."""
    problem = one.task.problem
    turns = [{"role": "user", "content": words}] if words else get_suite(one.suite).chat(problem, ())
    assert turns is not None
    return TrainingProblem(
        suite=one.suite,
        given=problem,
        problem=problem,
        reference=one.reference,
        question=tuple(turns),
        constraints=one.constraints,
        second=one.second,
    )


def _ours(path: str, split: str) -> Iterator[_Given]:
    for task in own.tasks_of(own.place_of(path)):
        if task.problem.split == split:
            if split == "train" and not task.problem.licence:
                raise UserError(
                    f"ours={path}: the file of {task.problem.id!r} names no licence, and nothing without one is learnt "
                    "from: write `licence: MIT`, or LicenseRef-Own for problems of yours, beside its theme"
                )
            whole = f"{task.problem.prompt}{task.canonical_solution}"
            yield _Given(suite="ours", task=task, reference=whole)


def _mbpp(path: str, split: str) -> Iterator[_Given]:
    of_hub = HUB_FILE.format(split=split)
    read = strict_rows(_file("mbpp", path), f"mbpp={path}") if path else hub_rows("mbpp", mbpp.HUB, of_hub)
    for task in mbpp.tasks_of(read, path or mbpp.HUB):
        if task.problem.split == split:
            yield _Given(suite="mbpp", task=task, reference=task.canonical_solution)


def _leetcode(path: str, split: str) -> Iterator[_Given]:
    if not path:
        raise UserError(
            "leetcode is learnt from only where its file is given: write leetcode=FILE, with "
            f"LeetCodeDataset-train.jsonl of {leetcode.HUB} on the Hub"
        )
    suite = get_suite("leetcode")
    rows = {row.get("task_id"): row for row in strict_rows(_file("leetcode", path), f"leetcode={path}")}
    for task in with_leetcode_splits(leetcode.tasks_of(rows.values(), path)):
        problem = task.problem
        if problem.split == split:
            row = rows[problem.id]
            yield _Given(
                suite="leetcode",
                task=task,
                reference=suite.whole_program(problem, task.canonical_solution),
                constraints=leetcode.constraints_of(row),
                second=suite.program(problem, "chat", row["response"]) if row.get("response") else "",
            )


def _mined(path: str, split: str) -> Iterator[_Given]:
    """Those that ask for a function as HumanEval does, in whose words training shows them too
    (`app.corpus.examples.forms`). Problems of training splits are left to their own sources, which know which of them
    are for validation."""
    folder = user_path(path)
    if not path or not (folder / f"{split}.parquet").is_file():
        raise UserError(f"mined={path} is no folder of mined problems: write mined=RUN/corpus/problems")
    for solved in read_problems(folder, split):
        if solved.problem.source == MINED and _is_asked_for(solved.problem):
            task = Task(problem=solved.problem, canonical_solution=solved.solution)
            yield _Given(suite="humaneval", task=task, reference=solved.solution)


def _is_asked_for(problem: Problem) -> bool:
    return f"def {problem.entry_point}(" in problem.prompt and defines(problem.prompt, problem.entry_point)


def _file(name: str, path: str) -> Path:
    file = user_path(path)
    if not file.is_file():
        raise UserError(f"{name}={path} is no file: give one of .jsonl, .jsonl.gz, .json or .parquet")
    return file


_READERS: dict[str, Callable[[str, str], Iterator[_Given]]] = {
    "ours": _ours, "mbpp": _mbpp, "leetcode": _leetcode, "mined": _mined
}  # fmt: skip
_GIVEN = {"ours": "pocketcoder", "mbpp": "mbpp", "leetcode": "leetcode", "mined": MINED}
"""What the readers' problems say of their source."""
KNOWN = "ours, mbpp[=FILE], leetcode=FILE, mined[=RUN/corpus/problems], or a .jsonl file of your own"
