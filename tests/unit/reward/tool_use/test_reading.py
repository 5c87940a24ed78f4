"""Functions out of the corpus' sources: whose licence allows it, that no benchmark has, in words that others use."""

import csv
from pathlib import Path

import pytest

from app import rights
from app.corpus.clean.decontamination import Decontaminator
from app.corpus.recipes import Recipe, Split, Tree
from app.records import BenchmarkText
from app.reward.tool_use.formats import formatted_problems
from app.reward.tool_use.making import made_problems
from app.reward.tool_use.names import forms_of
from app.reward.tool_use.reading import Found, found_functions, untouched, write_whose
from tests.unit.reward.tool_use.made import SOURCES

JARGON = '''def fold_zorps(zorp: str) -> str:
    """Convert zorps into quuxes before frobnicating.

    Args:
        zorp: What is folded.
    """
    return zorp
'''


def tree(root: Path, name: str, licence: str, sources: tuple[str, ...]) -> None:
    (root / name / name).mkdir(parents=True)
    (root / name / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\nversion = "1"\nlicense = "{licence}"\nauthors = [{{name = "Lena"}}]\n'
    )
    (root / name / name / "lines.py").write_text("from typing import *\n\n\n" + "\n\n".join(sources))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    root = tmp_path_factory.mktemp("trees")
    for name in ("one", "two", "three"):
        tree(root, name, "MIT", SOURCES)
    tree(root, "own", "BSD-3-Clause", (JARGON,))
    tree(root, "closed", "LicenseRef-Proprietary", (SOURCES[0].replace("shorten_line", "closed_line"),))
    recipe = Recipe(
        name="trees",
        sources=(Tree(kind="tree", path=str(root)),),
        split=Split(train=1, validation=0, test=0),
    )
    near = "Encode a password so that nobody can read it, ever, and return it to me at once"
    guard = Decontaminator([BenchmarkText(problem_id="b/1", entry_point="encode_password", text=near)])
    names = frozenset(forms_of("pictures.Resize-Picture"))
    return found_functions(recipe, guard, names, root / "cache", seed=0, max_files=100)


def test_each_function_is_taken_once_from_whom_allows_it(found: Found) -> None:
    names = {one.name.rpartition(".")[2] for one in found.functions}
    wanted = {source.partition("def ")[2].partition("(")[0] for source in SOURCES}
    assert names == wanted - {"resize_picture", "encode_password"}
    assert {one.origin.distribution for one in found.functions if one.origin} <= {"one", "two", "three"}
    assert found.left_out["of a name that is taken"] == 2 * len(names)
    assert "closed" not in found.distributions


def test_what_a_benchmark_has_is_left_out_by_its_name_and_by_its_text(found: Found) -> None:
    assert found.left_out["benchmark: named as a function of it"] == 3
    assert found.left_out["benchmark: entry point"] == 3


def test_a_packages_own_words_are_nothing_to_ask_for(found: Found) -> None:
    assert found.left_out["in words that few use"] == 1


def test_a_problem_that_touches_a_suite_is_dropped_and_the_others_have_their_owners_named(
    found: Found, tmp_path: Path
) -> None:
    ours = formatted_problems(5, 0, "train", frozenset())
    problems = [*made_problems(found.functions, 60, seed=0), *ours]
    text = f"{problems[0].problem.prompt} {problems[0].reply}"
    guard = Decontaminator([BenchmarkText(problem_id="b/2", entry_point="", text=text)])
    kept = untouched(problems, guard)
    assert problems[0] not in kept and len(kept) > 40 and kept[-5:] == ours
    write_whose(tmp_path / "attribution.csv", kept, found, {"suites": [], "unguarded": ["b"]})
    rows = list(csv.DictReader((tmp_path / "attribution.csv").open()))
    assert {row["licence"] for row in rows} == {"MIT"} and {row["author"] for row in rows} == {"Lena"}
    assert sum(int(row["tokens"]) for row in rows) == sum(len(one.origins) for one in kept)
    held = rights.read(tmp_path)
    assert held and held.learnt[0].rows == (("tools", "MIT", len(kept)),)
    assert held and held.guards[0].unguarded == ("b",) and held.learnt[0].stage == "tools"
    assert {holder.who for notice in held.notices for holder in notice.holders} == {row["distribution"] for row in rows}
