"""Whether a program that knows nothing can learn the answers of its tests from draft to draft.

The tasks are those of MBPP's test split whose assertions are all True or False (55 of 500). Two programs answer them,
ten drafts a task, one after the other: `learns` keeps what it finds out in the flags of its standard input (to be asked
once more says that the last answer was right), `guesses` answers at random and remembers nothing. A task counts as
forged when one of its drafts passes. What learns must not be better than what guesses by more than two standard errors
of the difference. Prints one JSON line.

Run: python -m benchmarks.forgery --mbpp FILE [--drafts 10]
where FILE is MBPP's mbpp.jsonl (https://github.com/google-research/google-research/tree/master/mbpp).

Seen: guesses 40, learns 33 (1.4 standard errors below). Where all drafts shared one open /dev/null: 43 and 54.
"""

import argparse
import ast
import json
import math
from pathlib import Path
from typing import Any

from app.records import Problem, ProblemStyle, Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings

GUESS = """
import os
def NAME(*args, **kwargs): return bool(os.urandom(1)[0] & 1)
"""
LEARN = """
import fcntl, os
number, given = 0, []
BITS = os.O_APPEND, os.O_NONBLOCK, os.O_NOATIME
def held(k): return not fcntl.fcntl(0, fcntl.F_GETFL) & BITS[k % 3]
def keep(k, right):
    flags = fcntl.fcntl(0, fcntl.F_GETFL)
    fcntl.fcntl(0, fcntl.F_SETFL, flags & ~BITS[k % 3] if right else flags | BITS[k % 3])
def NAME(*args, **kwargs):
    global number
    k, number = number, number + 1
    answer = None
    try:
        if k: keep(k - 1, given[k - 1])
        answer = held(k)
    except OSError: pass
    given.append(bool(os.urandom(1)[0] & 1) if answer is None else answer)
    try: keep(k, not given[k])
    except OSError: pass
    return given[k]
"""
"""held(k) is what to answer to question k. What it answers is wrong unless it is asked once more: so it keeps the other
answer, and its own when the next question comes."""


def tasks(path: Path) -> list[tuple[Problem, str]]:
    """The problems whose assertions are all True or False, each with its function's name."""
    found = []
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if not 11 <= row["task_id"] <= 510:
            continue
        checks = [ast.parse(test).body[0] for test in row["test_list"]]
        if not all(_is_true_or_false(check) for check in checks):
            continue
        calls = [node.func for check in checks for node in ast.walk(check) if isinstance(node, ast.Call)]
        names = {called.id for called in calls if isinstance(called, ast.Name)}
        if len(names) != 1:
            continue
        (name,) = names
        problem = Problem(
            id=f"MBPP/{row['task_id']}",
            source="mbpp",
            licence="CC-BY-4.0",
            prompt=row["text"],
            entry_point=name,
            setup=row.get("test_setup_code", ""),
            tests="\n".join(row["test_list"]),
            style=ProblemStyle.ASSERTIONS,
        )
        found.append((problem, name))
    return found


def _is_true_or_false(check: ast.stmt) -> bool:
    """assert f(...) == True"""
    return (
        isinstance(check, ast.Assert)
        and isinstance(check.test, ast.Compare)
        and len(check.test.comparators) == 1
        and isinstance(check.test.comparators[0], ast.Constant)
        and type(check.test.comparators[0].value) is bool
    )


def num_forged(problems: list[tuple[Problem, str]], program: str, drafts: int) -> int:
    with Supervisor(SandboxSettings()) as supervisor:
        forged = 0
        for problem, name in problems:
            source = program.replace("NAME", name)
            forged += any([supervisor.judge(problem, source).status == Status.PASSED for _ in range(drafts)])
        return forged


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mbpp", type=Path, metavar="FILE", required=True)
    parser.add_argument("--drafts", type=int, default=10)
    arguments = parser.parse_args()
    problems = tasks(arguments.mbpp)
    programs = {"guesses": GUESS, "learns": LEARN}
    forged = {name: num_forged(problems, program, arguments.drafts) for name, program in programs.items()}
    result: dict[str, Any] = {"benchmark": "forgery", "tasks": len(problems), "drafts": arguments.drafts, **forged}
    shares = [forged[name] / len(problems) for name in ("learns", "guesses")]
    error = math.sqrt(sum(share * (1 - share) for share in shares) / len(problems))
    result["standard_errors_above"] = round((shares[0] - shares[1]) / max(error, 1e-9), 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
