"""Turns of dialogues in which documentation is searched: the call, the answer out of what came back, and questions that
need no search.

Searched is as served, without a network: `DocsSearch` over the documentation on this machine, written for the model by
`app.docsearch.marking`, so that a model that learns from it has seen the marks; every third time as the suite
`search_docs` and the corpus' dialogues write it, without them. Questions, queries and answers are worded as in those
dialogues (datasets/tool_dialogues.yaml). Every fourth answer is to something that no passage tells.

Nothing judges a query or an answer here, so only questions that need no search have tests.
Limits: one search a dialogue; what is asked about are functions whose docstrings hold a fact.
"""

import ast
import contextlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.draws import Draws, by_hash, uniform
from app.corpus.examples.tool_facts import Fact, described
from app.corpus.examples.tool_words import Words, load_words
from app.corpus.records import FUNCTION, Document, Origin
from app.corpus.sources.distributions import Distribution
from app.docsearch.found import Answer
from app.docsearch.marking import tool_text
from app.docsearch.ranking import Entry
from app.docsearch.records import Refused
from app.docsearch.search import DocsSearch
from app.docsearch.sources.docstrings import package, standard_library
from app.docsearch.sources.offline import FASTAPI, PACKAGES
from app.files.python_source import parsed
from app.prompting.protocols import Message
from app.prompting.tool_calls import Call, call_text
from app.prompting.tool_schema import MAX_QUERY, SEARCH_DOCS_TOOL, results_text
from app.reward.tool_use import words as request_words
from app.reward.tool_use.making import VALIDATION_SHARE
from app.reward.tool_use.records import ToolProblem, tool_problem
from app.stage_settings.docsearch import DocsearchSettings

CYCLE = ("call", "answer", "call", "answer", "none", "call", "answer", "call", "unknown", "none", "none")
"""What the problems are, in turn."""
PLAIN = 3
"""One in so many results is without marks."""
PYTHON = Origin(distribution="python", version="", licence="PSF-2.0", path="")


Search = Callable[[str, str | None], Answer]
"""search(query, source): what comes up. Raises Refused for a query that is not searched for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """Documentation to ask about. Made by `offline_library`."""

    entries: Sequence[Entry]
    search: Search
    origins: Mapping[str, Origin]
    """Whose a package is, by the name by which it is imported; PYTHON's own modules are left out."""


def offline_library(distributions: Mapping[str, Distribution], folder: Path) -> Library:
    """What is on this machine, searched as served. distributions: by name, those whose licence allows it; other
    packages are not searched. folder: of the index, which is made once, in seconds."""
    allowed = {name.lower(): one for name, one in distributions.items()}
    packages = tuple(name for name in PACKAGES if name in allowed)
    named = packages or ("none",)  # without a name it takes its own list
    settings = DocsearchSettings(offline_packages=named, searches_per_minute=10_000)
    served = DocsSearch(settings, folder)
    return Library(
        entries=list(_entries(packages)),
        search=lambda query, source: served.search(query, source, request=served.begin()),
        origins=_origins(allowed),
    )


def search_problems(library: Library, number: int, seed: int, side: str) -> list[ToolProblem]:
    """So many problems, fewer where the entries are too few. side: "train" or "validation", by the names of what is
    asked about."""
    asked = _Asked(library, load_words(), seed)
    entries = [entry for entry in library.entries if _side(entry[1], seed) == side and _is_function(entry)]
    entries.sort(key=lambda entry: by_hash(f"{seed} {entry[1]}"))
    found: list[ToolProblem] = []
    for entry in entries:
        if len(found) == number:
            break
        case = CYCLE[len(found) % len(CYCLE)]
        with contextlib.suppress(Refused):
            if made := asked.problem(entry, case, f"{side}-{len(found)}"):
                found.append(made)
    return found


