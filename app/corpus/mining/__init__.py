"""The mining of problems with tests from distributions of Python code.

A documented function with examples, or one that its distribution's tests call, becomes a problem: its signature and
docstring are the prompt, what it gives for known and generated inputs are the hidden tests. Two steps, so that the
caller can hold candidates against the benchmarks in between and spread both over processes:

    standard_library.py  the standard library as a distribution
    find.py              distribution -> candidates: docstring_examples.py and calls_in_tests.py (calls that somebody
                         wrote down: asserted_calls.py), closure.py (what a function needs to stand alone: module.py,
                         dangers.py), statement.py (its texts)
    check.py             candidates -> problems: inputs.py (more inputs), recording.py and recorder.py (what the
                         function gives for them, in the sandbox), tests, two verdicts, mutants

Limits: functions at module level only, on plain data (no objects, generators or files), that need nothing outside
their own distribution and a list of harmless modules of the standard library. What a docstring leaves open, the hidden
tests take from the original: they may ask for more than the docstring says.
"""

from app.corpus.mining.check import check_candidates
from app.corpus.mining.find import find_candidates
from app.corpus.mining.records import STAGES, Call, Candidate, Mined
from app.corpus.mining.standard_library import standard_library

__all__ = [
    "STAGES", "Call", "Candidate", "Mined", "check_candidates", "find_candidates", "standard_library",
]  # fmt: skip
