"""What is wrong with a recipe, told without the network and before anything is built.

`check_recipe` looks at paths, fields, patterns, tokens and the licence policy; `network_needs` says what a build would
fetch. Run: python -m app corpus --check

Limits: the patterns of a table's or The Stack's source are not tried, which would take reading it.
"""

from collections.abc import Iterator

from app.corpus import packages, tables, task_files, the_stack
from app.corpus.packages import Distribution
from app.corpus.recipes import (
    CodeSource,
    JsonLines,
    ParquetTable,
    Recipe,
    TaskSource,
    TheStackV2,
    matches,
    paths_match,
)
from app.errors import UserError


def check_recipe(recipe: Recipe) -> list[str]:
    """One sentence for each thing that is wrong; empty for a recipe that can be built."""
    found: list[str] = []
    for number, source in enumerate(recipe.sources):
        try:
            found += [f"sources.{number} ({source.kind}): {problem}" for problem in _problems(source, recipe)]
        except UserError as error:
            found.append(f"sources.{number} ({source.kind}): {error}")
    if not any(isinstance(source, CodeSource) for source in recipe.sources):
        found.append("sources: none of them gives files: add one, such as installed_python")
    return found


def network_needs(recipe: Recipe) -> list[str]:
    """What a build would fetch and needs for it, one sentence a source; empty for one that needs no network."""
    found = []
    for source in recipe.sources:
        if isinstance(source, TheStackV2):
            found.append(the_stack.needs(source))
        elif isinstance(source, TaskSource) and not source.path and not task_files.is_on_disk(source):
            repository, file, size = task_files.HUB_FILES[source.kind]
            found.append(f"{source.kind} fetches {file} of {repository} from the Hugging Face Hub, about {size}")
    return found


def _problems(source: CodeSource | TaskSource, recipe: Recipe) -> Iterator[str]:
    match source:
        case TaskSource():
            if reason := task_files.forbidden(source, recipe):
                yield reason
            if source.path:
                task_files.file_of(source)
        case TheStackV2():
            if lacking := the_stack.missing(source):
                yield f"missing: {lacking}"
        case JsonLines() | ParquetTable():
            known = tables.first_columns(source)
            has = f"it has {', '.join(known) or 'none'}"
            for key, column in source.columns.model_dump().items():
                if column and column not in known:
                    yield f"columns.{key} = {column!r} is no field of {source.path}: {has}"
        case CodeSource():
            yield from _local_problems(
                source, list(packages.local_distributions(source, frozenset(recipe.licences.also_allow)))
            )


def _local_problems(source: CodeSource, distributions: list[Distribution]) -> Iterator[str]:
    for key in ("include", "exclude"):
        for pattern in getattr(source, key):
            if not any(matches(d.name, (pattern,)) for d in distributions):
                yield f"{key} {pattern!r} matches none of its {len(distributions)} distributions"
    taken = [d for d in distributions if source.takes(d.name)]
    for key in ("include_paths", "exclude_paths"):
        for pattern in getattr(source, key):
            if not any(paths_match(file.path, (pattern,)) for d in taken for file in d.files):
                yield f"{key} {pattern!r} matches no file of its distributions"
    approved = [d for d in taken if d.verdict.approved]
    if not any(source.takes_path(file.path) for d in approved for file in d.files):
        reason = next((d.verdict.reason for d in taken if d.verdict.reason), "")
        yield f"no Python file under an approved licence is left{f' ({reason})' if reason else ''}"
