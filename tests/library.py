"""A small source tree and its recipe: found and judged at once, where the environment's packages take seconds."""

import shutil
import sysconfig
from pathlib import Path

FILES = (
    "textwrap.py bisect.py colorsys.py statistics.py shlex.py heapq.py difflib.py calendar.py string.py fractions.py "
    "quopri.py keyword.py html/__init__.py base64.py"
).split()
"""Of the standard library, fourteen that are short or middling."""


def write_library(folder: Path) -> Path:
    """Write the tree `library` below this folder and a recipe that trains on all of it; returns the recipe's path."""
    tree = folder / "library"
    for name in FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(sysconfig.get_path("stdlib")) / name, tree / name)
    (tree / "pyproject.toml").write_text('[project]\nname = "library"\nversion = "1"\nlicense = "MIT"\n')
    recipe = folder / "recipe.yaml"
    split = "split: {train: 1, validation: 0, test: 0}"
    recipe.write_text(f"name: small\nsources:\n  - {{kind: tree, path: {tree}}}\n{split}\n")
    return recipe
