"""Functions of the corpus' sources as tools: found, judged by licence, cleaned and held against the benchmarks as a
build of the corpus does it.

Left out is what is called as a function of a benchmark's tools is (`names`), what touches a guarded suite by its text,
and all but the distributions of the recipe's training side. Of functions of one name the first is taken, in the order
in which files are drawn. Runs on one core, without Ray: a few thousand files take minutes.
"""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app import rights
from app.corpus.clean.cleaning import clean
from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.corpus.clean.documents import functions
from app.corpus.credits import Attributed, evidence_of, notices, write_attribution
from app.corpus.draws import bits
from app.corpus.examples.quality import parsed
from app.corpus.recipes import Recipe, split_of
from app.corpus.records import Document, Origin, RejectedFileError
from app.corpus.sources.admission import not_admitted
from app.corpus.sources.distributions import Distribution, read_source
from app.corpus.sources.find import draw_files, find_distributions
from app.learnt_from import of_problems
from app.progress import progress
from app.reward.tool_use.functions import ToolFunction, content_words, tool_of
from app.reward.tool_use.names import forms_of, last_name
from app.reward.tool_use.records import ToolProblem

STAGE = "tools"
TOLD = (
    "Calling tools: dialogues put together by rule from documented functions and documentation of these licences, and "
    "from tools of our own (MIT), of which the last turn was learnt or rewarded."
)
DOTTED = 4
"""One in so many names is offered with its module."""
FEW = 3
"""Distributions in whose docstrings a word is: below, it is one of a package's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Functions as tools, and whose they are. Made by `found_functions`."""

    functions: list[ToolFunction]
    distributions: dict[str, Distribution]
    """By name, those of the training side whose licence allows it."""
    left_out: Counter[str]
    """How many functions and files by the reason."""
    heads: dict[tuple[str, str], tuple[str, ...]]
    """Copyright lines of the files' heads, by distribution and path."""


def found_functions(
    recipe: Recipe, guard: Decontaminator, names: frozenset[str], cache: Path, *, seed: int, max_files: int
) -> Found:
    """names: what a benchmark's functions are known by (`names.benchmark_names`). cache: as `find_distributions` has
    it."""
    usable = [one for one in find_distributions(recipe, cache) if one.verdict.approved]
    usable = [one for one in usable if split_of(one.name, seed, recipe) == "train"]
    left_out, heads = Counter[str](), dict[tuple[str, str], tuple[str, ...]]()
    taken, owners = dict[str, ToolFunction](), defaultdict[str, set[str]](set)
    drawn = draw_files(usable, seed, max_files)
    with progress("functions as tools", len(drawn), "files") as update:
        for number, (distribution, file) in enumerate(drawn, 1):
            update(number)
            origin = Origin(
                distribution=distribution.name,
                version=distribution.version,
                licence=file.licence or distribution.verdict.licence,
                path=file.path,
            )
            try:
                raw = read_source(file, recipe.cleaning.max_bytes)
                documents = list(_documents(raw, origin, recipe, guard, heads))
            except RejectedFileError as error:
                left_out[f"file: {str(error).partition(':')[0]}"] += 1
                continue
            for document, its_origin, reason in documents:
                for word in content_words(_beginning(document)):
                    owners[word].add(distribution.name)
                left_out[_take(taken, document, its_origin, reason, names)] += 1
    kept = _familiar(taken.values(), owners)
    left_out["in words that few use"] = len(taken) - len(kept)
    left_out.pop("", None)
    return Found(functions=kept, distributions={one.name: one for one in usable}, left_out=left_out, heads=heads)


def _documents(
    raw: bytes, origin: Origin, recipe: Recipe, guard: Decontaminator, heads: dict[tuple[str, str], tuple[str, ...]]
) -> Iterator[tuple[Document, Origin, str]]:
    """The documented functions of a file, each with the benchmark that it touches, if any; its copyright lines are
    noted in `heads`. Raises RejectedFileError."""
    cleaned = clean(raw, origin.path, recipe.cleaning, frozenset(recipe.licences.also_allow), origin.licence)
    origin = replace(origin, licence=cleaned.licence)
    if reason := not_admitted(origin, recipe):
        raise RejectedFileError(reason)
    heads[origin.distribution, origin.path] = cleaned.copyright
    is_near = guard.hit(cleaned.text, defined_names(cleaned.tree))  # else none of its functions is
    for document in functions(cleaned.text, cleaned.tree, recipe.cleaning.min_docstring_chars, origin.path):
        yield document, origin, guard.hit(document.text, [document.name]) if is_near else ""


def _beginning(document: Document) -> str:
    """The first paragraph of its docstring."""
    function = parsed(document.header + "    pass\n")
    return (ast.get_docstring(function) or "").partition("\n\n")[0] if function else ""


def _take(
    taken: dict[str, ToolFunction], document: Document, origin: Origin, reason: str, names: frozenset[str]
) -> str:
    """Why the function is left out; empty where it is taken."""
    if reason:
        return f"benchmark: {reason.partition(':')[0]}"
    with_module = not bits(f"{origin.distribution} {origin.path} {document.name}") % DOTTED
    made = tool_of(document, origin, with_module=with_module)
    if made is None:
        return "makes no tool"
    if names & forms_of(made.name):
        return "benchmark: named as a function of it"
    key = last_name(made.name)
    if key in taken:
        return "of a name that is taken"
    taken[key] = made
    return ""


def _familiar(functions: Iterable[ToolFunction], owners: Mapping[str, set[str]]) -> list[ToolFunction]:
    """Those whose summaries have one word at most that few distributions use: what is said in a package's own words
    nobody outside of it would ask for. owners: the distributions of a word."""
    return [one for one in functions if sum(len(owners[word]) < FEW for word in content_words(one.summary)) <= 1]


def untouched(problems: list[ToolProblem], guard: Decontaminator) -> list[ToolProblem]:
    """The problems whose words and calls touch no guarded suite."""
    return [one for one in problems if not guard.hit(f"{one.problem.prompt}\n{one.reply}", (), renamed=False)]


def write_whose(path: Path, problems: list[ToolProblem], found: Found, guard: Mapping[str, Any]) -> None:
    """attribution.csv, as the corpus writes it, with the problems made of the files in place of tokens, and beside it
    what travels with what is learnt (`app.rights`). guard: what was kept out, as `Guard.facts` tells it."""
    number = Counter[tuple[str, str, str, str]]()
    files: defaultdict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    given = {(name, file.path): file for name, held in found.distributions.items() for file in held.files}
    for problem in problems:
        for origin in problem.origins:
            name = origin.distribution
            told = evidence_of(found.distributions[name], given.get((name, origin.path)), origin.licence)
            key = name, origin.version, origin.licence, told
            number[key] += 1
            files[key].add(origin.path)
    rows = []
    for key in sorted(number):
        held = found.distributions[key[0]]
        rows.append(Attributed(*key, held.author, held.homepage, tokens=number[key], files=sorted(files[key])))
    write_attribution(path, rows)
    counts = Counter((problem.problem.source, problem.problem.licence) for problem in problems)
    of_files = defaultdict[tuple[str, str], set[str]](set)
    for (name, _, licence, _), where in files.items():
        of_files[name, licence] |= where
    suites, unguarded = tuple(guard["suites"]), tuple(guard["unguarded"])
    own = rights.Rights(
        guards=(rights.GuardedBy(stage=STAGE, suites=suites, unguarded=unguarded),),
        notices=notices(of_files, found.distributions, found.heads),
    )
    rights.write(path.parent, rights.union(of_problems(STAGE, counts, TOLD), own))
