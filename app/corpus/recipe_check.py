"""What is wrong with a recipe, told without the network and before anything is built.

`check_recipe` looks at paths, fields, patterns, tokens, the licence policy and the split, with the functions that a
build reads its sources with; `network_needs` says what a build would fetch. Run: python -m app corpus --check

Limits: the patterns of a table's or The Stack's source are not tried, nor what is left of it for training, which would
take reading it.
"""

from collections.abc import Iterator

from app.corpus.recipes import (
    SPLITS,
    CodeSource,
    JsonLines,
    ParquetTable,
    Recipe,
    TaskSource,
    TheStackV2,
    Tree,
    matches,
    paths_match,
    split_of,
)
from app.corpus.sources import packages, tables, task_files, the_stack
from app.corpus.sources.distributions import Distribution
from app.corpus.sources.licence_texts import approved_ids
from app.corpus.sources.licences import expression_of, is_spdx, judge_stated
from app.errors import UserError, did_you_mean
from app.problem_sets.task import Task


def check_recipe(recipe: Recipe, seed: int = 0) -> list[str]:
    """One sentence for each thing that is wrong; empty for a recipe that can be built. seed: the profile's."""
    found: list[str] = []
    usable: list[Distribution] = []
    for number, source in enumerate(recipe.sources):
        try:
            found += [f"sources.{number} ({source.kind}): {problem}" for problem in _problems(source, recipe, usable)]
        except UserError as error:
            found.append(f"sources.{number} ({source.kind}): {error}")
    if not any(isinstance(source, CodeSource) for source in recipe.sources):
        found.append("sources: none of them gives files: add one, such as installed_python")
    if unknown := [spdx for spdx in recipe.licences.also_allow if not is_spdx(spdx)]:
        found.append(f"licences.also_allow: {', '.join(unknown)} is no SPDX id: see https://spdx.org/licenses")
    if not any(recipe.forms.model_dump().values()):
        found.append("forms: all of them are 0, so nothing would be learnt: give one a share")
    is_known = not any(isinstance(source, _TABLES) for source in recipe.sources)
    sides = {split_of(distribution.name, seed, recipe) for distribution in usable}
    if not found and is_known and SPLITS[0] not in sides:
        names = ", ".join(sorted(distribution.name for distribution in usable)[:3])
        found.append(
            f"split: nothing is left to train on, since {names} fall on the side{'s' if len(sides) > 1 else ''} "
            f"{' and '.join(sorted(sides))}: set split.train to 1.0 (with validation and test 0), or add sources"
        )
    return found


OWN_RIGHTS = (
    "if the code is yours, state it by `licence: LicenseRef-Own` at the source, or by "
    "--set corpus.licence=LicenseRef-Own for a folder given as corpus.recipe (or an SPDX expression such as MIT, where "
    "you give it to everybody)"
)
_TABLES = (JsonLines, ParquetTable, TheStackV2)


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


def _problems(source: CodeSource | TaskSource, recipe: Recipe, usable: list[Distribution]) -> Iterator[str]:
    """Sentences on what is wrong with a source. usable: gets the approved distributions with files that it gives, where
    that is known."""
    match source:
        case TaskSource():
            if reason := task_files.forbidden(source, recipe):
                yield reason
            if source.path:
                next((task for task in task_files.tasks_of(source) if isinstance(task, Task)), None)
        case TheStackV2():
            if lacking := the_stack.missing(source):
                yield f"missing: {lacking}"
        case JsonLines() | ParquetTable():
            for path in tables.files_of(source):
                known = tables.columns_of(path, source)
                for key, column in source.columns.model_dump().items():
                    if column and column not in known:
                        yield f"columns.{key} = {column!r} is no field of {path}: it has {', '.join(known) or 'none'}"
        case CodeSource():
            allow = frozenset(recipe.licences.also_allow)
            stated = source.licence if isinstance(source, Tree) else ""
            if stated and not (verdict := judge_stated(stated, also_allow=allow)).approved:
                yield f"licence {stated!r}: {_meant(stated) or verdict.reason} {OWN_RIGHTS}"
                return
            yield from _local_problems(source, list(packages.local_distributions(source, allow)), usable)


def _meant(stated: str) -> str:
    """A sentence for what is no licence's name, with the nearest one; empty for a licence that is known."""
    if is_spdx(expression_of(stated) or stated):
        return ""
    near = did_you_mean(stated, (*approved_ids(), "LicenseRef-Own"), "https://spdx.org/licenses has them")
    return f"this is no SPDX expression of licences ({near});"


def _local_problems(source: CodeSource, distributions: list[Distribution], usable: list[Distribution]) -> Iterator[str]:
    for key in ("include", "exclude"):
        for pattern in getattr(source, key):
            if not any(matches(d.name, (pattern,)) for d in distributions):
                yield f"{key} {pattern!r} matches none of its {len(distributions)} distributions"
    taken = [d for d in distributions if source.takes(d.name)]
    for key in ("include_paths", "exclude_paths"):
        for pattern in getattr(source, key):
            if not any(paths_match(file.path, (pattern,)) for d in taken for file in d.files):
                yield f"{key} {pattern!r} matches no file of its distributions"
    approved = [d for d in taken if d.verdict.approved and any(source.takes_path(file.path) for file in d.files)]
    usable += approved
    if not approved:
        reason = next((d.verdict.reason for d in taken if d.verdict.reason), "")
        way_out = f": {OWN_RIGHTS}" if isinstance(source, Tree) and taken and not source.licence else ""
        yield f"no Python file under an approved licence is left{f' ({reason})' if reason else ''}{way_out}"
