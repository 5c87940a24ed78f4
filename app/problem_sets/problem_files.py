"""Where benchmark problems come from: files of the user's, or a data set on the Hugging Face Hub."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from app.errors import UserError, first_line
from app.files.errors import sentence_of
from app.files.user_files import read_rows
from app.problem_sets.task import Task

ODD = (SyntaxError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a row of another form raises in whoever makes a problem of it."""


def read_tasks(
    read: Iterable[dict[str, Any]], make: Callable[[dict[str, Any]], Task | None], place: str, form: str, source: str
) -> list[Task]:
    """The problems that `make` finds in the rows, without those rows of which it makes None.

    place: of the rows; form: what they should be; source: where to get such a file. Raises UserError that names the row
    instead of what making a problem of it raises.
    """
    tasks = []
    for number, row in enumerate(read, 1):
        try:
            if task := make(row):
                _check_texts(task)
                tasks.append(task)
        except ODD as error:
            name = row.get("task_id", row.get("problem_id"))
            raise UserError(
                f"{place}, row {number} ({name!r:.80}) can't be read as {form} ({type(error).__name__}: {error}): "
                f"mend it, or give {source}"
            ) from None
    return tasks


def _check_texts(task: Task) -> None:
    """Raises TypeError where what should be text is not."""
    for field in dataclasses.fields(task.problem):
        value = getattr(task.problem, field.name)
        if field.type in (str, "str") and not isinstance(value, str):
            raise TypeError(f"{field.name} is {value!r:.40}, not text")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The problems of a .jsonl, .jsonl.gz, .json (an array) or .parquet file, one at a time.

    Raises UserError naming the file, and the line where there are lines.
    """
    name = path.name.lower()
    if not path.is_file():
        raise UserError(f"--problems {path} is no file: give one of .jsonl, .jsonl.gz, .json or .parquet")
    if name.endswith(".parquet"):
        yield from _parquet_rows(path)
    elif name.endswith(".json") and (array := _array(path)) is not None:
        for number, row in enumerate(array, 1):
            if type(row) is not dict:
                raise UserError(f"--problems {path}, row {number} is no JSON object: mend it or take it out")
            yield row
    else:
        for _, row in read_rows(path, "--problems"):
            yield row


def hub_rows(suite: str, repository: str, file: str) -> Iterator[dict[str, Any]]:
    """The rows of one file of a data set on the Hub."""
    yield from rows(hub_file(suite, repository, file, "--problems PATH"))


def hub_file(name: str, repository: str, file: str, option: str) -> Path:
    """One file of a data set on the Hub, fetched once into the Hub's own cache. option: by which else it can be given.

    Raises UserError, with the name of what needs it, when it can't be fetched.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and sentence_of(error):
            raise  # of the Hub's own cache, not of the Hub
        raise UserError(
            f"{name} is not here and can't be fetched from the Hugging Face Hub ({repository}, {file}: "
            f"{first_line(error)}): connect to it, or give the file by {option}"
        ) from None


def _array(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file that is one JSON array; None for JSON lines under the name .json, as BFCL has them."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(1)
            while text.isspace():
                text = file.read(1)
            return json.loads(text + file.read()) if text == "[" else None
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
