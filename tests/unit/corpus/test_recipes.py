"""What a recipe says, what is wrong with one, and on which side of the split a distribution is."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.recipe_check import check_recipe, network_needs
from app.corpus.recipe_files import load_recipe
from app.corpus.recipes import Recipe, non_osi_sources, split_of
from app.errors import UserError
from app.runs import REPOSITORY
from tests.unit.corpus.sources.test_find import COLUMNS, row, write_lines, write_tree, write_wheel

RECIPES = sorted(path.name for path in (REPOSITORY / "datasets/recipes").glob("*.yaml"))
INSTALLED = {"kind": "installed_python"}


@pytest.fixture(autouse=True)
def nobodys_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no-cache"))


def recipe_of(*sources: dict[str, Any], **settings: Any) -> Recipe:
    return Recipe.model_validate({"name": "t", "sources": list(sources), **settings})


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_that_comes_along_loads(name: str) -> None:
    recipe = load_recipe(f"datasets/recipes/{name}")
    assert recipe.name == name.removesuffix(".yaml")
    plain = {"completion", "file"}
    shares = recipe.forms.model_dump()
    dominate = sum(shares[form] for form in plain) < 0.1 * sum(shares.values())
    assert dominate or name == "smoke.yaml", "instructions dominate wherever a row holds one"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sources: [{kind: installed_python, exlude: [a]}]", ["exlude", "did you mean 'exclude'", "sources.0"]),
        ("sources: [{kind: installed_python}]\nlicenses: {}", ["licenses", "did you mean 'licences'"]),
        ("sources: [{kind: installed_python}]\nforms: {doc_to_cod: 1}", ["doc_to_cod", "did you mean 'doc_to_code'"]),
        ("sources: [{kind: installed_python, weight: 0}]", ["weight", "greater than 0"]),
        ("sources: [{kind: jsonl, path: a, columns: {content: x}}]", ["columns.path"]),
        ("sources: [{kind: directory, path: a}]", ["directory", "'wheels'", "'tree'"]),
        ("sources: [{kind: mbpp_train, weight: 2}]", ["weight"]),
        ("sources: [{kind: installed_python}]\nsplit: {train: 0.5}", ["split", "add up to 1"]),
        ("sources: [{kind: the_stack_v2, language: Rust}]", ["language", "Python"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_the_way_out(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\n{text}\n")
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert all(word in str(caught.value) for word in [*words, str(path)]), caught.value


def test_the_split_is_by_name_near_its_shares_and_the_same_for_every_spelling() -> None:
    recipe = recipe_of(INSTALLED)
    counts = Counter(split_of(f"package-{i}", 0, recipe) for i in range(4000))
    assert 3500 < counts["train"] < 3700 and 140 < counts["validation"] < 260 and 140 < counts["test"] < 260
    assert all(split_of(f"A_b{i}", 0, recipe) == split_of(f"a-B{i}", 0, recipe) for i in range(100))
    assert any(split_of(f"p{i}", 0, recipe) != split_of(f"p{i}", 1, recipe) for i in range(100))
    everything = recipe_of(INSTALLED, split={"train": 1, "validation": 0, "test": 0})
    assert {split_of(f"p{i}", 0, everything) for i in range(1000)} == {"train"}


def test_a_recipe_that_can_be_built_has_no_problem(tmp_path: Path) -> None:
    write_wheel(tmp_path, "one")
    write_tree(tmp_path / "trees", "two")
    write_lines(tmp_path / "t.jsonl", [row()])
    pq.write_table(pa.Table.from_pylist([row()]), tmp_path / "t.parquet")
    recipe = recipe_of(
        {"kind": "wheels", "path": str(tmp_path), "include": ["one"]},
        {"kind": "tree", "path": str(tmp_path / "trees")},
        {"kind": "jsonl", "path": str(tmp_path / "*.jsonl"), "columns": COLUMNS},
        {"kind": "parquet", "path": str(tmp_path / "t.parquet"), "columns": COLUMNS},
        {"kind": "standard_library"},
        licences={"also_allow": ["PSF-2.0"]},
    )
    assert check_recipe(recipe) == [] and network_needs(recipe) == [] and non_osi_sources(recipe) == []


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    write_wheel(tmp_path, "one")
    write_lines(tmp_path / "t.jsonl", [row()])
    pq.write_table(pa.Table.from_pylist([row()]), tmp_path / "t.parquet")
    mistaken = COLUMNS | {"licence": "license", "author": "who"}
    problems = check_recipe(
        recipe_of(
            {"kind": "wheels", "path": "/nowhere"},
            {"kind": "wheels", "path": str(tmp_path), "exclude": ["human-evil"], "include_paths": ["src/*"]},
            {"kind": "jsonl", "path": str(tmp_path / "t.jsonl"), "columns": mistaken},
            {"kind": "parquet", "path": str(tmp_path / "t.parquet"), "columns": mistaken},
            {"kind": "jsonl", "path": str(tmp_path / "gone*.jsonl"), "columns": COLUMNS},
            {"kind": "the_stack_v2"},
            {"kind": "mbpp_train"},
            {"kind": "tree", "path": "/nowhere/else"},
        )
    )
    expected = [
        ("sources.0 (wheels)", "'/nowhere' is no folder"),
        ("sources.1 (wheels)", "exclude 'human-evil' matches none of its 1 distributions"),
        ("sources.1 (wheels)", "include_paths 'src/*' matches no file"),
        ("sources.1 (wheels)", "no Python file under an approved licence is left"),
        ("sources.2 (jsonl)", "columns.licence = 'license' is no field"),
        ("sources.2 (jsonl)", "columns.author = 'who' is no field"),
        ("sources.3 (parquet)", "columns.licence = 'license' is no field"),
        ("sources.3 (parquet)", "columns.author = 'who' is no field"),
        ("sources.4 (jsonl)", "names no file"),
        ("sources.5 (the_stack_v2)", "a Hugging Face token (set HF_TOKEN) and AWS credentials"),
        ("sources.6 (mbpp_train)", "for evaluation only (CC-BY-4.0)"),
        ("sources.7 (tree)", "'/nowhere/else' is no folder"),
    ]
    assert len(problems) == len(expected), problems
    for problem, (start, words) in zip(problems, expected, strict=True):
        assert problem.startswith(start) and words in problem and "\n" not in problem, problem


def test_the_network_is_announced_and_terms_that_are_no_open_source_are_shown(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({}) + "\n")
    recipe = recipe_of(
        {"kind": "the_stack_v2", "max_files": 1000},
        {"kind": "leetcode"},
        {"kind": "apps", "path": str(tmp_path / "train.jsonl")},
        licences={"allow_non_osi": True},
    )
    stack, leetcode = network_needs(recipe)
    assert "HF_TOKEN" in stack and "AWS" in stack and "1,000 files" in stack and "GB" in stack
    assert "LeetCodeDataset-train.jsonl of newfacade/LeetCodeDataset" in leetcode
    assert [text.partition(":")[0] for text in non_osi_sources(recipe)] == ["leetcode", "apps"]
    assert "sources: none of them gives files" in check_recipe(recipe_of({"kind": "leetcode"}))[-1]


def test_the_recipes_that_need_no_account_have_no_problem_here_but_the_users_folder() -> None:
    assert check_recipe(load_recipe("datasets/recipes/installed_python.yaml")) == []
    (problem,) = check_recipe(load_recipe("datasets/recipes/open_source.yaml"))
    assert problem.startswith("sources.2 (wheels)") and "~/wheels" in problem
