"""The picture of the rooms in docs/architecture.md, made from the imports of the code.

    make rooms        # python -m tests.rooms: writes the picture and the table into the page

A room is a folder of app/, a file at its level that imports a room, or one of the folders beside app/. The other files
of app/ (records, settings, runs, errors, ...) and what they use themselves are open to every room: imports of them are
left out. If A reaches C through B, the picture leaves out the arrow A to C; the table has them all.
tests/unit/test_docs.py fails when the page is behind the code.
"""

import ast
import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- made by `make rooms` -->", "<!-- end of what `make rooms` made -->"
BESIDE = ("actors", "tune_spaces")
OPEN_TO_ALL = ("files", "running", "stage_settings")
"""Folders that the files at app/'s level use themselves."""
Arrows = dict[str, dict[str, bool]]
"""By room the rooms that it imports; True: when its modules are loaded, False: only inside of functions."""


def modules() -> Iterator[Path]:
    for folder in ("app", *BESIDE):
        yield from sorted(ROOT.joinpath(folder).rglob("*.py"))


def room_of(module: str) -> str:
    """app.corpus.rows.packing -> corpus; app.cli -> cli.py; actors.judges -> actors; anything else -> empty."""
    first, *rest = module.split(".")
    if first in BESIDE:
        return first
    if first != "app" or not rest:
        return ""
    return rest[0] if (ROOT / "app" / rest[0]).is_dir() else f"{rest[0]}.py"


def imported(tree: ast.Module) -> dict[str, bool]:
    """Modules that a file imports when it runs; True: at its top level. Types that only a checker reads don't count."""
    found: dict[str, bool] = {}
    top_level = set(map(id, tree.body))
    unread: list[ast.AST] = [tree]
    while unread:
        node = unread.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        unread += ast.iter_child_nodes(node)
        for name in _named(node):
            found[name] = found.get(name, False) or id(node) in top_level
    return found


@functools.cache
def imported_by(path: Path) -> dict[str, bool]:
    """What the file imports, as `imported` has it."""
    return imported(ast.parse(path.read_text()))


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return []
    below = [f"{node.module}.{alias.name}" for alias in node.names]
    return [name if is_module(name) else node.module for name in below]


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def arrows() -> Arrows:
    """From the room that reaches most others to those that reach none."""
    found: Arrows = {}
    for path in modules():
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        own = found.setdefault(room, {})
        for module, is_top_level in imported_by(path).items():
            if (other := room_of(module)) not in ("", room, *OPEN_TO_ALL):
                own[other] = own.get(other, False) or is_top_level
    entries = {
        room
        for room, others in found.items()
        if not room.endswith(".py") or any(not other.endswith(".py") for other in others)
    }
    entries -= {"", "__main__.py", *OPEN_TO_ALL}
    among = {room: {other: found[room][other] for other in sorted(found[room]) if other in entries} for room in entries}
    importers = Counter(other for others in among.values() for other in others)
    order = sorted(among, key=lambda room: (-len(reached(among, room)), importers[room], room))
    return {room: among[room] for room in order}


def reached(found: Arrows, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [*found[start]]
    while waiting:
        room = waiting.pop()
        if room not in seen:
            seen.add(room)
            waiting += found[room]
    return seen


def without_shortcuts(found: Arrows) -> Arrows:
    """The arrows from A to C without those where A reaches C through a room B. Arrows of a cycle stay."""
    within = {room: reached(found, room) for room in found}
    return {
        room: {
            other: is_top_level
            for other, is_top_level in others.items()
            if not any(
                other in within[middle] and room not in within[middle] and middle not in within[other]
                for middle in others
                if middle != other
            )
        }
        for room, others in found.items()
    }


def shown(room: str) -> str:
    return room if room in BESIDE or not room else f"app/{room}"


def purpose(room: str) -> str:
    """The first sentence of the room's docstring, on one line."""
    path = ROOT / shown(room)
    text = ast.get_docstring(ast.parse((path if path.is_file() else path / "__init__.py").read_text())) or ""
    return " ".join(text.split("\n\n")[0].split())


def picture(found: Mapping[str, Mapping[str, bool]]) -> str:
    lines = ["```mermaid", "flowchart TB"]
    lines += [f'    {room.removesuffix(".py")}["{shown(room)}"]' for room in found]
    for room, others in found.items():
        for other, is_top_level in others.items():
            arrow = "-->" if is_top_level else "-.->"
            lines.append(f"    {room.removesuffix('.py')} {arrow} {other.removesuffix('.py')}")
    return "\n".join([*lines, "```"])


def table(found: Mapping[str, Mapping[str, bool]]) -> str:
    lines = ["| room | what it is for | imports |", "|---|---|---|"]
    for room, others in found.items():
        names = ", ".join(other if is_top_level else f"({other})" for other, is_top_level in others.items())
        lines.append(f"| `{shown(room)}` | {purpose(room)} | {names} |")
    lines += [f"| `{shown(room)}` | {purpose(room)} | open to every room |" for room in OPEN_TO_ALL]
    return "\n".join(lines)


def made() -> str:
    """What stands between the two marks of the page."""
    found = arrows()
    return f"{BEGIN}\n\n{picture(without_shortcuts(found))}\n\n{table(found)}\n\n{END}"


def with_rooms(page: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    assert after or rest.endswith(END), f"{PAGE.name} lacks its two marks"
    return before + made() + after


if __name__ == "__main__":
    PAGE.write_text(with_rooms(PAGE.read_text()))
    print(f"wrote the picture and the table of the rooms into {PAGE.relative_to(ROOT)}")
