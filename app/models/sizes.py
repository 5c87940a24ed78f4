"""Sizes that several stages count in."""

GIB = 1 << 30
BYTES = {"float32": 4, "bfloat16": 2}
"""Bytes of a number, by model.dtype."""
NF4_BYTES = 0.5 + 4 / 64
"""Bytes of a weight: four bits, and a float32 scale for each block of 64 (QLoRA, arXiv 2305.14314, section 3); double
quantisation takes 0.05 less."""
