"""What a setting of training is worth: held-out loss of trainings that differ in settings alone, paired by document.

Presets, each compared with its first arm:
  data-dropout  full-3, three full epochs; dbpd, smrd and srd over four epochs that cost as much (1 + 1/2 + 1/2 + 1;
                srd: 1 + 0.62 + 0.38 + 1), dbpd without its guard against noise, and full-4, which costs a third more
  lora-dropout  none, 0.05 and 0.1 of an adapter's input
An arm of one's own: --arm NAME:KEY=VALUE+KEY=VALUE; the first one is what the others are compared with. Losses are
those of `benchmarks.held_out`; differences are paired by document, of losses averaged over the seeds, which draw the
adapter and the order of rows. Cost is in FLOP-epochs: tokens that went through the model, padding included, for each
token of the training rows (no arm has passes that only score).

Adapters stay under --out, and what is there is not trained again. Prints one JSON line and a table. Run:
python -m benchmarks.arms --corpus RUN/corpus --out FOLDER --preset data-dropout [--profile laptop] [--gpu] [--rows N]
     [--held 200] [--seeds 0,1] [--batch 16] [--set sft.learning_rate=1e-3]
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.models import ensure_model, load_model
from app.overrides import with_overrides
from app.profiles import get_profile
from app.settings import Profile
from app.training import loop, lora
from app.training.data_dropout import Difficulty
from app.training.feed import Batch, micro_batches
from app.training.fused import why_plain
from app.training.schedule import total_steps
from benchmarks.held_out import COLUMNS, Rows, document_losses, mean_loss, paired_interval, split
from benchmarks.ranks import done_before, keep_of, made_with
from benchmarks.tuning import rows

COST = ("steps", "seconds", "effective_epochs", "flop_epochs")
PRESETS = {
    "data-dropout": [
        "full-3:sft.epochs=3",
        "dbpd:sft.epochs=4+sft.data_dropout=dbpd",
        "dbpd-noise:sft.epochs=4+sft.data_dropout=dbpd+sft.data_dropout_noise=0",
        "smrd:sft.epochs=4+sft.data_dropout=smrd",
        "srd:sft.epochs=4+sft.data_dropout=srd+sft.data_dropout_keep=0.618",
        "full-4:sft.epochs=4",
    ],
    "lora-dropout": [
        "none:sft.lora_dropout=0",
        "0.05:sft.lora_dropout=0.05",
        "0.1:sft.lora_dropout=0.1",
    ],
}


def train_once(profile: Profile, data: Rows, device: torch.device, folder: Path) -> dict[str, Any]:
    """Trains an adapter into `folder` unless it is there; what that cost. Raises UserError where what is there was made
    under other settings."""
    record = folder / "training.json"
    made = made_with(profile, data)
    if done := done_before(record, made):
        return done
    folder.mkdir(parents=True, exist_ok=True)
    model = lora.attach(load_model(ensure_model(profile.model), profile.model, device), profile.sft, profile.seed)
    difficulty = Difficulty() if profile.sft.data_dropout != "none" else None
    num_rows, metrics = len(data["labels"]), list[loop.StepMetrics]()
    arrays = {name: data[name].numpy().astype(np.int32) for name in COLUMNS}

    def batches(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng(profile.seed + epoch).permutation(num_rows)
        ordered = ({name: column[index] for name, column in arrays.items()} for index in order)
        return micro_batches(ordered, profile, epoch, num_rows, difficulty=difficulty)

    keep = () if why_plain(model, profile.sft) else keep_of(profile, data, device)
    steps, start = total_steps(num_rows, profile.sft), time.perf_counter()
    loop.train(
        model, batches, profile.sft, steps, device=device, on_step=metrics.append,
        on_checkpoint=lambda step, save: save(folder) if step == steps else None,
        keep=keep, corpus_rows=num_rows, difficulty=difficulty,
    )  # fmt: skip
    last = metrics[-1]
    result = made | {
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
        "effective_epochs": round(last.effective_epochs, 3),
        "flop_epochs": round(last.flop_epochs, 3),
    }
    record.write_text(json.dumps(result))
    return result


def measured(base: Any, adapter: Path, held: Rows, batch: int, device: torch.device) -> Tensor:
    """Summed losses of the held-out documents; `base` is given back untouched."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(base, adapter)
    losses, _ = document_losses(model, held, batch, device)
    vars(model.unload()).pop("peft_config", None)  # or PEFT warns of a second adapter
    return losses


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    arms = dict(text.split(":", 1) for text in arguments.arm or PRESETS[arguments.preset])
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    train, held = split(rows(arguments.corpus / "train"), arguments.held)
    if arguments.rows:
        train = {name: tensor[: arguments.rows] for name, tensor in train.items()}
    seq_len = train["labels"].shape[1]
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    base_profile = get_profile(arguments.profile)
    cost: dict[str, dict[str, Any]] = {}
    for name, changes in arms.items():
        shared = ["sft.max_steps=null", f"corpus.seq_len={seq_len}", *arguments.overrides]
        profile = with_overrides(base_profile, [*shared, *changes.split("+")])
        for seed in seeds:
            folder = arguments.out / f"seed-{seed}" / name
            cost[name] = train_once(profile.model_copy(update={"seed": seed}), train, device, folder)
            print(f"seed {seed} {name}", {key: cost[name][key] for key in COST}, flush=True)
    base = load_model(ensure_model(profile.model), profile.model, device)
    untouched, tokens = document_losses(base, held, arguments.batch, device)
    losses = {
        name: [
            measured(base, arguments.out / f"seed-{seed}" / name / "adapter", held, arguments.batch, device)
            for seed in seeds
        ]
        for name in arms
    }
    first = torch.stack(losses[next(iter(arms))]).mean(0)
    return {
        "benchmark": "arms",
        "model": profile.model.name,
        "device": torch.cuda.get_device_name(0) if arguments.gpu else "cpu",
        "rows": len(train["labels"]),
        "held_documents": int((tokens > 0).sum()),
        "seeds": seeds,
        "settings": arguments.overrides,
        "base_loss": round(mean_loss(untouched, tokens), 5),
        "arms": {
            name: {
                "settings": arms[name],
                **{key: cost[name][key] for key in COST},
                "losses": [round(mean_loss(one, tokens), 5) for one in losses[name]],
                "difference": [round(x, 5) for x in paired_interval(first, torch.stack(losses[name]).mean(0), tokens)],
            }
            for name in arms
        },
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: a line an arm."""
    lines = [
        "| arm | effective epochs | FLOP-epochs | seconds | held-out loss, by seed | difference |",
        "|---|---:|---:|---:|---|---|",
    ]
    for name, arm in result["arms"].items():
        middle, low, high = arm["difference"]
        losses = ", ".join(f"{loss:.4f}" for loss in arm["losses"])
        lines.append(
            f"| {name} | {arm['effective_epochs']:.2f} | {arm['flop_epochs']:.2f} | {arm['seconds']:.0f} | {losses} "
            f"| {middle:+.4f} ({low:+.4f} to {high:+.4f}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", choices=PRESETS, default="data-dropout")
    parser.add_argument("--arm", action="append", help="NAME:KEY=VALUE+KEY=VALUE, instead of a preset")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rows", type=int, help="to train on; all if left out")
    parser.add_argument("--held", type=int, default=200, help="rows held out")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--batch", type=int, default=16, help="held-out rows at once")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    result = run(arguments)
    (arguments.out / "arms.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    print(f"\nbase {result['base_loss']:.4f}\n{table(result)}")


if __name__ == "__main__":
    main()
