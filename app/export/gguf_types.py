"""The types in which weights are written into a GGUF: those that the `gguf` package makes by itself.

The K and IQ types need llama.cpp's own `llama-quantize`. Left out of what `gguf` makes are the ternary ones (TQ1_0,
TQ2_0), which only a model that was trained in three values survives, and FP4.
"""

from math import prod
from typing import Any

from app.errors import UserError

PLAIN = ("F32", "F16", "BF16")
BLOCKS = ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""Rows are cut into blocks of 32 numbers with a scale of their own."""
TYPES = (*PLAIN, *BLOCKS)
FP4 = ("FP4", "MXFP4", "NVFP4")
FALLBACK = "F16"
"""For matrices whose rows don't divide into blocks, as llama.cpp does it."""
LARGEST_F16 = 65504.0


def check_type(text: str) -> str:
    """The type by its name, whose case does not count. Raises UserError for one that can't be written."""
    name = text.upper()
    if name in TYPES:
        return name
    if name in FP4:
        raise UserError(
            f"--gguf {text} is not written, because no kernel for cards of the Ampere generation computes in FP4 yet: "
            f"take {BLOCKS[-1]} or another of {', '.join(TYPES)}"
        )
    more = ""
    if name.startswith(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ")):
        more = f", or make {name} of an F16 with llama.cpp's llama-quantize"
    raise UserError(f"--gguf {text} is none of the types that are written here: take {', '.join(TYPES)}{more}")


def type_of(shape: tuple[int, ...], wanted: str) -> Any:
    """ggml's type of this tensor in a file of the type `wanted`. Vectors (norms, biases) stay in float32."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2:
        return GGMLQuantizationType.F32
    kind = GGMLQuantizationType[wanted]
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else GGMLQuantizationType[FALLBACK]


def num_bytes(shape: tuple[int, ...], kind: Any) -> int:
    from gguf import GGML_QUANT_SIZES

    of_block, block_bytes = GGML_QUANT_SIZES[kind]
    return prod(shape) // of_block * block_bytes


def file_type(wanted: str) -> int:
    """general.file_type"""
    from gguf import LlamaFileType

    return int(LlamaFileType["ALL_F32" if wanted == "F32" else f"MOSTLY_{wanted}"])
