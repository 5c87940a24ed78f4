"""What an adapter loses when it is cut: held-out loss at every rank, of adapters trained to be cut and of others.

Arms, all with the same rows, steps, learning rate and scale at a rank:
  nested          one adapter of the highest rank with `sft.nested_ranks`, cut by `experimental.ranks.truncate`
  nested-dropout  the same with `sft.rank_dropout`
  svd             one plain adapter of the highest rank, cut by `app.models.adapter_ranks.svd_truncate`
  separate        one adapter trained at each rank, so as many trainings as ranks
The scale is what nesting gives a rank: lora_alpha / r * sqrt(r / rank) of the highest rank's settings, where lora_alpha
is 2 r unless --set says otherwise (so 2 at the highest rank). Losses are those of `benchmarks.held_out`; differences
are paired by document, of losses averaged over the seeds, which draw the adapter and the order of rows.

Adapters stay under --out, and what is there under the same settings is not trained again. Prints one JSON line and a
table. Run: python -m benchmarks.ranks --corpus RUN/corpus --out FOLDER [--profile laptop] [--gpu] [--ranks 2,4,8,16,32]
     [--rows N] [--held 200] [--seeds 0,1] [--batch 16] [--set sft.learning_rate=1e-3]
"""

import argparse
import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from app.models.adapter_ranks import svd_truncate
from app.models.base import ensure_model, load_model
from app.overrides import with_overrides
from app.profiles import get_profile
from app.settings import Profile
from app.training.experimental.ranks import truncate
from benchmarks.held_out import (
    Rows,
    adapter_losses,
    document_losses,
    mean_loss,
    paired_interval,
    parser_of,
    split,
    train_once,
)
from benchmarks.tuning import rows

RANK_DROPOUT = 0.08
CUT_ARMS = ("nested", "nested-dropout", "svd")
ARMS = (*CUT_ARMS, "separate")
COMPARED = (("nested", "svd"), ("nested", "separate"), ("nested-dropout", "separate"), ("nested-dropout", "nested"))
"""(this, less that)."""
Losses = dict[str, dict[int, Tensor]]
"""Arm -> rank -> summed loss, float64 [documents]."""


def trainings(profile: Profile, ranks: list[int]) -> Iterator[tuple[str, Profile]]:
    """(folder, settings) of each adapter that is trained; `plain` serves svd, and separate at the highest rank."""
    top = max(ranks)
    changes: dict[str, dict[str, Any]] = {
        "nested": {"nested_ranks": tuple(ranks)},
        "nested-dropout": {"nested_ranks": tuple(ranks), "rank_dropout": RANK_DROPOUT},
        "plain": {},
    }
    for rank in ranks[:-1]:
        # no whole number at every rank: past the settings' check, PEFT takes it as it is
        changes[f"separate-{rank}"] = {"lora_r": rank, "lora_alpha": profile.sft.lora_alpha * math.sqrt(rank / top)}
    for name, change in changes.items():
        yield name, profile.model_copy(update={"sft": profile.sft.model_copy(update=change)})


def adapters(folder: Path, ranks: list[int]) -> Iterator[tuple[str, int, Path]]:
    """(arm, rank, PEFT folder) of what was trained under `folder`; cut ones are made anew."""
    cuts = folder / "cuts"
    shutil.rmtree(cuts, ignore_errors=True)
    cuts.mkdir()
    for rank in ranks:
        for arm in CUT_ARMS:
            source, target = folder / ("plain" if arm == "svd" else arm) / "adapter", cuts / f"{arm}-{rank}"
            (svd_truncate if arm == "svd" else truncate)(source, target, rank)
            yield arm, rank, target
        yield "separate", rank, folder / ("plain" if rank == max(ranks) else f"separate-{rank}") / "adapter"


def measured(base: Any, folder: Path, ranks: list[int], held: Rows, batch: int, device: torch.device) -> Losses:
    """base: the untouched model; it is given back untouched."""
    found: Losses = {arm: {} for arm in ARMS}
    for arm, rank, adapter in adapters(folder, ranks):
        found[arm][rank] = adapter_losses(base, adapter, held, batch, device)
    return found