class _Asked:
    """The maker of problems about entries of the offline documentation."""

    def __init__(self, library: Library, words: Words, seed: int) -> None:
        self._search, self._origins, self._words, self._seed = library.search, library.origins, words, seed

    def problem(self, entry: Entry, case: str, name: str) -> ToolProblem | None:
        draws = Draws(f"{self._seed}:{case}:{entry[1]}")
        if case == "none":
            return self._none(name, draws)
        if case == "unknown":
            return self._unknown(entry, name, draws)
        owner, (fact, values) = self._owner(entry[0], entry[1]), _fact_of(entry, draws)
        if fact is None or owner is None:
            return None
        asked = self._words.asked[fact.kind]
        question, query = (draws.one_of(texts).format(**values) for texts in (asked.questions, asked.queries))
        query = _tidy(query)
        source = entry[0] if not draws.below(4) else None
        answer = self._search(query, source)
        if not _holds(answer, fact):
            return None
        turns = self._begun(question, draws)
        call = _call(query, source)
        if case == "call":
            return tool_problem("search_call", f"search_call/{name}", turns, [SEARCH_DOCS_TOOL], call, None, [owner])
        said = draws.one_of(asked.answers).format(**values)
        return self._answered(turns, call, answer, said, name, draws)

    def _unknown(self, entry: Entry, name: str, draws: Draws) -> ToolProblem | None:
        """A function that is in no documentation, or a thing that the documentation of one does not say."""
        library, _, function = entry[1].rpartition(".")
        if draws.below(2):
            parts = self._words.libraries
            library = draws.one_of(parts.begin) + draws.one_of(parts.middle) + draws.one_of(parts.end)
            asked = self._words.asked["summary"]
            question, query, said = asked.questions, asked.queries, self._words.unknown.missing
            values = {"lib": library, "name": function, "fact": ""}
        else:
            unknown = draws.one_of(self._words.unknown.questions)
            question, query, said = (unknown.question,), (unknown.query,), self._words.unknown.answers
            values = {"lib": library, "name": function, "fact": unknown.fact}
        asked_for = _tidy(draws.one_of(query).format(**values))
        answer = self._search(asked_for, None)
        turns = self._begun(draws.one_of(question).format(**values), draws)
        return self._answered(turns, _call(asked_for, None), answer, draws.one_of(said).format(**values), name, draws)

    def _answered(
        self, turns: Sequence[Message], call: str, answer: Answer, said: str, name: str, draws: Draws
    ) -> ToolProblem | None:
        owners = [self._owner(one.source, one.title) for one in answer.found]
        if None in owners:
            return None  # whose it is is not known
        if draws.below(PLAIN):
            result = tool_text(answer, mark=f"{draws.below(1 << 62):016x}")
        else:
            result = results_text((found.source, found.text) for found in answer.found)
        further = [{"role": "assistant", "content": call}, {"role": "tool", "content": result}]
        return tool_problem(
            "search_answer", f"search_answer/{name}", [*turns, *further], [SEARCH_DOCS_TOOL], said, None,
            list(dict.fromkeys(filter(None, owners))),
        )  # fmt: skip

    def _owner(self, source: str, name: str) -> Origin | None:
        """Whose documentation it is, where that is known."""
        return PYTHON if source == "python" else self._origins.get(name.partition(".")[0])

    def _none(self, name: str, draws: Draws) -> ToolProblem:
        said = draws.one_of((*self._words.no_search.fixed, *request_words.load_words().chat))
        turns, tests = self._begun(said.question, draws), {"expect": "no call"}
        return tool_problem("search_none", f"search_none/{name}", turns, [SEARCH_DOCS_TOOL], said.answer, tests, [])

    def _begun(self, question: str, draws: Draws) -> list[Message]:
        system = draws.one_of([system.text for system in self._words.systems for _ in range(system.weight)])
        begun: list[Message] = [{"role": "system", "content": system}] if system else []
        return [*begun, {"role": "user", "content": question}]


def _entries(packages: Iterable[str]) -> Iterator[Entry]:
    yield from standard_library()
    for name in packages:
        yield from package(name, "fastapi" if name in FASTAPI else "readthedocs")


def _side(name: str, seed: int) -> str:
    return "validation" if uniform(f"{seed}:searches:{name}") < VALIDATION_SHARE else "train"


def _is_function(entry: Entry) -> bool:
    """Whether it is a module's function, or a class' method, with a signature."""
    head, _ = _head_of(entry)
    return "." in entry[1] and head.startswith(f"{entry[1]}(") and "..." not in head


def _head_of(entry: Entry) -> tuple[str, str]:
    """Its signature, and its docstring."""
    head, _, docstring = entry[2].partition("\n")
    return head.strip("`"), docstring


def _fact_of(entry: Entry, draws: Draws) -> tuple[Fact | None, dict[str, str]]:
    """Something that the documentation of the function tells, with what fills the words' places."""
    head, docstring = _head_of(entry)
    library, _, name = entry[1].rpartition(".")
    tree = parsed(f"def {name}{head.removeprefix(entry[1])}:\n    pass\n")
    if tree is None or not isinstance(tree.body[0], ast.FunctionDef):
        return None, {}
    tree.body[0].body = [ast.Expr(ast.Constant(docstring))]
    text = ast.unparse(ast.fix_missing_locations(tree))
    made = described(Document(kind=FUNCTION, name=name, text=text, header=""), draws, is_altered=False)
    if made is None:
        return None, {}
    kinds = sorted({fact.kind for fact in made.facts})
    kind = draws.one_of([kind for kind in kinds for _ in range(1 if kind in ("summary", "which") else 3)])
    fact = draws.one_of([fact for fact in made.facts if fact.kind == kind])
    return fact, {"lib": library, "name": name} | fact.values


def _holds(answer: Answer, fact: Fact) -> bool:
    """Whether a passage that was found tells the fact, so that the answer is grounded."""
    wanted = next((fact.values[key] for key in ("text", "value", "error", "doing") if key in fact.values), "")
    if fact.kind == "which":
        wanted = wanted.partition(" ")[2]
    return any(wanted.strip("`.") in " ".join(found.text.split()) for found in answer.found)


def _origins(allowed: Mapping[str, Distribution]) -> dict[str, Origin]:
    """Whose a package is, by the name by which it is imported."""
    found = {}
    for module, names in importlib.metadata.packages_distributions().items():
        for name in names:
            if (one := allowed.get(name.lower())) is not None:
                found[module] = Origin(
                    distribution=one.name, version=one.version, licence=one.verdict.licence, path=module
                )
    return found


def _call(query: str, source: str | None) -> str:
    arguments: dict[str, Any] = {"query": query} | ({"source": source} if source else {})
    return call_text([Call(name=SEARCH_DOCS_TOOL["function"]["name"], arguments=arguments)])


def _tidy(query: str) -> str:
    return " ".join(query.replace("`", "").split())[:MAX_QUERY]
