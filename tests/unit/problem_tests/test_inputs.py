"""Further inputs keep to what the given ones and the statement say."""

from itertools import pairwise
from typing import Any

import pytest

from app.corpus.draws import Draws
from app.corpus.mining.records import Call
from app.problem_tests.constraints import unchecked
from app.problem_tests.inputs import further_calls
from app.problem_tests.limits import limits_of
from app.problem_tests.trees import drawn_shape, facts_of, put_together, taken_apart


def call(**kwargs: Any) -> Call:
    return Call(args=(), kwargs=tuple(kwargs.items()))


def further(
    *given: dict[str, Any], constraints: str = "", statement: str = "", trees: tuple[str, ...] = ()
) -> list[Any]:
    found = [dict(one.kwargs) for one in further_calls([call(**g) for g in given], trees, constraints, statement)]
    assert len(found) >= 8
    return found


@pytest.mark.parametrize(
    ("constraint", "fits", "breaks"),
    [
        ("1 <= nums.length <= 3", {"nums": [1, 2]}, {"nums": []}),
        ("-10 <= nums[i] <= 10", {"nums": [1, 2]}, {"nums": [11]}),
        ("1 <= k <= nums.length", {"nums": [1, 2], "k": 2}, {"nums": [1, 2], "k": 3}),
        ("nums.length == 2 * n", {"nums": [1, 2], "n": 1}, {"nums": [1, 2, 3], "n": 1}),
        ("1 <= m, n <= 3", {"m": 1, "n": 3}, {"m": 4, "n": 1}),
        ("m == grid.length\nn == grid[i].length\n1 <= m, n <= 2", {"grid": [[1], [2]]}, {"grid": [[1], [2], [3]]}),
        ("m == grid.length\nn == grid[i].length\n1 <= k <= n", {"grid": [[1]], "k": 1}, {"grid": [[1]], "k": 2}),
        ("0 <= ai, bi < n", {"edges": [[0, 1]], "n": 2}, {"edges": [[0, 2]], "n": 2}),
        ("edges represents a valid tree.", {"edges": [[0, 1], [2, 1]]}, {"edges": [[0, 1], [2, 1], [0, 2]]}),
        ("sum(wall[i]) is the same for each row i.", {"wall": [[1, 2], [3]]}, {"wall": [[1, 2], [2]]}),
        ("1 <= cuts.length <= min(n - 1, 100)", {"cuts": [1], "n": 2}, {"cuts": [1, 2], "n": 2}),
        ("graph[i][j] == graph[j][i]", {"graph": [[1, 0], [0, 1]]}, {"graph": [[1, 0], [1, 1]]}),
        ("a, b, and c have different values.", {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 2}),
        ("1 <= left <= right <= n * (n + 1) / 2", {"n": 4, "left": 1, "right": 10}, {"n": 4, "left": 1, "right": 11}),
        ("ai != bi", {"edges": [[0, 1], [1, 0]]}, {"edges": [[0, 1], [1, 1]]}),
        ("The number of nodes in the tree is in the range [1, 3].", {"root": [1, None, 2]}, {"root": []}),
        ("1 <= Node.val <= 9", {"root": [1, None, 2]}, {"root": [1, None, 10]}),
        ("bits[i] is either 0 or 1.", {"bits": [0, 1]}, {"bits": [0, 2]}),
        ("s[i] is 'a', 'b' or 'c'", {"s": ["a", "b"]}, {"s": ["d"]}),
        ("1 ≤ n ≤ 10^3", {"n": 1000}, {"n": 1001}),
        ("s consists of only lowercase English letters.", {"s": "ab"}, {"s": "aB"}),
        (
            "words[i] and s consist of English letters and digits",
            {"words": ["aB"], "s": "7"},
            {"words": ["a b"], "s": ""},
        ),
        ("All the integers in nums are unique.", {"nums": [2, 1]}, {"nums": [1, 1]}),
        ("Each of the words of lists is distinct", {"lists": ["a", "b"]}, {"lists": ["a", "a"]}),
    ],
)
def test_a_constraint_in_numbers_is_kept(constraint: str, fits: dict[str, Any], breaks: dict[str, Any]) -> None:
    limits = limits_of(constraint, "where edges[i] = [ai, bi] is an edge", [call(**fits)])
    assert limits.allow(call(**fits)) and not limits.allow(call(**breaks))


@pytest.mark.parametrize(
    ("constraints", "line"),
    [
        (
            "1 <= n\nThe given array is guaranteed to be a valid array.",
            "The given array is guaranteed to be a valid array.",
        ),
        ("s is a valid parentheses string.", "s is a valid parentheses string."),
        ("edges represents a valid tree.\nThe answer is guaranteed to fit in 32 bits.", ""),
        ("nums is guaranteed to be sorted.\n1 <= n", ""),
    ],
)
def test_what_no_fact_shows_is_told(constraints: str, line: str) -> None:
    assert unchecked(constraints, "The product is guaranteed to fit in 32 bits.") == line
    assert unchecked("", f"Do it. You may assume that there is one.{constraints}") == "You may assume that there is one"


@pytest.mark.parametrize(
    "constraint",
    ["nums is sorted.", "a few <= nums.length", "x <= nums[i]", "__import__('os') <= 1", "((("],
)
def test_a_line_that_says_nothing_of_the_arguments_is_passed_over(constraint: str) -> None:
    limits = limits_of(constraint, "", [call(nums=[1, 2])])
    assert limits.lines == () and limits.allow(call(nums=[]))


