"""A GGUF's weights quantised once more, to see what the first quantisation may have cost.

The original weights are not at hand, so the same kind of error is added a second time: each tensor that the file holds
quantised is rounded again to as many bits, in the form of its type (`FORMS`), in blocks of columns that a seed draws.
On the file's own blocks nothing would change, and on the same blocks moved by some columns half of the error would be
missing, since a block's grid comes back where its largest and smallest number do. Scales are not rounded themselves,
as the K types do. Score once less score twice estimates what once cost, if costs add up.

Run: python -m benchmarks.requantise FILE.gguf --seed 1 --out FOLDER
which writes a folder for --set model.source=path and prints one JSON line: by the file's types, the root mean square
of the second error over that of the weights, and that of the first as its steps let expect (step over sqrt(12)).
"""

import argparse
import json
import math
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from app.models.gguf_header import read_header, type_name
from app.models.gguf_layout import placed


@dataclass(frozen=True, slots=True)
class Form:
    """How a type rounds a block: to 2^bits even steps, from zero to its number farthest from it, or from its least
    number to its largest."""

    bits: int
    block: int
    from_zero: bool


FORMS = {
    "Q4_1": Form(4, 32, from_zero=False),
    "Q4_K": Form(4, 32, from_zero=False),
    "Q5_0": Form(5, 32, from_zero=True),
    "Q6_K": Form(6, 16, from_zero=True),
    "Q8_0": Form(8, 32, from_zero=True),
}


@dataclass(slots=True)
class Errors:
    """Sums of squares by the file's type."""

    weights: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    second: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    first: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def by_type(self) -> dict[str, dict[str, float]]:
        return {
            kind: {
                "second": round(math.sqrt(self.second[kind] / weights), 4),
                "first, by steps": round(math.sqrt(self.first[kind] / weights), 4),
            }
            for kind, weights in self.weights.items()
        }


def quantised_again(source: Path, folder: Path, seed: int | None, errors: Errors) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the folder that was unpacked of the file, those rounded again that the file holds quantised; for
    None as they are."""
    kinds = {place.name: type_name(place.tensor.kind) for place in placed(read_header(source))}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no dictionary
                weight, kind = file.get_tensor(name), kinds.get(name, "")
                if seed is not None and kind in FORMS and weight.dim() == 2:
                    weight = _again(weight.to(device), kind, order(weight.shape[1], seed), errors)
                yield name, weight


def _again(weight: torch.Tensor, kind: str, columns: torch.Tensor, errors: Errors) -> torch.Tensor:
    wide, form = weight.float(), FORMS[kind]
    changed = rounded(wide, form, columns).to(weight.dtype)
    step, _ = grid(wide.view(-1, form.block), form)
    errors.weights[kind] += float(wide.square().sum())
    errors.second[kind] += float((changed.float() - wide).square().sum())
    errors.first[kind] += float(step.square().sum()) * form.block / 12
    return changed


def order(columns: int, seed: int) -> torch.Tensor:
    """In which columns share blocks."""
    return torch.randperm(columns, generator=torch.Generator("cpu").manual_seed(seed), device="cpu")


def rounded(weight: torch.Tensor, form: Form, columns: torch.Tensor) -> torch.Tensor:
    """The weights on the grids of blocks of these columns."""
    columns = columns.to(weight.device)
    blocks = weight[:, columns].reshape(-1, form.block)
    step, least = grid(blocks, form)
    low, high = (-(2 ** (form.bits - 1)), 2 ** (form.bits - 1) - 1) if form.from_zero else (0, 2**form.bits - 1)
    nearest = ((blocks - least) / step).nan_to_num(0.0, 0.0, 0.0).round().clamp(low, high) * step + least
    return nearest.reshape(weight.shape)[:, columns.argsort()]


def grid(blocks: torch.Tensor, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
    """Each block's step, negative where that brings its farthest number onto the grid's longer side, and where it
    begins."""
    if form.from_zero:
        farthest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
        return -farthest / 2 ** (form.bits - 1), torch.zeros_like(farthest)
    least = blocks.amin(1, keepdim=True).clamp_max(0)
    return (blocks.amax(1, keepdim=True) - least) / (2**form.bits - 1), least


def main() -> None:
    from app.models.base import ensure_model
    from app.settings import ModelSettings

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, metavar="FILE.gguf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    folder = ensure_model(ModelSettings(source="gguf", name=str(arguments.source), dtype=arguments.dtype))
    arguments.out.mkdir(parents=True)
    for path in folder.iterdir():
        if path.is_file() and ".safetensors" not in path.name:
            shutil.copy(path, arguments.out)
    errors = Errors()
    weights = {n: w.cpu().contiguous() for n, w in quantised_again(arguments.source, folder, arguments.seed, errors)}
    save_file(weights, arguments.out / "model.safetensors", metadata={"format": "pt"})
    result: dict[str, Any] = {"benchmark": "requantise", "model": arguments.source.stem, "seed": arguments.seed}
    print(json.dumps(result | {"errors": errors.by_type()}))


if __name__ == "__main__":
    main()
