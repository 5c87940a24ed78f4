"""Who survives, whose child comes in whose place, and what the lineage's file holds of it."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.evolution.lineage import (
    Child,
    Life,
    Member,
    Outcome,
    add_generation,
    ancestry,
    founders,
    heirs,
    read_lineage,
    succession,
)
from tests.unit.evolution.made_run import lineage

MEMBERS = founders(["a", "b", "c", "d"])


def pairs(scores: dict[str, float | None], keep: int, *, highest: bool = True) -> list[tuple[str, str]]:
    """Member and who replaces it, by trial."""
    found = succession(MEMBERS, scores, keep, highest=highest)
    return [(member.trial, donor.trial if donor else "") for member, donor in found]


def test_the_best_survive_and_take_turns_in_replacing_the_others() -> None:
    scores: dict[str, float | None] = {"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.3}
    assert pairs(scores, 2) == [("b", ""), ("d", ""), ("c", "b"), ("a", "d")]
    assert pairs(scores, 2, highest=False) == [("a", ""), ("c", ""), ("d", "a"), ("b", "c")]
    assert pairs(scores, 1) == [("b", ""), ("d", "b"), ("c", "b"), ("a", "b")]


def test_one_without_a_number_is_worse_than_any_other_and_one_that_failed_never_survives() -> None:
    assert pairs({"a": None, "c": -1e9}, 2) == [("c", ""), ("a", ""), ("b", "c"), ("d", "a")]
    assert pairs({"a": None, "c": -1e9}, 1) == [("c", ""), ("a", "c"), ("b", "c"), ("d", "c")]
    assert pairs({}, 2) == [("a", ""), ("b", ""), ("c", ""), ("d", "")], "nobody to replace them"


def test_equal_ones_keep_their_order() -> None:
    assert pairs(dict.fromkeys("abcd", 0.5), 2) == [("a", ""), ("b", ""), ("c", "a"), ("d", "b")]


def life(trial: str, outcome: Outcome = Outcome.SURVIVED, child: Child | None = None, generation: int = 1) -> Life:
    return Life(
        generation=generation,
        id=f"{trial}.1",
        trial=trial,
        parent="",
        config={"rate": 0.1, "ranks": [4, 8]},
        score=None if outcome is Outcome.FAILED else 0.5,
        outcome=outcome,
        replaced_by=child,
    )


CHILD = Child(id="c.2", trial="c", parent="a.1", donor="a", config={"rate": 0.2})
NEWCOMER = Child(id="d_2.2", trial="d_2", parent="a.1", donor="a", config={"rate": 0.2})


def test_the_next_generation_are_the_survivors_and_the_children() -> None:
    lives = [life("a"), life("b", Outcome.FAILED), life("c", Outcome.REPLACED, CHILD)]
    assert heirs([*lives, life("d", Outcome.FAILED, NEWCOMER)]) == [
        Member(id="a.1", trial="a", parent=""),
        Member(id="c.2", trial="c", parent="a.1"),
        Member(id="d_2.2", trial="d_2", parent="a.1"),
    ]
    assert not heirs([life("a", Outcome.FINISHED)])


def test_a_file_gives_back_what_was_added_and_takes_no_line_twice(tmp_path: Path) -> None:
    path = tmp_path / "evolve" / "lineage.jsonl"
    assert read_lineage(path) == []
    first = [life("a"), life("c", Outcome.REPLACED, CHILD)]
    add_generation(path, first)
    add_generation(path, [life("a", generation=2)])
    assert read_lineage(path) == [*first, life("a", generation=2)]
    with pytest.raises(ValueError, match=r"already: \[\(2, 'a.1'\)\]"):
        add_generation(path, [life("b", generation=2), life("a", generation=2)])
    assert len(read_lineage(path)) == 3


def test_a_survivor_has_no_child_in_its_place() -> None:
    with pytest.raises(ValueError, match="nobody can have replaced it"):
        life("a", Outcome.SURVIVED, CHILD)


@pytest.mark.parametrize("line", ['{"generation": 1}', '{"outcome": "lost", "replaced_by": null}'])
def test_a_line_of_another_kind_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "lineage.jsonl"
    add_generation(path, [life("a")])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"lineage.jsonl:2 does not describe an individual"):
        read_lineage(path)


def test_a_line_of_descent_goes_back_to_the_first_generation_past_who_was_not_trained() -> None:
    lives = [one for generation in lineage() for one in generation]
    assert [one.id for one in ancestry(lives, "e_00002.3")] == ["e_00001.1", "e_00003.2", "e_00002.3"]
    assert [one.generation for one in ancestry(lives, "e_00001.1")] == [1], "born once, whatever it lived through"
    past = ancestry(lives, "e_00000_2.3")
    assert [one.id for one in past] == ["e_00001.1", "e_00003.2", "e_00000_2.3"] and past[-1].parent == "imitation.2"
    with pytest.raises(UserError, match=r"does not tell where e_00001\.1 comes from"):
        ancestry([one for one in lives if one.id != "e_00001.1"], "e_00002.3")
