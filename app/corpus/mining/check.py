"""Second step of mining: candidates are run in the sandbox, and become problems with hidden tests.

For each: what the function gives for the calls that were seen and for generated ones is recorded; pairs are chosen as
tests; the original has to pass twice, alone; and at least one plausible mutant has to fail.
"""

import re
from collections.abc import Sequence

from app.cluster.job_queue import at
from app.corpus.mining.facts import shape_of
from app.corpus.mining.inputs import more_calls
from app.corpus.mining.recording import Pair, is_stable, recorded, tests_of
from app.corpus.mining.records import STAGES, Candidate, Mined, NoProblemError
from app.corpus.mining.statement import description_of, difficulty_of, function_of, program_of, prompt_of
from app.corpus.mining.validation import UnprovedError, prove, short
from app.corpus.records import SolvedProblem
from app.corpus.sources.untrusted import failure
from app.errors import UserError
from app.records import Problem, ProblemStyle
from app.sandbox.supervisor import Supervisor
from app.sandbox.tiers import Confinement, confinement
from app.settings import SandboxSettings

SOURCE = "mined"
MAX_TESTS, MIN_TESTS = 12, 4
MAX_GIVEN = 6
"""Tests that somebody wrote down; the rest is generated."""
MAX_EXAMPLES, MAX_EXAMPLE_CHARS = 3, 150
EMPTY = frozenset(("''", "b''", "[]", "()", "{}", "set()"))
TELLS_OF_EMPTY = re.compile(r"\b(empty|blank)\b|''|\"\"|\[\]|\(\)|\{\}", re.I)
_RECORDED, _PASSES, _FAILS = STAGES[3:]


def check_candidates(
    candidates: Sequence[Candidate], settings: SandboxSettings, confined: Confinement | None = None
) -> Mined:
    """Problems in the order of the candidates, rejections, and counts of the last three stages.

    Has two supervisors of its own, and closes them. Raises UserError where programs can't be confined.
    """
    mined = Mined()
    confined = confined or confinement()
    with Supervisor(settings, confined) as patient, Supervisor(short(settings), confined) as strict:
        for candidate in candidates:
            try:
                if reason := at(candidate.id):
                    raise NoProblemError(reason)
                mined.problems.append(_problem(candidate, patient, strict, mined))
            except (UserError, OSError):
                raise
            except Exception as error:  # whatever a candidate holds is its own matter: it ends no build
                reason = str(error) if isinstance(error, NoProblemError) else failure(error)
                mined.rejections.append(candidate.refused(reason))
    return mined


def _problem(candidate: Candidate, patient: Supervisor, strict: Supervisor, mined: Mined) -> SolvedProblem:
    function = function_of(candidate)
    inputs = more_calls(candidate.entry_point, candidate.calls, function)
    pairs = recorded(candidate, inputs, patient)
    told = [pair for pair in pairs if is_stable(pair.value) and not _is_untold(pair, candidate.docstring)]
    examples = _examples(candidate, told)
    shapes = {pair.shape for pair in told if pair.call in examples}
    shapes |= {shape_of(call) for call in candidate.calls if call.from_docstring}
    chosen = _chosen([pair for pair in told if pair.shape in shapes])
    prompt = prompt_of(candidate, tuple(examples.items()))
    mined.counts[_RECORDED] += 1
    problem = Problem(
        id=f"{SOURCE}/{candidate.id}",
        source=SOURCE,
        licence=candidate.origin.licence,
        prompt=prompt,
        entry_point=candidate.entry_point,
        tests=tests_of(chosen),
        style=ProblemStyle.ASSERTIONS,
        prelude=candidate.prelude,
        difficulty=difficulty_of(function),
        split=candidate.split,
    )
    solution = program_of(candidate, prompt)
    try:
        bugs = prove(problem, solution, patient, strict)
    except UnprovedError as error:
        mined.counts[_PASSES] += error.passes
        raise
    mined.counts[_PASSES] += 1
    mined.counts[_FAILS] += 1
    return SolvedProblem(
        problem=problem,
        solution=solution,
        description=description_of(candidate.docstring),
        bugs=bugs,
        origin=candidate.origin,
    )


def _is_untold(pair: Pair, docstring: str) -> bool:
    """Whether a call asks what comes of nothing (no argument, None, something empty) and the docstring does not say."""
    if pair.call in docstring:
        return False
    if not pair.args or "None" in pair.args:
        return "None" not in docstring and "default" not in docstring
    return not EMPTY.isdisjoint(pair.args) and not TELLS_OF_EMPTY.search(docstring)


def _chosen(pairs: list[Pair]) -> list[Pair]:
    """Pairs that become tests: some that were given, and of the others each result in turn."""
    if not any(pair.given for pair in pairs):
        raise NoProblemError("no call that was seen gives plain data")
    given = _by_result([pair for pair in pairs if pair.given])[:MAX_GIVEN]
    rest = _by_result([pair for pair in pairs if pair not in given])
    chosen = [*given, *rest][:MAX_TESTS]
    if len(chosen) < MIN_TESTS:
        raise NoProblemError(f"too few inputs give plain data: {len(chosen)}")
    if len({pair.result for pair in chosen}) == 1:
        raise NoProblemError("trivial: all outputs are equal")
    num_args = min(len(pair.args) for pair in chosen)
    if any(all(pair.result == pair.args[place] for pair in chosen) for place in range(num_args)):
        raise NoProblemError("trivial: it gives back an argument")
    return chosen


def _by_result(pairs: list[Pair]) -> list[Pair]:
    """The first pair of each result, then the second of each, and so on."""
    seen: dict[str, int] = {}
    ranked = []
    for pair in pairs:
        rank = seen[pair.result] = seen.get(pair.result, -1) + 1
        ranked.append((rank, pair))
    return [pair for _, pair in sorted(ranked, key=lambda item: item[0])]


def _examples(candidate: Candidate, pairs: list[Pair]) -> dict[str, str]:
    """Calls and results for the docstring of a function that has none: of the calls that were seen, those that show
    most."""
    if any(call.from_docstring for call in candidate.calls):
        return {}
    given = [pair for pair in pairs if pair.given and pair.value is not None]
    if not given:
        raise NoProblemError("no call that was seen gives plain data")
    shown = [pair for pair in given if len(pair.call) + len(pair.result) <= MAX_EXAMPLE_CHARS]
    if not shown:
        raise NoProblemError("no call that was seen is short enough for an example")
    longest = sorted(shown, key=lambda pair: len(pair.call) + len(pair.result), reverse=True)
    by_result = _by_result(longest)[:MAX_EXAMPLES]
    return {pair.call: pair.result for pair in shown if pair in by_result}
