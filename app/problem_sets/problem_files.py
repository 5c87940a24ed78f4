"""Where benchmark problems come from: files of the user's, or a data set on the Hugging Face Hub."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from app.errors import UserError, first_line
from app.files.errors import sentence_of
from app.files.table_rows import strict_rows
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


def yaml_files(path: Path, form: str) -> list[Path]:
    """The YAML file, or all of a folder in the order of their names. form: a folder that shows what they should be.

    Raises UserError where there is none.
    """
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise UserError(f"{path} holds no problems: give a YAML file, or a folder of them, in the form of {form}")
    return files


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The problems of a .jsonl, .jsonl.gz, .json (an array) or .parquet file, one at a time.

    Raises UserError naming the file and the first line or row that can't be read.
    """
    if not path.is_file():
        raise UserError(f"--problems {path} is no file: give one of .jsonl, .jsonl.gz, .json or .parquet")
    yield from strict_rows(path, f"--problems {path}")


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
