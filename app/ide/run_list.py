"""The runs that the page may show: those under the usual folders, and the one that is served. A name that is on no list
is refused, so nothing else of the disk is read."""

from collections.abc import Sequence
from pathlib import Path

from app.errors import UserError
from app.files.text import has_surrogates
from app.runs import REPOSITORY, Run, runs_root

MOST = 100


class RunList:
    """Made by `actors.ide`; asked by the page."""

    def __init__(self, served: Path | None = None, folders: Sequence[Path] | None = None) -> None:
        """served: the run whose adapters answer, if there is one. folders: that hold runs; left out, the usual ones."""
        self._served = served
        self._folders = folders

    def names(self) -> list[str]:
        """The one that was changed last first, the served one before all."""
        found = self._found()
        served = [name for name, root in found.items() if root == self._served]
        others = sorted(found.keys() - set(served), key=lambda name: -_changed(found[name]))
        return [*served, *others[:MOST]]

    def open(self, name: str | None) -> Run:
        """Raises UserError for a name that is not on the list."""
        root = self._found().get(name or "")
        if root is None:
            what = f"There is no run {name!r} any more" if name else "There is no run yet"
            raise UserError(f"{what}: `python -m app pipeline` makes one.")
        return Run(root)

    def _found(self) -> dict[str, Path]:
        folders = self._folders if self._folders is not None else sorted({runs_root(), REPOSITORY / "runs"})
        roots = [path.parent for folder in folders for path in folder.glob("*/run.json")]
        if self._served and (self._served / "run.json").exists():
            roots.append(self._served)
        return {root.name: root for root in roots if not has_surrogates(root.name)}  # no JSON has those


def _changed(root: Path) -> float:
    try:
        return (root / "run.json").stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0