def compare(by_seed: list[Losses], tokens: Tensor, ranks: list[int]) -> dict[str, Any]:
    """Losses of each seed, and differences with their intervals, by arm and rank."""
    losses = {
        arm: {rank: [round(mean_loss(found[arm][rank], tokens), 5) for found in by_seed] for rank in ranks}
        for arm in ARMS
    }
    differences: dict[str, dict[int, list[float]]] = {}
    for this, that in COMPARED:
        for rank in ranks:
            a, b = (torch.stack([found[arm][rank] for found in by_seed]).mean(0) for arm in (that, this))
            interval = paired_interval(a, b, tokens)
            differences.setdefault(f"{this} less {that}", {})[rank] = [round(number, 5) for number in interval]
    return {"losses": losses, "differences": differences}


def table(result: dict[str, Any], ranks: list[int]) -> str:
    """Markdown: a line a rank, losses as means over seeds, then differences as `mean [low, high]`."""
    names = [*ARMS, *result["differences"]]
    lines = [f"| rank | {' | '.join(names)} |", f"|---:{'|---:' * len(names)}|"]
    for rank in ranks:
        means = [sum(result["losses"][arm][rank]) / len(result["losses"][arm][rank]) for arm in ARMS]
        cells = [f"{mean:.4f}" for mean in means]
        for found in result["differences"].values():
            middle, low, high = found[rank]
            cells.append(f"{middle:+.4f} [{low:+.4f}, {high:+.4f}]")
        lines.append(f"| {rank} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    ranks = sorted(int(rank) for rank in arguments.ranks.split(","))
    defaults = [f"sft.lora_r={ranks[-1]}", f"sft.lora_alpha={2 * ranks[-1]}", "sft.max_steps=null"]
    profile = with_overrides(get_profile(arguments.profile), [*defaults, *arguments.overrides])
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    train, held = split(data := rows(arguments.corpus / "train"), arguments.held)
    shared = len(data["labels"]) - len(train["labels"]) - arguments.held
    if arguments.rows:
        chosen = torch.randperm(len(train["labels"]), generator=torch.Generator().manual_seed(0))[: arguments.rows]
        train = {name: tensor[chosen] for name, tensor in train.items()}
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    told = {}
    for seed in seeds:
        for name, settings in trainings(profile.model_copy(update={"seed": seed}), ranks):
            start = time.perf_counter()
            told[f"{seed}/{name}"] = done = train_once(settings, train, device, arguments.out / f"seed-{seed}" / name)
            said = {key: done[key] for key in ("steps", "seconds", "loss_first", "loss_last")}
            print(f"seed {seed} {name} {said} ({time.perf_counter() - start:.0f} s)", flush=True)
    base = load_model(ensure_model(profile.model), profile.model, device)
    untouched, tokens = document_losses(base, held, arguments.batch, device)
    by_seed = [measured(base, arguments.out / f"seed-{seed}", ranks, held, arguments.batch, device) for seed in seeds]
    return {
        "benchmark": "ranks",
        "model": profile.model.name,
        "device": torch.cuda.get_device_name(0) if arguments.gpu else "cpu",
        "rows": len(train["labels"]),
        "held_rows": arguments.held,
        "left_out_for_shared_documents": shared,
        "held_documents": int((tokens > 0).sum()),
        "held_tokens": int(tokens.sum()),
        "settings": {"ranks": ranks, "seeds": seeds, **json.loads(profile.sft.model_dump_json())},
        "steps": told[f"{seeds[0]}/plain"]["steps"],
        "seconds": {name: done["seconds"] for name, done in told.items()},
        "base_loss": round(mean_loss(untouched, tokens), 5),
        **compare(by_seed, tokens, ranks),
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--ranks", default="2,4,8,16,32")
    arguments = parser.parse_args()
    result = run(arguments)
    (arguments.out / "ranks.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    print(f"\nbase {result['base_loss']:.4f}\n{table(result, result['settings']['ranks'])}")


if __name__ == "__main__":
    main()
