"""What the report reads of an evolution, and the pictures that it draws of it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evolution import pictures
from app.evolution.history import boundary_file
from app.evolution.standings import short
from app.evolution.summary import Gene, Summary, summary_of
from app.files.json_files import write_json
from app.reward.drafts.files import append, begin_lines, finish, lines_beside
from app.reward.records import JudgedDraft
from app.runs import Run
from tests.unit.evolution.made_run import FRESH, meta, write_evolution
from tests.unit.reward.made_drafts import group


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path)
    write_evolution(run)
    return run


def summary(run: Run, **changed: Any) -> Summary:
    """With other entries of meta.json."""
    write_json(run.evolve_meta, meta() | changed)
    found = summary_of(run)
    assert found is not None
    return found


def draw_untouched(run: Run, number: int, drafts: Sequence[JudgedDraft]) -> None:
    path = run.evolve_untouched / "validation" / f"0-{number}.parquet"
    begin_lines(lines_beside(path), {})
    for one in drafts:
        append(lines_beside(path), one, "")
    finish(path, {}, [(one.draft.problem_id, one.draft.sample) for one in drafts])


def test_one_sentence_says_what_came_of_it(run: Run) -> None:
    assert summary(run).outcome == (
        "The individual `e_00002.3`, a child of `e_00003.2`, is **better than** the untouched model on fresh drafts, "
        "which had no part in choosing it: +4.1 points of pass@1 (+1.2 to +7.1) over 214 validation problems, 38 "
        "better and 19 worse. The problems had no part in it either."
    )
    assert summary(run, fresh_problems="the same").outcome.endswith("which may suit it a little better than others do.")
    unsure = FRESH | {"interval_95": [-0.012, 0.071]}
    assert "is **not to be told apart from** the untouched" in summary(run, fresh=unsure).outcome
    worse = FRESH | {"interval_95": [-0.12, -0.071]}
    imitation = {"id": "imitation.3", "generation": 3, "is_imitation": True, "config": {}}
    told = summary(run, fresh=worse, winner=imitation).outcome
    assert told.startswith("The imitation of what all individuals had solved, of generation 3, is **worse than**")
    founder = meta()["winner"] | {"id": "e_00001.1"}
    told = summary(run, fresh=None, winner=founder).outcome
    assert told.startswith("The individual `e_00001.1`, one of the first generation, came out best; no fresh draft")


def test_a_generation_has_its_best_its_imitation_and_who_was_really_replaced(run: Run) -> None:
    first, second, last = summary(run).generations
    assert (first.best, first.imitation_place, first.individuals, first.replaced) == ("e_00001.1", 3, 3, 1)
    assert (second.best, second.imitation_place, second.replaced) == ("imitation.2", 1, 2)
    assert last.replaced == 0, "a donor was found in the last generation too, and nobody comes after it"
    assert last.pass_at_1 == pytest.approx(0.318 * 1.02) and last.drafts == (2, 4)


def test_places_parents_and_worths_come_from_what_each_part_of_the_run_knows(run: Run) -> None:
    found = {(one.generation, one.id): one for one in summary(run).standings}
    assert [found[end].place for end in ((1, "e_00000.1"), (2, "e_00000_2.2"), (3, "e_00000_2.3"))] == [0, 0, 0]
    assert found[3, "e_00002.3"].place == 2 and found[3, "e_00002.3"].parent == "e_00003.2"
    assert found[1, "e_00000.1"].fitness is None and found[1, "e_00000.1"].genome["mixture: mbpp"] == 1.0
    assert found[2, "imitation.2"].place is None and found[2, "imitation.2"].is_imitation
    assert found[0, "trunk"].fitness == pytest.approx(0.226), "by its own drafts: no boundary tells of it"
    assert [one.id for one in summary(run).failed] == ["e_00000.1"]


def test_the_winner_has_its_genes_and_its_ancestors(run: Run) -> None:
    found = summary(run)
    assert found.descent == [(1, "e_00001.1"), (2, "e_00003.2"), (3, "e_00002.3")]
    genes = {gene.name: gene for gene in found.genes}
    changes = [("e_00001.1", 1.1e-4), ("e_00003.2", 1.43e-4)]
    assert genes["learning_rate"] == Gene(
        name="learning_rate", setting=7e-5, value=1.43e-4, changes=changes, varies=True
    )
    assert genes["clip_high"].changes == [] and genes["clip_high"].varies, "others had another one"
    assert not {"lora_r", "mixture: ours"} & genes.keys(), "all have what grm says"


def test_a_line_of_descent_begins_where_weights_came_from_an_imitation(run: Run) -> None:
    child = summary(run, winner=meta()["winner"] | {"id": "e_00000_2.3"})
    assert child.descent == [(2, "imitation.2"), (3, "e_00000_2.3")]
    imitation = {"id": "imitation.3", "generation": 3, "is_imitation": True, "config": {}}
    found = summary(run, winner=imitation)
    assert found.descent == [(3, "imitation.3")] and found.shown == "e_00002.3", "its genes are the best individual's"


def test_the_untouched_model_is_measured_by_the_problems_of_all(run: Run) -> None:
    assert summary(run).untouched is None
    draw_untouched(run, 0, group("+-", name="p"))
    draw_untouched(run, 1, group("++", name="one that selection left out"))
    assert summary(run).untouched == 0.5


def test_pictures_are_made_of_whatever_is_left_of_the_run(run: Run) -> None:
    shutil.rmtree(run.evolve_individuals)
    found = summary(run)
    assert len(pictures.population(found).axes) == 3 and found.phases == {}
    assert [gene.name for gene in found.genes][:2] == ["learning_rate", "temperature"], "the lineage has genomes too"
    assert len(pictures.genes(found).axes) == 6
    run.evolve_lineage.unlink()
    found = summary(run)
    assert len(pictures.population(found).axes) == 2, "without a family tree"
    assert (found.generations[0].replaced, found.genes, pictures.genes(found)) == (None, [], None)
    for number in (1, 2, 3):
        boundary_file(run.evolve_boundaries, number).unlink()
    found = summary(run, audit=None)
    assert (found.generations, found.standings, found.audit) == ([], [], None)


def names_in_tree(found: Summary) -> list[str]:
    """Those of its individuals, once it is sure that none lies on another, or outside of the picture."""
    figure = pictures.population(found)
    figure.draw_without_rendering()
    named = [text for text in figure.axes[2].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in named]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
    return [text.get_text() for text in named]


def test_names_in_the_family_tree_lie_beside_each_other(run: Run) -> None:
    found = summary(run)
    named = names_in_tree(found)
    assert {"2.3  0.318", "0.1  failed", "0.292"} <= {*named} and len(named) == 15
    one = next(each for each in found.standings if each.id == "e_00000_2.2")
    places, numbers = range(pictures.MOST_ROWS), range(1, pictures.MOST_GENERATIONS + 1)
    many = [replace(one, place=place, generation=number, id=f"e_000{10 + place}_{number}.{number}")
            for place in places for number in numbers]  # fmt: skip
    crowded = replace(found, standings=many, generations=[found.generations[0]] * len(numbers))
    assert len(names_in_tree(crowded)) == len(many), "the most that still get names"


def test_a_large_population_has_no_names(run: Run) -> None:
    found = summary(run)
    second = next(one for one in found.standings if one.place == 1)
    more = [replace(second, id=f"x_{number}.1", place=number) for number in range(4, 40)]
    figure = pictures.population(replace(found, standings=[*found.standings, *more]))
    assert not figure.axes[2].texts and figure.get_figheight() < 15


def test_there_is_nothing_to_tell_of_an_evolution_that_has_not_ended(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert summary_of(run) is None
    write_json(run.evolve_meta, {"winner": {}})
    with pytest.raises(UserError, match=r"evolve/meta.json can't be read as the end of evolution \(KeyError"):
        summary_of(run)


def test_names_are_short_where_tune_made_them() -> None:
    named = {"5f0c1_00003.2": "3.2", "5f0c1_00000_2.2": "0_2.2", "5f0c1_00010.1": "10.1", "imitation.3": "imitation.3"}
    assert {name: short(name) for name in named} == named and short("trunk") == "trunk" and short("a_b") == "a_b"
