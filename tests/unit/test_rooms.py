"""Imports go one way: from the commands down to what everything stands on (docs/architecture.md draws it)."""

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import rooms
from tests.conftest import ROOT

LEVELS = (
    ("app.__main__",),
    ("app.cli",),
    ("app.pipeline",),
    ("app.stages",),
    ("app.ide", "app.connect", "app.export"),
    ("app.planning", "app.report"),
    ("app.report_plots",),
    ("app.evolution",),
    ("app.reward.stage",),
    ("app.reward.arms",),
    ("app.reward.model_card", "app.reward.ray_learning"),
    ("app.reward.summary",),
    ("app.reward.critic", "app.reward.tool_use"),
    ("app.reward.imitation",),
    ("app.reward.by_reward",),
    ("app.reward.preparing",),
    ("app.reward.drafts",),
    ("app.reward.problems",),
    ("app.reward",),
    ("app.evaluation", "app.serving", "app.training"),
    ("app.best_of", "app.docsearch", "app.evaluation.suites", "app.training.experimental"),
    ("app.problem_tests",),
    ("app.corpus.build",),
    ("app.corpus.identity", "app.corpus.manifest", "app.corpus.recipe_check"),
    ("app.corpus.credits",),
    ("app.corpus.rows",),
    ("app.corpus.examples",),
    ("app.corpus.mining",),
    ("app.corpus.clean",),
    ("app.corpus.sources",),
    ("app.corpus",),
    ("app.generation", "app.sandbox"),
    ("app.cluster", "app.models", "app.problem_sets", "app.prompting"),
    ("app",),
)
"""Rooms, and modules that are levels of their own, the highest first. A room imports from levels below it; rooms of one
level know nothing of each other. `app` is what lies at the root, with the folders `app.files`, `app.running` and
`app.stage_settings`."""
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "app").rglob("*.py")
}


def room_of(module: str) -> str:
    """The longest name in LEVELS that the module is, or lies in."""
    names = (name for level in LEVELS for name in level)
    return max((name for name in names if f"{module}.".startswith(f"{name}.")), key=len)


def imports(path: Path) -> set[str]:
    return rooms.imported_by(path).keys() & SOURCES.keys()


def test_a_room_imports_from_the_levels_below_it() -> None:
    rank = {name: number for number, level in enumerate(LEVELS) for name in level}
    upward = [
        f"{module} imports {imported}"
        for module, path in SOURCES.items()
        for imported in imports(path)
        if room_of(module) != room_of(imported) and rank[room_of(module)] >= rank[room_of(imported)]
    ]
    assert not upward


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: imports(path) for module, path in SOURCES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_root_of_app_holds_what_no_room_does() -> None:
    modules = {path.stem for path in (ROOT / "app").glob("*.py")}
    assert modules == {
        *("__init__", "__main__", "cli", "errors", "hardware", "learnt_from", "overrides", "pipeline", "profiles"),
        *("progress", "records", "report", "report_plots", "rights", "runs", "settings", "stages"),
    }
