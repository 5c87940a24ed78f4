"""Files that are on the disk before they are renamed into their place, so that a power cut leaves them whole there, or
not at all."""

import os
from pathlib import Path


def flush(place: Path) -> None:
    """Have a file, or all files of a folder, written to the disk."""
    for path in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
