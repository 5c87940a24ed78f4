"""Weights on the Hugging Face Hub: fetched into the Hub's own cache, compared with the checksums that it publishes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from app.errors import UserError, first_line
from app.files.errors import sentence_of
from app.progress import say
from app.settings import ModelSettings

T = TypeVar("T")
WEIGHT_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
RIGHTS_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "README.md")
"""What says under which licence a model is (`app.models.licences`)."""


def hub_folder(settings: ModelSettings) -> Path:
    """The model's files. Raises UserError for a model that can't be fetched or has only pickles."""
    from huggingface_hub import snapshot_download

    folder = _fetched(
        settings,
        lambda: Path(
            snapshot_download(settings.name, revision=settings.revision, allow_patterns=[*WEIGHT_FILES, *RIGHTS_FILES])
        ),
    )
    if not list(folder.glob("*.safetensors")):
        raise UserError(
            f"model {settings.name!r} has no *.safetensors on the Hub, and pickles are not read: take another"
        )
    return folder


def hub_file(settings: ModelSettings, repository: str, file: str) -> Path:
    """One file of a repository. Raises UserError for one that can't be fetched."""
    from huggingface_hub import hf_hub_download

    return _fetched(settings, lambda: Path(hf_hub_download(repository, file, revision=settings.revision)))


def _fetched(settings: ModelSettings, fetch: Callable[[], T]) -> T:
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    try:
        return fetch()
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and sentence_of(error):
            raise  # of the Hub's own cache, not of the Hub
        copy = "FILE.gguf" if settings.source == "gguf" else "FOLDER"
        source = "gguf" if settings.source == "gguf" else "path"
        raise UserError(
            f"model {settings.name!r} is missing and can't be fetched from {hub_origin(settings)} "
            f"({first_line(error)}): go online once, log in with `hf auth login` if it is gated, or give a local copy "
            f"with --set model.source={source} --set model.name={copy}"
        ) from None


def hub_origin(settings: ModelSettings) -> str:
    return f"the Hugging Face Hub ({settings.name}, revision {settings.revision or 'main'})"


def check_against_hub(repository: str, revision: str | None, digests: Mapping[str, tuple[Path, str]]) -> None:
    """Compare large files with the SHA-256 that the Hub publishes; offline there is nothing to compare with.

    digests: each file's place here and its SHA-256, by its name in the repository. Raises UserError for one that
    differs.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        published = HfApi().model_info(repository, revision=revision, files_metadata=True).siblings
    except (HTTPError, OSError):
        return say("  the Hub can't be asked for its checksums: those of the local copy are recorded")
    for file in published or []:
        path, digest = digests.get(file.rfilename, (None, ""))
        if file.lfs and path and digest != file.lfs.sha256:
            raise UserError(f"{path} is not what the Hub publishes: remove it and pull again")
    return None
