"""The problems of `search_docs`: a YAML file, `datasets/benchmarks/search_docs.yaml`, whose head says what its fields
mean. They are played with the search of `app.prompting.passages`."""

from collections import Counter
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from app.errors import UserError
from app.overrides import parse_settings, read_yaml
from app.prompting.passages import Passage
from app.prompting.tool_schema import Source
from app.runs import REPOSITORY
from app.stage_settings.base import Settings

ITEMS_PATH = REPOSITORY / "datasets" / "benchmarks" / "search_docs.yaml"
Category = Literal["needs_search", "two_searches", "source", "nothing_found", "no_search"]


class Query(Settings):
    query: str = Field(min_length=1, max_length=256)
    source: Source | None = None


class Item(Settings):
    """One problem. The head of the YAML file says what the fields mean."""

    id: str = Field(pattern=r"^[a-z0-9-]+$")
    category: Category
    question: str = Field(min_length=10)
    passages: dict[str, Passage] = {}
    needed: tuple[str, ...] = ()
    query_words: tuple[str, ...] = ()
    source: Source | None = None
    facts: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()
    answer: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        searched = self.category != "no_search"
        least = {"two_searches": 2, "needs_search": 1, "source": 1}.get(self.category, 0)
        unknown = set(self.needed) - set(self.passages)
        for wrong, text in (
            (unknown, f"needed names passages that are not there: {sorted(unknown)}"),
            (searched and not 3 <= len(self.passages) <= 6, f"has {len(self.passages)} passages, not 3 to 6"),
            (
                not searched and (self.passages or self.queries),
                "needs no search, so it has neither passages nor queries",
            ),
            (searched and not self.queries, "has no queries that show a right episode"),
            (searched and not self.needed and not self.query_words, "needs passages, or query_words"),
            (
                len(self.needed) < least,
                f"has {len(self.needed)} needed passages, a {self.category} item {least} at least",
            ),
            (
                (self.category == "source") != (self.source is not None),
                "has a source exactly if its category is source",
            ),
            ((self.category == "nothing_found") == bool(self.facts), "has facts exactly if something can be found"),
        ):
            if wrong:
                raise ValueError(text)
        return self


class ItemFile(Settings):
    background: tuple[Passage, ...]
    """Passages that every search may bring up."""
    items: tuple[Item, ...]


def read_items(path: Path) -> ItemFile:
    """Raises UserError naming the file, the item and the field."""
    data = read_yaml(path, f"--problems {path}", "give a YAML file of background and items")
    file = parse_settings(ItemFile, data, str(path))
    twice = [name for name, count in Counter(item.id for item in file.items).items() if count > 1]
    if twice:
        raise UserError(f"{path}: the id {twice[0]!r} is that of two items: give each an id of its own")
    return file
