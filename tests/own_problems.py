"""Generated tests of the problems in datasets/problems: arguments drawn by each problem's `inputs`, answers from its
reference.

    python -m tests.own_problems [FILE.yaml ...]    # writes `generated` anew, in all files or in these

`inputs` is a Python expression, one value an argument, with the functions of `Draw` as names; the same id gives the
same draws. Those of the drawn tests are kept whose answers differ most. tests/unit/problem_sets/test_own.py fails
where a file is behind its references.
"""

import ast
import copy
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from app.problem_sets.own import FOLDER, Case, OwnProblem, read_problems

T = TypeVar("T")
COUNT = 14
"""Generated tests a problem."""
DRAWS = 150
MAX_CHARS = 300
"""The longest test that is kept."""
VOWELS, CONSONANTS = "aeiou", "bdklmnrst"


class Draw:
    """What `inputs` is made of. Ranges include both ends."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def integer(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def flag(self) -> bool:
        return self._random.random() < 0.5

    def span(self, least: int, most: int) -> range:
        """To go through as often as is drawn: [word() for _ in span(0, 4)]."""
        return range(self.integer(least, most))

    def pick(self, *options: T) -> T:
        return self._random.choice(options)

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Options, each as often as it comes."""
        return [self._random.choice(options) for _ in self.span(least, most)]

    def few(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Options, each once at most, in any order."""
        return self._random.sample(list(options), min(len(options), self.integer(least, most)))

    def integers(self, least_count: int, most_count: int, least: int, most: int) -> list[int]:
        return [self.integer(least, most) for _ in self.span(least_count, most_count)]

    def text(self, least: int, most: int, letters: str = "abcde ") -> str:
        return "".join(self.some(letters, least, most))

    def word(self, least: int = 1, most: int = 3) -> str:
        """A word of `least` to `most` syllables, some with a last consonant."""
        syllables = [self.pick(*CONSONANTS) + self.pick(*VOWELS) for _ in self.span(least, most)]
        return "".join(syllables) + self.pick("", "", *"nst")

    def words(self, least: int, most: int) -> list[str]:
        return [self.word() for _ in self.span(least, most)]

    def ordered(self, values: Sequence[Any]) -> list[Any]:
        return sorted(values)

    def table(self, keys: Sequence[Any], values: Sequence[Any]) -> dict[Any, Any]:
        """Some of the keys, each with one of the values."""
        return {key: self._random.choice(values) for key in self.few(keys, 0, len(keys))}

    def rows(self, height: int, width: int, cells: Sequence[Any]) -> list[list[Any]]:
        return [[self._random.choice(cells) for _ in range(width)] for _ in range(height)]


def generated(problem: OwnProblem) -> list[str]:
    """The lines of a problem's generated tests; none where it does not say how to draw its arguments."""
    if not problem.inputs.strip():
        return []
    draw, answer_to = Draw(problem.id), reference_of(problem)
    names = {name: getattr(draw, name) for name in vars(Draw) if not name.startswith("_")}
    known = {repr(arguments_of(case)) for case in problem.by_hand}
    by_answer: dict[str, list[str]] = {}
    for _ in range(DRAWS):
        drawn = eval(problem.inputs, names)
        arguments = drawn if isinstance(drawn, tuple) else (drawn,)
        if repr(arguments) in known:
            continue
        known.add(repr(arguments))
        shown = ", ".join(map(repr, arguments))
        answer = answer_to(*copy.deepcopy(arguments))
        line = f"{problem.name}({shown}) == {answer!r}"
        if len(line) <= MAX_CHARS:
            by_answer.setdefault(repr(answer), []).append(line)
    kept: list[str] = []
    while by_answer and len(kept) < COUNT:
        for answer, lines in list(by_answer.items()):
            kept.append(lines.pop(0))
            if not lines:
                del by_answer[answer]
    return kept[:COUNT]


def reference_of(problem: OwnProblem) -> Any:
    """What the tests call, with the reference as its body."""
    space: dict[str, Any] = {}
    exec(f"{problem.signature}\n{problem.reference}\n{problem.driver}", space)
    return space[problem.entry_point]


def arguments_of(case: Case) -> tuple[Any, ...]:
    return ast.literal_eval(f"({case.arguments},)") if case.arguments else ()


def rewritten(text: str, problems: Sequence[OwnProblem]) -> str:
    """The file's text with the generated tests of its problems, in its order, below each one's `inputs`."""
    lines: list[str] = []
    remaining = iter([problem for problem in problems if problem.inputs.strip()])
    skipping = False
    for line in text.splitlines():
        skipping = skipping and (line.startswith("      ") or not line) or line.startswith("    generated:")
        if not skipping:
            lines.append(line)
        if line.startswith("    inputs:"):
            lines += ["    generated: |", *(f"      {test}" for test in generated(next(remaining)))]
    return "\n".join(lines) + "\n"


def main(paths: Sequence[Path]) -> None:
    for path in paths:
        path.write_text(rewritten(path.read_text(), read_problems(path)))
        print(f"{path.name}: {len(read_problems(path))} problems, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.yaml")))
