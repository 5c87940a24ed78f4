"""How large a corpus is, or will be, told in seconds without building it.

A corpus to come is bytes of its files times tokens a byte, as builds of one environment gave them. Limits: mined
problems are not foreseen (each adds about 2,100 tokens); rows of 1,024 tokens and less hold about 0.72 of it, since
what does not fit a row is left out.
"""

from dataclasses import dataclass
from pathlib import Path

from app.corpus.recipe_files import load_recipe
from app.corpus.recipes import SPLITS, JsonLines, ParquetTable, TheStackV2, split_of
from app.corpus.records import RejectedFileError
from app.corpus.sources.distributions import SourceFile, read_source
from app.corpus.sources.find import draw_files, find_distributions
from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import read_json
from app.runs import Run
from app.settings import Profile

TOKENS_A_BYTE, TOKENS_A_BYTE_OF_FILES = 0.018, 66.3 / 419.4
"""By the recipe's forms at their default shares, in rows of 2,048; and what comes on top where every file is shown
whole as well (docs/log: 66.3 M of 419.4 MB)."""
START_S, S_A_BYTE, S_A_DISTRIBUTION = 20.0, 150.4 / 419.4e6, 1047 / 836
"""A build on two cores (docs/log): 150.4 s for 419.4 MB; mined as well, 17 min 27 s for 836 distributions."""
SAMPLE = 1000
"""Files, the first that are drawn, whose sizes speak for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSize:
    """The size of a corpus. Made by `size_of`; read by the plan."""

    rows: int
    build_s: float
    """Seconds that two cores take to build it; 0 where it is built already."""
    how: str


def size_of(profile: Profile, run: Path | None) -> CorpusSize | None:
    """The size of the run's corpus, or without a run of what the recipe will give; None where that can't be told, as of
    tables.

    Raises UserError for a recipe that can't be read and for one whose sources lack; for a run whose corpus is not
    complete or has rows of another length.
    """
    settings, seq_len = profile.corpus, profile.corpus.seq_len
    if run is not None:
        return _of_manifest(run, seq_len)
    recipe = load_recipe(settings)
    if any(isinstance(source, JsonLines | ParquetTable | TheStackV2) for source in recipe.sources):
        return None
    found = [d for d in find_distributions(recipe, cache_root() / "sources") if d.verdict.approved and d.files]
    trained = [d for d in found if split_of(d.name, profile.seed, recipe) == SPLITS[0]]
    chosen = [file for _, file in draw_files(trained, profile.seed, settings.max_files)]
    if not chosen:
        return None
    size = sum(map(_bytes_of, chosen[:SAMPLE])) / len(chosen[:SAMPLE]) * len(chosen)
    rate = TOKENS_A_BYTE + TOKENS_A_BYTE_OF_FILES * (recipe.forms.file == 1)
    rows, files = int(size * rate / seq_len), sum(len(d.files) for d in found)
    mined = len(found) * min(1.0, (files if settings.max_mined_files is None else settings.max_mined_files) / files)
    return CorpusSize(
        rows=rows,
        build_s=START_S + size * S_A_BYTE + mined * S_A_DISTRIBUTION,
        how=f"about {rows * seq_len / 1e6:.2f} M tokens of {len(chosen):,} files, {size / 1e6:.0f} MB",
    )


def _bytes_of(file: SourceFile) -> int:
    try:
        return len(read_source(file))
    except RejectedFileError:
        return 0


def _of_manifest(folder: Path, wanted: int) -> CorpusSize:
    path, way_out = Run(folder.resolve()).corpus_manifest, "`python -m app corpus`, or leave --run out"
    if not path.exists():
        raise UserError(f"run {folder} has no complete corpus: build it with {way_out}")
    try:
        held = read_json(path)
        rows, seq_len = int(held["rows"]), int(held["settings"]["seq_len"])
    except (ValueError, KeyError, TypeError) as error:
        what = f"{path} is cut off or incomplete ({error!r})"
        raise UserError(f"{what}: remove it and build the corpus again with {way_out}") from None
    if seq_len != wanted:
        raise UserError(
            f"the corpus of run {folder} has rows of {seq_len} tokens and the profile asks for {wanted}: "
            f"--set corpus.seq_len={seq_len}, or leave --run out"
        )
    return CorpusSize(rows=rows, build_s=0.0, how=f"{rows:,} rows of {seq_len:,} tokens in {path}")
