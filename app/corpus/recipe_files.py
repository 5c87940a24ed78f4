"""A recipe as a person gives it: a YAML file, or a folder of their own code, which is a corpus by itself.

A folder is one source of the kind `tree`, all of it to train on. Its licence is the one that the folder names, or what
the setting corpus.licence states for what names none.
"""

from pathlib import Path

from app.corpus.recipes import CodeSource, Recipe, Split, TaskSource, Tree
from app.errors import UserError
from app.files.user_files import user_path
from app.overrides import parse_settings, read_yaml
from app.runs import REPOSITORY, located
from app.settings import CorpusSettings, Profile


def from_anywhere(profile: Profile) -> Profile:
    """The settings with a recipe that was found from the working directory written out, since a run may go on from
    another; from the repository's root it stays as it is."""
    path = user_path(profile.corpus.recipe)
    if path.is_absolute() or not path.exists() or Path.cwd() == REPOSITORY:
        return profile
    corpus = profile.corpus.model_copy(update={"recipe": str(path.resolve())})
    return profile.model_copy(update={"corpus": corpus})


def load_recipe(settings: CorpusSettings | str) -> Recipe:
    """The recipe that the settings name; a text is its path. Relative paths of sources count from the recipe's folder.

    Raises UserError naming the file and the key.
    """
    given = CorpusSettings(recipe=settings) if isinstance(settings, str) else settings
    path, what = located(given.recipe), f"recipe {given.recipe!r}"
    if not path.exists():
        ours = sorted(str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "datasets/recipes").glob("*.yaml"))
        raise UserError(
            f"{what} does not exist: set corpus.recipe to one of {', '.join(ours)}, to a file of yours, or to a folder "
            "of your code"
        )
    if path.is_dir():
        source = Tree(kind="tree", path=str(path), licence=given.licence)
        return Recipe(name=path.name or "root", sources=(source,), split=Split(train=1, validation=0, test=0))
    if path.suffix == ".py":
        raise UserError(f"{what} is Python code: give the folder that it lies in")
    if given.licence:
        raise UserError(
            f"corpus.licence = {given.licence!r} states the licence of a folder given as corpus.recipe, and {what} is "
            "a file: give `licence` to its sources of the kind tree"
        )
    data = read_yaml(path, what, "mend the file")
    if not isinstance(data, dict):
        raise UserError(f"{what} holds no keys: it needs at least `name` and `sources` (docs/corpus.md)")
    recipe = parse_settings(Recipe, data, what)
    return recipe.model_copy(update={"sources": tuple(_from(path.parent, source) for source in recipe.sources)})


def _from(folder: Path, source: CodeSource | TaskSource) -> CodeSource | TaskSource:
    """The source with its path counted from the recipe's folder, where it is a relative one."""
    path = getattr(source, "path", "")
    if not path or path.startswith("~") or Path(path).is_absolute():
        return source
    return source.model_copy(update={"path": str(folder / path)})
