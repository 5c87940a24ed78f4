"""The standard library as mining wants it: with its own tests, which call its functions."""

import dataclasses
import sysconfig
from pathlib import Path

from app.corpus.sources import packages
from app.corpus.sources.distributions import Distribution, SourceFile


def standard_library(allow: frozenset[str]) -> Distribution:
    """`packages.standard_library` and the folder `test`. allow: the recipe's licences, PSF-2.0 among them."""
    library = packages.standard_library(allow)
    folder = Path(sysconfig.get_path("stdlib"))
    tests = sorted(str(path.relative_to(folder)) for path in (folder / "test").glob("test_*.py"))
    files = (*library.files, *(SourceFile(path=path, location=str(folder / path)) for path in tests))
    return dataclasses.replace(library, files=tuple(sorted(files, key=lambda file: file.path)))
