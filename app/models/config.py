"""The config of a profile's base model, without its weights: for plans, which are made before anything is fetched."""

from pathlib import Path
from typing import Any

from app.errors import UserError, first_line
from app.files.user_files import user_path
from app.models.base import pulled_folder, random_config
from app.models.gguf_header import read_header
from app.models.gguf_layout import config_of as gguf_config
from app.models.gguf_source import local_file, packaged_header
from app.settings import ModelSettings

QWEN3_1_7B = {
    "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "head_dim": 128,
    "num_attention_heads": 16, "num_key_value_heads": 8, "max_position_embeddings": 40960, "rope_theta": 1e6,
    "tie_word_embeddings": True,
}  # fmt: skip
QWEN25_1_5B = {
    "vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
    "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768, "rope_theta": 1e6,
    "tie_word_embeddings": True,
}  # fmt: skip
PUBLISHED = {
    "Qwen/Qwen3-1.7B": ("qwen3", QWEN3_1_7B),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": ("qwen2", QWEN25_1_5B),
}
"""As published at https://huggingface.co/NAME/blob/main/config.json, with the type: the reference, and the teacher of a
distillation, can be planned for offline."""
HEAD_STORED_TWICE = frozenset({"Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"})
"""Models on the Hub whose files hold a tied head beside the embedding that it is. Others leave it out, as transformers
does where it saves a model."""
PROBE_S = 10.0
"""How long the Hub may take to answer at all."""


def config_of(settings: ModelSettings) -> tuple[Any, str]:
    """transformers' config, and where it comes from if that is not the model itself; empty where it is.

    Raises UserError for a model whose config is neither here nor can be fetched.
    """
    from transformers import AutoConfig

    if folder := pulled_folder(settings):
        return AutoConfig.from_pretrained(folder), ""
    match settings.source:
        case "random":
            return random_config(gguf_config(packaged_header()).vocab_size), ""
        case "gguf" | "package":
            return _from_gguf(settings), ""
        case "path":
            return _from_folder(settings.name), ""
    try:
        return _from_hub(settings), ""
    except UserError:
        if settings.name not in PUBLISHED:
            raise
    kind, shape = PUBLISHED[settings.name]
    note = f"the Hub can't be reached: {settings.name} is planned by its published shape"
    return AutoConfig.for_model(kind, **shape), note


def _from_gguf(settings: ModelSettings) -> Any:
    path = local_file(settings)
    if path is None:
        raise UserError(f"{settings.name} is not here yet: fetch it with `python -m app pull` first")
    if not path.is_file():
        raise UserError(f"model.name={settings.name!r} is not a file here: give a GGUF file")
    return gguf_config(read_header(path))


def _from_folder(name: str) -> Any:
    from transformers import AutoConfig

    folder = user_path(name)
    if not (folder / "config.json").is_file():
        raise UserError(f"model.name={name!r} is no model folder: it needs a config.json")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder / 'config.json'} can't be read ({first_line(error)}): mend or fetch it") from None


def _from_hub(settings: ModelSettings) -> Any:
    """Out of the Hub's cache, else fetched. The Hub is asked once first: its client tries a lost connection for half a
    minute."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, HTTPError, OfflineModeIsEnabled
    from transformers import AutoConfig

    try:
        held = try_to_load_from_cache(settings.name, "config.json", revision=settings.revision)
        if not isinstance(held, str):
            HfApi().model_info(settings.name, revision=settings.revision, timeout=PROBE_S)
            held = hf_hub_download(settings.name, "config.json", revision=settings.revision)
        return AutoConfig.from_pretrained(Path(held).parent, trust_remote_code=False)
    except (HTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise UserError(
            f"the config of model {settings.name!r} is not here and can't be fetched from the Hugging Face Hub "
            f"({first_line(error)}): go online once, or give a local copy with --set model.source=path "
            "--set model.name=FOLDER"
        ) from None
