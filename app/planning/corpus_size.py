"""How large a corpus will be, told in seconds without building it: by the sizes of its files and what builds made of
such files. What a manifest says is exact.

Limits: mined problems are not foreseen, each adds about 2,100 tokens; secrets, copies and benchmarks' texts that are
left out are part of the ratios, which come from one environment.
"""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.recipes import SPLITS, CodeSource, JsonLines, ParquetTable, TheStackV2, load_recipe, split_of
from app.corpus.sources.find import draw_files, find_distributions
from app.corpus.sources.packages import SourceFile
from app.corpus.sources.table_rows import matching
from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import read_json
from app.runs import Run
from app.settings import Profile

BY_FILES = 66.3 / 419.4
"""Tokens of a byte of source where every file is shown whole (docs/log: 66.3 M of 419.4 MB)."""
BY_FUNCTIONS = 0.018
"""Tokens of a byte by all other forms at their default shares, in rows of 2,048: what shares of documents gave there,
less the plain text that shares of learnt tokens leave out."""
LEARNT = 0.27
"""Part of those tokens that is learnt, to which the share of files refers."""
SHORT_ROWS = (1024, 0.72)
"""Rows up to this length take that share of it: what does not fit a row is left out. 1,500 files of an environment gave
0.25 M tokens in rows of 512."""
FILL = 0.98
STACK_BYTES_A_FILE = 6_000
UNPACKED = {".gz": 4.0, ".parquet": 3.0}
"""Bytes of source for a byte of such a file; assumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSize:
    """Made by `size_of`; read by the plan."""

    rows: int
    seq_len: int
    num_files: int
    source_bytes: int
    """0 where the corpus is built already, and num_files as well."""
    distributions: int
    """That problems are mined in."""
    how: str

    @property
    def tokens(self) -> int:
        """Padding included: it costs as much."""
        return self.rows * self.seq_len


def size_of(profile: Profile, run: Path | None) -> CorpusSize | None:
    """Of the run's corpus, if it is complete, else of what the recipe will give; None where that can't be told.

    Raises UserError for a recipe that can't be read and for one whose sources lack; for a run whose corpus is not
    complete or has rows of another length.
    """
    if run is not None:
        return _of_manifest(run, profile.corpus.seq_len)
    recipe, seq_len = load_recipe(profile.corpus.recipe), profile.corpus.seq_len
    tables = [source for source in recipe.sources if isinstance(source, JsonLines | ParquetTable | TheStackV2)]
    local = [source for source in recipe.sources if isinstance(source, CodeSource) and source not in tables]
    found = find_distributions(recipe.model_copy(update={"sources": tuple(local)}), cache_root() / "sources")
    trained = [d for d in found if split_of(d.name, profile.seed, recipe) == SPLITS[0]]
    chosen = [file for _, file in draw_files(trained, profile.seed, profile.corpus.max_files)]
    in_tables = int(sum(map(_bytes_of_table, tables)) * recipe.split.train)
    if not chosen and not in_tables:
        return None
    size = _bytes_of(chosen) + in_tables
    rate = _rate(recipe.forms.file, recipe.forms.doc_to_code) * (SHORT_ROWS[1] if seq_len <= SHORT_ROWS[0] else 1.0)
    rows = int(size * rate / FILL / seq_len)
    approved = [d for d in found if d.verdict.approved and d.files]
    mined, files = profile.corpus.max_mined_files, sum(len(d.files) for d in approved)
    share = 1.0 if mined is None else min(1.0, mined / max(1, files))
    words = f"about {rows * seq_len / 1e6:.2f} M tokens: {size / 1e6:.0f} MB of source x {rate:.4f} tokens a byte"
    return CorpusSize(
        rows=rows,
        seq_len=seq_len,
        num_files=len(chosen),
        source_bytes=size,
        distributions=round(len(approved) * share),
        how=f"{words} ({len(chosen):,} files of {len(approved)} distributions{', and tables' if tables else ''})",
    )


def _rate(files: float, functions: float) -> float:
    """Tokens of a byte of source. files, functions: the shares of `file` and of `doc_to_code`, for all other forms."""
    dialogues = BY_FUNCTIONS * functions
    if files == 1 or not functions:
        return dialogues + BY_FILES * (files > 0)
    return dialogues + min(BY_FILES, LEARNT * dialogues * files / (1 - files))


def _of_manifest(folder: Path, wanted: int) -> CorpusSize:
    path = Run(folder.resolve()).corpus_manifest
    if not path.exists():
        raise UserError(
            f"run {folder} has no complete corpus: build it with `python -m app corpus`, or leave --run out"
        )
    try:
        held: dict[str, Any] = read_json(path)
        rows, seq_len = int(held["rows"]), int(held["settings"]["seq_len"])
        how = f"{held['tokens'] / 1e6:.2f} M tokens in {rows:,} rows of {seq_len:,}, {held['fill']:.1%} full: {path}"
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is cut off or incomplete ({error!r}): remove it and build the corpus again with "
            "`python -m app corpus`, or leave --run out"
        ) from None
    if seq_len != wanted:
        raise UserError(
            f"the corpus of run {folder} has rows of {seq_len} tokens and the profile asks for {wanted}: "
            f"--set corpus.seq_len={seq_len}, or leave --run out"
        )
    return CorpusSize(rows=rows, seq_len=seq_len, num_files=0, source_bytes=0, distributions=0, how=how)


def _bytes_of(files: Iterable[SourceFile]) -> int:
    """Of what is there; a member of an archive counts as it is unpacked."""
    total, members = 0, dict[str, dict[str, int]]()
    for file in files:
        try:
            if not file.archive:
                total += Path(file.location).stat().st_size
                continue
            if file.archive not in members:
                with zipfile.ZipFile(file.archive) as opened:
                    members[file.archive] = {info.filename: info.file_size for info in opened.infolist()}
            total += members[file.archive].get(file.location, 0)
        except (OSError, zipfile.BadZipFile):
            continue
    return total


def _bytes_of_table(source: JsonLines | ParquetTable | TheStackV2) -> float:
    """Of the source in it."""
    if isinstance(source, TheStackV2):
        return source.max_files * STACK_BYTES_A_FILE
    return sum(path.stat().st_size * UNPACKED.get(path.suffix, 1.0) for path in matching(source.path))
