"""Where benchmark problems come from: files of the user's, or a data set on the Hugging Face Hub."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.userfiles import read_rows


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The problems of a .jsonl, .jsonl.gz, .json (an array) or .parquet file, one at a time.

    Raises UserError naming the file, and the line where there are lines.
    """
    name = path.name.lower()
    if not path.is_file():
        raise UserError(f"--problems {path} is no file: give one of .jsonl, .jsonl.gz, .json or .parquet")
    if name.endswith(".parquet"):
        yield from _parquet_rows(path)
    elif name.endswith(".gz"):
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
                for line in file:
                    yield json.loads(line)
        except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
            raise UserError(f"--problems {path} can't be read ({error}): give a gzip file of JSON lines") from None
    elif name.endswith(".json") and (array := _array(path)) is not None:
        yield from array
    else:
        for _, row in read_rows(path, "--problems"):
            yield row


def hub_rows(suite: str, repository: str, file: str) -> Iterator[dict[str, Any]]:
    """The rows of one file of a data set on the Hub, fetched once into the Hub's own cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(repository, file, repo_type="dataset")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{suite} is not here and can't be fetched from the Hugging Face Hub ({repository}, {file}: "
            f"{str(error).splitlines()[0]}): connect to it, or give the file by --problems PATH"
        ) from None
    yield from rows(Path(path))


def _array(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file that is one JSON array; None for JSON lines under the name .json, as BFCL has them."""
    try:
        with path.open(encoding="utf-8") as file:
            if file.read(1) != "[":
                return None
            file.seek(0)
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--problems {path} can't be read ({error}): give a JSON array or JSON lines") from None


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowInvalid

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
            yield from batch.to_pylist()
    except (ArrowInvalid, OSError) as error:
        raise UserError(f"--problems {path} can't be read as Parquet ({error}): give another file") from None
