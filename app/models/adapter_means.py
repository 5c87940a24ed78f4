"""The mean of a training's last checkpoints: one adapter for what they add on the average.

The mean of products B A is not the product of the means of B and of A, which is what is usually written. What the
adapters add on the average is exact at the sum of their ranks, [B1 B2 B3] / 3 times [A1; A2; A3]; of that the nearest
one of their own rank is taken (`app.models.adapter_ranks.svd_truncate`), which by Eckart and Young is never further off
than the means of the factors. Measured on the last three checkpoints of a tiny model that learnt 12 steps by GRPO at
rank 32 (and 8): 0.07 to 0.15 % (0.22 %) of the mean's norm is left out, the means of the factors are off by 0.6 to
1.6 %, and the last checkpoint alone by 17 to 24 %. Everything is added up in float32 or wider: in 16 bits a mean of
small changes is lost.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from app.models.adapter_ranks import read_adapter, svd_truncate, write_adapter


def mean_adapter(sources: Sequence[Path], target: Path) -> float:
    """Write the adapter nearest to the mean of what `sources` add to each weight, of their rank and scale. Returns the
    distance, over all weights, as a share of the norm of the mean.

    sources: of one training, so of one shape. Raises UserError for one that is not plain LoRA.
    """
    import torch

    held = [read_adapter(source) for source in sources]
    config, rank = held[-1][0], held[-1][0]["r"]
    # B of one at alpha / rank; at alpha / (rank * number) all of them side by side are the mean
    stacked = {
        name: torch.cat([tensors[name].float() for _, tensors in held], 0 if ".lora_A." in name else 1)
        for name in held[-1][1]
    }
    whole = target.with_name(f".{target.name}.whole")
    shutil.rmtree(whole, ignore_errors=True)
    write_adapter(sources[-1], whole, config | {"r": rank * len(held)}, stacked)
    shutil.rmtree(target, ignore_errors=True)
    error = svd_truncate(whole, target, rank)
    shutil.rmtree(whole)
    return error
