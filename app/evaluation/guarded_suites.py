"""Which suites a build is guarded against, and the hashes of them that come with the project.

Every suite that the project knows is guarded: by its text where a file is given (evaluation.problems), where it is to
be measured, or where it comes with the project; else by hashes (`app.corpus.clean.guard`). Suites of problems for
validation are guarded where a run is measured by them.

Run, to make the hashes of a suite anew: python -m app.evaluation.guarded_suites humaneval mbpp=mbpp.jsonl leetcode=FILE
"""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.corpus.clean.decontamination import Decontaminator
from app.corpus.clean.guard import SHIPPED, Guard, guard_of, ship, shipped_suites, texts_sha256
from app.corpus.clean.signs import signs_of
from app.errors import UserError
from app.evaluation.stage import problem_paths
from app.evaluation.suites.registry import ALWAYS_HERE, ASKED_OTHERWISE, PARTS, SUITES, TUNING, VALIDATION, get_suite
from app.evaluation.suites.search_docs import SearchDocs
from app.files.user_files import user_path
from app.problem_sets.task import Task
from app.progress import say
from app.records import BenchmarkText
from app.settings import EvaluationSettings


def guard_for(*measured_by: EvaluationSettings) -> Guard:
    """The guard of a build that will be measured under all these settings.

    Raises UserError for a file that can't be read, and for a suite to be measured that has neither hashes nor a file
    and can't be fetched.
    """
    paths: dict[str, Path] = {}
    for settings in reversed(measured_by):
        paths |= problem_paths(settings)
    asked = [name for settings in measured_by for name in settings.suites]
    shipped, texts = shipped_suites(), dict[str, list[BenchmarkText]]()
    for name in dict.fromkeys((*ALWAYS_HERE, *paths, *asked)):
        try:
            tasks = get_suite(name).load(paths.get(name))
        except UserError as error:
            if name in paths or name not in shipped:
                raise
            say(f"  guarded against {name} by the project's hashes alone, because its problems are not here ({error})")
            continue
        texts[name] = guarded_texts(name, tasks)
        texts |= {part: _of_difficulty(tasks, part) for part, whole in PARTS.items() if whole == name}
    known = [name for name in SUITES if name not in (*VALIDATION, *TUNING, *ASKED_OTHERWISE)]
    return guard_of(texts, shipped, [name for name in known if name not in texts and name not in shipped])


@functools.lru_cache(maxsize=1)
def measured_problems(settings: EvaluationSettings) -> Decontaminator:
    """What tells the problems that a run is measured by under these settings. Raises UserError as `guard_for` does."""
    texts = guard_for(settings).texts
    return Decontaminator(signs=[sign for name in settings.suites for sign in signs_of(texts[name])])


def guarded_texts(suite: str, tasks: Sequence[Task]) -> list[BenchmarkText]:
    """The texts of a suite's own problems; those that it takes from the documentation search are guarded there."""
    return [t.benchmark_text for t in tasks if suite == SearchDocs.name or t.problem.source != SearchDocs.name]


def guard_against(manifest: Mapping[str, Any], suite: str, tasks: Sequence[Task]) -> str:
    """What a corpus' manifest says of its guard against these problems, in words; empty where it was guarded."""
    guard = manifest.get("guard")
    if guard is None:
        return "its manifest does not say what it was guarded against: an older version built it"
    held = {entry["suite"]: entry for entry in guard["suites"]}.get(suite)
    if held is None:
        return f"it was built without a guard against {suite}"
    if held["sha256"] != texts_sha256(guarded_texts(suite, tasks)):
        return f"it was guarded against another edition of {suite}, of {held['problems']} problems"
    return ""


def _of_difficulty(tasks: Sequence[Task], part: str) -> list[BenchmarkText]:
    word = part.removeprefix(f"{PARTS[part]}_")
    return [task.benchmark_text for task in tasks if task.problem.difficulty == word]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the hash files of the suites named."""
    parser = argparse.ArgumentParser(prog="python -m app.evaluation.guarded_suites", description=__doc__)
    parser.add_argument("suites", nargs="+", metavar="SUITE[=PATH]", help=", ".join(SUITES))
    parser.add_argument("--to", type=Path, default=SHIPPED, metavar="FOLDER", help="left out, the project's own")
    arguments = parser.parse_args(argv)
    try:
        for text in arguments.suites:
            name, _, path = text.partition("=")
            tasks = get_suite(name).load(user_path(path) if path else None)
            written = ship(name, guarded_texts(name, tasks), arguments.to)
            print(f"{written}: {len(tasks)} problems, {written.stat().st_size} bytes")
    except UserError as error:
        sys.exit(f"pocketcoder: {error}")


if __name__ == "__main__":
    main()
