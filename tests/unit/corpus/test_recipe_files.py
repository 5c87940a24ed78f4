"""A recipe as a person gives it: their own folder, from any directory, under a licence that they state."""

from pathlib import Path

import pytest

from app.corpus.manifest import nothing_to_learn
from app.corpus.recipe_check import check_recipe
from app.corpus.recipe_files import from_anywhere, load_recipe
from app.corpus.recipes import Recipe, split_of
from app.corpus.sources.distributions import Distribution
from app.corpus.sources.find import find_distributions
from app.errors import UserError
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import Run
from app.settings import CorpusSettings
from tests.unit.corpus.sources.test_find import GOOD

OWN = "LicenseRef-Own"
GPL_NOTICE = "# Licensed under the GNU General Public License.\n"


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def own(folder: Path, licence: str = OWN) -> Recipe:
    return load_recipe(CorpusSettings(recipe=str(folder), licence=licence))


def found_in(recipe: Recipe) -> list[Distribution]:
    return find_distributions(recipe, Path("unused"))


def test_a_folder_is_a_corpus_all_of_it_to_train_on(tmp_path: Path) -> None:
    recipe = own(write(tmp_path / "server", src__core_py=GOOD, README="mine"))
    (project,) = found_in(recipe)
    assert (project.name, [file.path for file in project.files]) == ("server", ["src/core.py"])
    assert (project.verdict.licence, project.verdict.evidence) == (OWN, "stated")
    assert check_recipe(recipe) == []
    assert {split_of(f"project-{n}", 0, recipe) for n in range(200)} == {"train"}


def test_a_folder_counts_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine", core_py=GOOD)
    monkeypatch.chdir(tmp_path)
    (source,) = load_recipe("mine").sources
    assert source.model_dump()["path"] == str(tmp_path / "mine")
    profile = from_anywhere(with_overrides(smoke(), ["corpus.recipe=mine"]))
    assert profile.corpus.recipe == str(tmp_path / "mine"), "a run may go on elsewhere"
    assert load_recipe("datasets/recipes/smoke.yaml").name == "smoke", "ours are found from everywhere"


def test_paths_of_a_recipe_count_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "code", core_py=GOOD)
    (tmp_path / "r.yaml").write_text(
        "name: x\nsources: [{kind: tree, path: ./code, licence: MIT}]\nsplit: {train: 1, validation: 0, test: 0}\n"
    )
    monkeypatch.chdir("/")
    assert check_recipe(load_recipe(str(tmp_path / "r.yaml"))) == []


def test_code_that_names_no_licence_is_refused_until_its_owner_states_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", core_py=GOOD)
    (problem,) = check_recipe(own(folder, ""))
    assert "names a licence" in problem and "corpus.licence=LicenseRef-Own" in problem and "\n" not in problem
    assert check_recipe(own(folder, "MIT")) == []
    (problem,) = check_recipe(own(folder, "CC-BY-NC-4.0"))
    assert "CC-BY-NC-4.0" in problem and "LicenseRef-Own" in problem


@pytest.mark.parametrize(
    ("stated", "near"), [("MTI", "'MIT'"), ("LicenceRef-Own", "'LicenseRef-Own'"), (" ", "spdx.org")]
)
def test_a_licence_that_is_misspelt_is_told_from_one_that_is_not_open(tmp_path: Path, stated: str, near: str) -> None:
    (problem,) = check_recipe(own(write(tmp_path / "mine", core_py=GOOD), stated))
    assert repr(stated) in problem and "no SPDX expression" in problem and near in problem


@pytest.mark.parametrize(
    ("licence", "files", "learnt"),
    [
        (OWN, {"LICENSE": "All rights reserved by ACME. Do not copy."}, OWN),
        (OWN, {"pyproject.toml": '[project]\nname = "a"\nlicense = "Apache-2.0"\n'}, "Apache-2.0"),
        ("MIT", {"pyproject.toml": '[project]\nname = "a"\nlicense = "LicenseRef-Secret"\n'}, ""),
    ],
)
def test_what_a_tree_says_itself_comes_before_what_is_stated(
    tmp_path: Path, licence: str, files: dict[str, str], learnt: str
) -> None:
    folder = write(tmp_path / "mine", core_py=GOOD, **files)
    (project,) = found_in(own(folder, licence))
    assert project.verdict.approved == bool(learnt) and (not learnt or project.verdict.licence == learnt)


def test_projects_of_one_name_are_all_kept_and_on_one_side(tmp_path: Path) -> None:
    for folder in ("old__app", "new__app", "new__more"):
        write(tmp_path / "all", **{f"{folder.partition('__')[2]}{folder[:3]}__core_py": GOOD})
        (tmp_path / "all" / f"{folder.partition('__')[2]}{folder[:3]}" / "pyproject.toml").write_text(
            '[project]\nname = "app"\nlicense = "MIT"\n'
        )
    recipe = own(tmp_path / "all", "")
    names = [project.name for project in found_in(recipe)]
    assert names == ["app", "app (appold)", "app (morenew)"]
    shares = recipe.model_copy(update={"split": Recipe.model_fields["split"].default})
    for seed in range(50):
        assert len({split_of(name, seed, shares) for name in names}) == 1


def test_every_folder_that_gives_nothing_is_named_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "all" / "good", core_py=GOOD)
    write(tmp_path / "all" / "env__is__read", core_py=GOOD)
    write(tmp_path / "all" / "good" / "env", core_py=GOOD)
    write(tmp_path / "all" / "notes", text="no code")
    (tmp_path / "all" / "gone").symlink_to(tmp_path / "nowhere")
    found = {project.name: project for project in found_in(own(tmp_path / "all"))}
    assert found["notes"].verdict.reason == "empty: no Python file"
    assert found["good"].rejected == (("env", "vendored: an environment or other people's code"),)
    assert found["gone"].rejected == ((".", "unreadable: FileNotFoundError"),)


def test_ids_that_do_not_exist_and_an_empty_recipe_are_one_sentence(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", core_py=GOOD)
    policy = {"licences": {"also_allow": ["CC0-1.0", "NONSENSE"]}}
    (problem,) = check_recipe(Recipe.model_validate(own(folder).model_dump() | policy))
    assert "NONSENSE" in problem and "CC0-1.0" not in problem
    (tmp_path / "r.yaml").write_text("")
    with pytest.raises(UserError, match="holds no keys"):
        load_recipe(str(tmp_path / "r.yaml"))


def test_a_python_file_or_a_licence_beside_a_recipe_file_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, core_py=GOOD)
    (tmp_path / "r.yaml").write_text("name: x\nsources: [{kind: installed_python}]\n")
    with pytest.raises(UserError, match="give the folder"):
        load_recipe(str(tmp_path / "core.py"))
    with pytest.raises(UserError, match=r"corpus\.licence = 'MIT' .* sources of the kind tree"):
        load_recipe(CorpusSettings(recipe=str(tmp_path / "r.yaml"), licence="MIT"))


def test_a_folder_of_which_nothing_is_learnt_is_one_sentence_with_the_reasons(tmp_path: Path) -> None:
    made = {"rows": 0, "problems": {"train": {"mined": 0}}, "rejected": {"test": 24}, "recipe": {"name": "mine"}}
    told = nothing_to_learn(Run(tmp_path), made)
    assert "'mine' gives nothing to learn" in told and "(test 24)" in told and "rejected.parquet" in told
    assert not nothing_to_learn(Run(tmp_path), made | {"rows": 1})
    assert not nothing_to_learn(Run(tmp_path), made | {"problems": {"train": {"mined": 1}}})
