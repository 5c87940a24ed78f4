"""Check files of URLs and of resolved addresses against the guard: `python -m app docsearch --check-urls FILE`."""

from pathlib import Path
from typing import Any


def check_cases(path: Path) -> dict[str, Any]:
    """{"total", "as_expected", "differing": [{"id", "expected", "verdict"}]}. Raises UserError for what is no case."""
    raise NotImplementedError
