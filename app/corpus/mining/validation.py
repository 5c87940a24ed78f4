"""Proof that a problem is one: its solution passes twice, alone, and a small change of it fails."""

import ast
import json
from collections.abc import Iterator

from app.corpus.draws import Draws
from app.corpus.mining.mutants import mutants
from app.corpus.mining.records import NoProblemError
from app.corpus.records import Bug
from app.records import Problem, ProblemStyle, Status
from app.sandbox.supervisor import Supervisor
from app.settings import SandboxSettings

MAX_MUTANTS, MAX_BUGS = 8, 3
MUTANT_SECONDS = 0.5
"""CPU time of a mutant; the original may take what the settings give."""
IMPLAUSIBLE = ("empty body", "returned None")
MAX_SHOWN = 100
"""Characters of a wrong result."""
_RUN = """

def __run_tests(steps, space):
    import json
    for number, (source, left) in enumerate(steps):
        print("@" + json.dumps([number, "does not end"]), flush=True)
        try:
            exec(source, space)
            continue
        except AssertionError:
            try:
                said = "gives " + repr(eval(left, space))[:%d] if left else ""
            except BaseException as error:
                said = "raises " + type(error).__name__
        except BaseException as error:
            said = "raises " + type(error).__name__
        print("@" + json.dumps([number, said]), flush=True)
        return
    print("@" + json.dumps([-1, ""]), flush=True)


__run_tests(%r, globals())
"""


class UnprovedError(NoProblemError):
    """The problem proves nothing; the text is the reason. `passes`: whether its solution at least passes."""

    def __init__(self, reason: str, *, passes: bool) -> None:
        super().__init__(reason)
        self.passes = passes


def short(settings: SandboxSettings) -> SandboxSettings:
    """The settings for the supervisor that judges mutants."""
    return settings.model_copy(update={"timeout_s": min(MUTANT_SECONDS, settings.timeout_s)})


def prove(problem: Problem, solution: str, patient: Supervisor, strict: Supervisor) -> tuple[Bug, ...]:
    """Small changes of the solution that fail, at least one.

    strict: judges mutants, with `short` settings. Raises UnprovedError.
    """
    for _ in range(2):
        verdict = patient.judge(problem, solution)
        if verdict.status == Status.PASSED and verdict.reward is None:
            raise UnprovedError("its tests need the program's own process, which could forge them", passes=False)
        if verdict.status != Status.PASSED:
            raise UnprovedError(f"the original fails: {verdict.status}: {verdict.detail}"[:200], passes=False)
    bugs = tuple(_bugs(problem, solution, strict))
    if not bugs:
        raise UnprovedError("no mutant fails", passes=True)
    return bugs


def _bugs(problem: Problem, solution: str, strict: Supervisor) -> Iterator[Bug]:
    """Up to MAX_BUGS mutants that fail, of all kinds in turn; those of a prompt that is code don't count."""
    given = problem.prompt if solution.startswith(problem.prompt) else ""
    kinds: dict[str, list[str]] = {}
    for kind, source in mutants(solution, problem.entry_point):
        if kind not in IMPLAUSIBLE and source.startswith(given):
            kinds.setdefault(kind, []).append(source)
    draws = Draws(problem.id)
    queues = [draws.shuffled(kinds[kind]) for kind in draws.shuffled(sorted(kinds))]
    tried = num_bugs = 0
    while any(queues):
        for queue in queues:
            if tried == MAX_MUTANTS or num_bugs == MAX_BUGS:
                return
            if queue:
                source = queue.pop()
                tried += 1
                if strict.judge(problem, source).status not in (Status.PASSED, Status.INFRA, Status.LOAD_ERROR):
                    num_bugs += 1
                    yield Bug(program=source, failure=failure_of(problem, source, strict))


def failure_of(problem: Problem, program: str, supervisor: Supervisor) -> str:
    """The first assertion that a wrong program fails, and in a comment what came instead; empty where that can't be
    said."""
    if problem.style == ProblemStyle.STDIO:
        return ""
    tree = ast.parse(problem.tests)
    check = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None)
    # In their order, since one statement may prepare what the next assertion compares.
    body = [n for n in tree.body if n is not check] + (check.body if check else [])
    steps = [(ast.unparse(n), _left(n)) for n in body]
    entry = f"candidate = {problem.entry_point}" if check else ""
    prelude = "" if program.startswith(problem.prelude) else problem.prelude
    script = "\n\n".join((prelude, program, problem.setup, entry)) + _RUN % (MAX_SHOWN, steps)
    said = [line[1:] for line in supervisor.run_script(script).output.splitlines() if line.startswith("@[")]
    try:
        number, what = json.loads(said[-1])
    except (IndexError, ValueError):
        return ""
    if number < 0 or not isinstance(body[number], ast.Assert):
        return ""
    return f"{steps[number][0]}  # {what}".removesuffix("  # ")


def _left(node: ast.stmt) -> str:
    """What a test compares with the expected value; empty where it compares nothing."""
    if not isinstance(node, ast.Assert):
        return ""
    test = node.test
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
        return ast.unparse(test.left)
    if isinstance(test, ast.Call) and len(test.args) >= 2 and ast.unparse(test.func) in ("math.isclose", "is_close"):
        return ast.unparse(test.args[0])
    return ""