@pytest.mark.parametrize(
    ("constraints", "is_whole"),
    [
        ("1 <= n <= 9", True),
        ("1 <= n <= 3", True),
        ("1 <= n <= 9\nn is prime.", False),
        ("1 <= n <= 9\nn == 3 * m", False),
        ("1 <= n <= 9\nn == 2", False),
        ("", False),
    ],
)
def test_only_where_every_line_is_understood_all_is_told(constraints: str, is_whole: bool) -> None:
    assert limits_of(constraints, "", [call(n=5)]).is_whole == is_whole
    assert not limits_of(constraints, "Of a sorted list.", [call(n=5)]).is_whole


def test_a_line_that_given_calls_break_was_misread() -> None:
    """10 to the 5th, whose mark was lost."""
    limits = limits_of("1 <= n <= 105", "", [call(n=4000)])
    assert limits.allow(call(n=9000)) and not limits.allow(call(n=0))


def test_where_all_constraints_are_understood_what_holds_by_chance_is_not_kept() -> None:
    given: list[dict[str, Any]] = [{"n": 5}, {"n": 9}, {"n": 15}]
    assert all(made["n"] % 2 for made in further(*given))
    whole = further(*given, constraints="1 <= n <= 50")
    assert {made["n"] % 2 for made in whole} == {0, 1} and max(made["n"] for made in whole) > 30
    assert all(1 <= made["n"] <= 50 for made in whole)
    assert all(made["n"] % 2 for made in further(*given, constraints="1 <= n <= 50\nn is no sum of two squares."))


def test_a_number_that_is_a_length_stays_one() -> None:
    for made in further({"arr": [3, 1], "n": 2}, {"arr": [5, 6, 7], "n": 3}, {"arr": [1], "n": 1}):
        assert made["n"] == len(made["arr"])


def test_the_last_place_and_what_is_always_the_same_stay_so() -> None:
    given = [{"arr": [0, 1, 2], "start": 0, "end": 2}, {"arr": [0, 2], "start": 0, "end": 1}]
    given += [{"arr": [1, 2, 5, 7], "start": 0, "end": 3}]
    assert {(made["start"], made["end"] - len(made["arr"])) for made in further(*given)} == {(0, -1)}
    others = further(*given, constraints="0 <= start <= end")
    assert {made["start"] for made in others} > {0}


def test_few_values_stay_few_and_records_keep_their_keys() -> None:
    given: list[dict[str, Any]] = [{"grid": [[0, 1, 0], [1, 1, 0]]}, {"grid": [[1, 0], [0, 0]]}]
    for made in further(*given):
        assert {cell for row in made["grid"] for cell in row} <= {0, 1}
    rows = [{"rows": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}, {"rows": [{"a": 5, "b": 6}]}]
    for made in further(*rows):
        assert all(row.keys() == {"a", "b"} for row in made["rows"])


def test_an_even_length_stays_even_where_the_statement_speaks_of_it() -> None:
    given: list[dict[str, Any]] = [{"xs": [4, 2]}, {"xs": [1, 5, 7, 9]}]
    assert all(len(made["xs"]) % 2 == 0 for made in further(*given, constraints="xs.length is even."))
    assert any(len(made["xs"]) % 2 for made in further(*given))


def test_sorted_lists_stay_sorted_and_no_given_call_comes_again() -> None:
    given: list[dict[str, Any]] = [{"xs": [1, 4, 9], "x": 4}, {"xs": [2, 3, 8, 12], "x": 12}, {"xs": [5, 6], "x": 5}]
    found = further(*given)
    assert all(a <= b for made in found for a, b in pairwise(made["xs"]))
    assert not [made for made in found if made in given]


def test_trees_change_their_values_and_their_shape() -> None:
    given = [{"root": [4, 2, 6, 1, 3]}, {"root": [1, 0, 48, None, None, 12, 49]}, {"root": [9, 5]}]
    tree = "Given the root of a binary search tree."
    found = further(*given, trees=("root",), constraints="0 <= Node.val <= 99", statement=tree)
    shapes = set()
    for made in found:
        values, shape = taken_apart(made["root"])
        assert values == sorted(values), "a search tree no more"
        assert put_together(values, shape) == made["root"]
        shapes.add(shape)
    assert len(shapes) > 3


@pytest.mark.parametrize("levels", [[], [1], [1, None, 2, 3], [5, 4, 7, 3, None, 2, None, -1], [1, 2, 3, 4, 5, 6, 7]])
def test_a_tree_is_put_together_as_it_was(levels: list[Any]) -> None:
    assert put_together(*taken_apart(levels)) == levels


@pytest.mark.parametrize("levels", [[None], [1, None, None, 2]])
def test_what_is_no_tree_is_refused(levels: list[Any]) -> None:
    with pytest.raises(ValueError, match="no tree"):
        taken_apart(levels)


def test_a_shape_keeps_what_is_true_of_all_that_were_seen() -> None:
    perfect, chain = taken_apart([1, 2, 3])[1], taken_apart([1, None, 2, None, 3])[1]
    assert facts_of(perfect) == {"balanced", "complete", "perfect", "no only child"} and facts_of(chain) == frozenset()
    assert drawn_shape(7, [perfect], Draws("a")) == taken_apart([1, 2, 3, 4, 5, 6, 7])[1]
    assert drawn_shape(6, [perfect], Draws("a")) is None
    assert drawn_shape(0, [chain], Draws("a")) == ()
    grown = {drawn_shape(4, [perfect, chain], Draws(str(number))) for number in range(30)}
    assert len(grown) > 5 and all(shape and len(shape) == 4 for shape in grown)
