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
from typing import Any

import torch

from app.models.base import ensure_model, load_model
from app.overrides import with_overrides
from app.profiles import get_profile
from benchmarks.held_out import (
    adapter_losses,
    document_losses,
    mean_loss,
    paired_interval,
    parser_of,
    split,
    train_once,
)
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
            adapter_losses(base, arguments.out / f"seed-{seed}" / name / "adapter", held, arguments.batch, device)
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
    parser = parser_of(__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="data-dropout")
    parser.add_argument("--arm", action="append", help="NAME:KEY=VALUE+KEY=VALUE, instead of a preset")
    arguments = parser.parse_args()
    result = run(arguments)
    (arguments.out / "arms.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))
    print(f"\nbase {result['base_loss']:.4f}\n{table(result)}")


if __name__ == "__main__":
    main()
