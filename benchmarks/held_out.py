"""Adapters that are trained once, their loss on held-out documents, and how sure a difference between two is: what the
training benchmarks share.

Rows are those of a packed corpus, int64 [rows, seq_len] by column, as `benchmarks.tuning.rows` reads them. A document
is what starts at position 0: a packed example, or a piece of one that was longer than a row. Near-duplicates and other
files of the same package may lie on both sides of the split: all arms of a benchmark see the same rows, so differences
between them hold, while the losses themselves flatter.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from app.errors import UserError
from app.records import IGNORE
from app.settings import Profile
from app.training.experimental.data_dropout import documents
from benchmarks.tuning import COLUMNS, tune

Rows = dict[str, Tensor]
LOGITS_AT_ONCE = 4096
"""Labelled tokens whose logits exist at once."""


def split(data: Rows, num_rows: int, seed: int = 0) -> tuple[Rows, Rows]:
    """`num_rows` rows drawn by seed to hold out, and the others without those that share a document with a held one
    token by token: what both parts lack of `data` was left out for that."""
    total = len(data["labels"])
    if not 0 < num_rows < total:
        raise ValueError(f"{num_rows} of {total} rows can't be held out: take 1 to {total - 1}")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).tolist()
    contents = _contents(data)
    seen = set[int]().union(*(contents[row] for row in order[:num_rows]))
    kept = [row for row in sorted(order[num_rows:]) if seen.isdisjoint(contents[row])]
    return _chosen(data, kept), _chosen(data, sorted(order[:num_rows]))


def _chosen(data: Rows, rows: list[int]) -> Rows:
    return {name: tensor[rows] for name, tensor in data.items()}


def _contents(data: Rows) -> list[set[int]]:
    """The keys of each row's documents."""
    arrays = [data[name].numpy() for name in COLUMNS]
    rows = (
        {name: array[number] for name, array in zip(COLUMNS, arrays, strict=True)} for number in range(len(arrays[0]))
    )
    return [{key for _, _, key in documents(row)} for row in rows]


@torch.no_grad()
def document_losses(model: Any, held: Rows, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The sum of -log p over each document's labelled tokens, row by row, nats, float64 [documents], and how many
    they are, int64 [documents] (0: a document without labels, or padding). On the host; `batch` rows at once.

    The model is run as it is, by transformers' own layers; with or without an adapter.
    """
    causal_lm = model.get_base_model() if hasattr(model, "peft_config") else model
    decoder, head = causal_lm.get_decoder(), causal_lm.get_output_embeddings()
    was_training = model.training
    model.eval()
    losses: list[Tensor] = []
    for start in range(0, len(held["labels"]), batch):
        ids, labels, positions = (held[name][start : start + batch].to(device) for name in COLUMNS)
        hidden = decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state[:, :-1]
        chosen = labels[:, 1:] != IGNORE
        pieces = zip(hidden[chosen].split(LOGITS_AT_ONCE), labels[:, 1:][chosen].split(LOGITS_AT_ONCE), strict=True)
        losses += [functional.cross_entropy(head(x).float(), y, reduction="none").double().cpu() for x, y in pieces]
    model.train(was_training)
    document = (held["position_ids"].reshape(-1) == 0).cumsum(0).view_as(held["labels"]) - 1
    of_token = document[:, 1:][held["labels"][:, 1:] != IGNORE]
    number = int(document[-1, -1]) + 1
    summed = torch.zeros(number, dtype=torch.float64).index_add_(0, of_token, torch.cat(losses))
    return summed, torch.bincount(of_token, minlength=number)


def mean_loss(losses: Tensor, tokens: Tensor) -> float:
    """The mean loss of a token, from what `document_losses` gives."""
    return (losses.sum() / tokens.sum()).item()


def paired_interval(
    a: Tensor, b: Tensor, tokens: Tensor, samples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """How much more model b loses on a token than model a, and the 95 % interval of that: documents are drawn again
    with replacement, the same ones for both (paired bootstrap). a, b: summed losses, tokens: [documents] each."""
    labelled = tokens > 0
    excess, tokens = (b - a)[labelled], tokens[labelled].double()
    random = torch.Generator().manual_seed(seed)
    drawn = torch.empty(samples, dtype=torch.float64)
    for number in range(samples):
        chosen = torch.randint(len(tokens), (len(tokens),), generator=random)
        drawn[number] = excess[chosen].sum() / tokens[chosen].sum()
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return (excess.sum() / tokens.sum()).item(), low, high


def adapter_losses(base: Any, adapter: Path, held: Rows, batch: int, device: torch.device) -> Tensor:
    """Summed losses of the documents; `base` is given back untouched."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(base, adapter)
    losses, _ = document_losses(model, held, batch, device)
    model.unload()
    return losses


def train_once(profile: Profile, data: Rows, device: torch.device, folder: Path) -> dict[str, Any]:
    """Trains an adapter into `folder` unless it is there; what `benchmarks.tuning.tune` tells of it. Raises UserError
    where what is there was made under other settings."""
    record = folder / "training.json"
    settings = json.loads(json.dumps(dict(profile.sft)))  # as JSON has it
    made = {"settings": settings, "model": profile.model.name, "seed": profile.seed, "rows": len(data["labels"])}
    if record.exists():
        held: dict[str, Any] = json.loads(record.read_text())
        if {name: held.get(name) for name in made} != made:
            raise UserError(f"{folder} was trained under other settings: give another --out")
        return held
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = made | tune(profile, data, device, folder)
    record.write_text(json.dumps(result))
    return result


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """With the options that all have."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rows", type=int, help="to train on; all if left out")
    parser.add_argument("--held", type=int, default=200, help="rows held out")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--batch", type=int, default=16, help="held-out rows at once")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    return parser
