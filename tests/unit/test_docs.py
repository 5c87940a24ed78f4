"""What the pages say about the code and about each other is true: paths, names, links, the picture of the rooms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import rooms

ROOT = rooms.ROOT
DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", *DOCS.rglob("*.md"), *ROOT.glob("app/**/README.md"), *ROOT.glob("datasets/**/*.md")]
)
OF_TODAY = [page for page in PAGES if page.parent != DOCS / "log"]
"""Sections of the log name the files of their day."""
PATH = re.compile(r"`((?:app|actors|tune_spaces|tests|benchmarks|datasets|serve_configs|docs)/[\w./-]*)`")
NAME_IN = re.compile(r"`(\w+)`(?: and `(\w+)`)?\s+(?:in|of)\s+`([\w/]+\.py)`")
LINK = re.compile(r"(?:\]\(|src=\")([^)\s\"]+)")
EXAMPLES = {"app/NAME/", "app/evaluation/suites/NAME.py", "serve_configs/NAME.yaml"}


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    heads = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", text))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def defined(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize("page", OF_TODAY, ids=shown)
def test_paths_and_names_on_a_page_are_those_of_the_code(page: Path) -> None:
    text = page.read_text()
    assert not [path for path in PATH.findall(text) if path not in EXAMPLES and not (ROOT / path).exists()]
    for first, second, path in NAME_IN.findall(text):
        assert {first, second} - {""} <= defined(ROOT / path), path


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        place, _, anchor = link.partition("#")
        if not place.startswith("https://"):
            target = page.parent / place if place else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target.read_text()), link


def test_the_readme_links_every_page_and_the_log_every_month() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {*DOCS.glob("*.md"), DOCS / "log" / "README.md"} <= linked
    index = (DOCS / "log" / "README.md").read_text()
    for month in sorted((DOCS / "log").glob("20*.md")):
        sections = {anchor for anchor in anchors(month.read_text()) if re.match(r"\d{4}-\d\d-\d\d", anchor)}
        assert sections and not [section for section in sections if f"({month.name}#{section})" not in index]


def test_the_picture_of_the_rooms_is_what_the_code_gives() -> None:
    page = rooms.PAGE.read_text()
    assert page == rooms.with_rooms(page), "run `make rooms`"


def test_the_rooms_are_read_from_top_level_and_late_imports() -> None:
    tree = ast.parse("import app.corpus.build\nfrom app import runs\ndef f():\n    from app.ide.page import build\n")
    assert rooms.imported(tree) == {"app.corpus.build": True, "app.runs": True, "app.ide.page": False}
    given = {"a": {"b": True, "c": True}, "b": {"c": True}, "c": {}}
    assert rooms.without_shortcuts(given) == {"a": {"b": True}, "b": {"c": True}, "c": {}}
    cycle = {"a": {"b": True, "c": True}, "b": {"a": True, "c": False}, "c": {}}
    assert rooms.without_shortcuts(cycle) == cycle


def test_nothing_points_to_a_tracker_that_readers_do_not_have() -> None:
    for path in texts():
        assert not re.search(r"\bissue #?\d", path.read_text(errors="replace")), path


def texts() -> Iterator[Path]:
    yield from PAGES
    for folder in ("app", "actors", "tune_spaces", "tests", "benchmarks", "datasets", "serve_configs"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yaml", ".jinja"})
