"""What a corpus teaches: LoRA at several learning rates on its packed rows, then every suite by both protocols beside
the untouched model, paired by problem. In this process with the transformers engine, so it runs wherever torch does.

Prints one JSON line: the loss over the first and last tenth of the steps, held-out loss where the corpus has validation
rows, passes and paired differences with their 95 % intervals. Samples stay under --out, and what is there is not drawn
again. Learning rates are compared on test suites here: the best of several is flattered by chance, so read all of them.
Run: python -m benchmarks.tuning --corpus RUN/corpus --out FOLDER [--rates 2e-4,1e-3] [--suite mbpp=FILE] [--gpu]
     [--set sft.epochs=2] [--protocols chat,completion] [--samples 1] [--temperature 0]
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from app.evaluation.measure import measure_candidate, plan_measurement
from app.evaluation.stage import against_base, measurement, read_result
from app.evaluation.suites.registry import get_suite
from app.generation.transformers_engine import TransformersEngine
from app.models.base import ensure_model, load_model, load_tokenizer
from app.models.sizes import GIB
from app.overrides import with_overrides
from app.profiles import get_profile
from app.runs import Run
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import Profile
from app.training import loop, lora
from app.training.experimental.data_dropout import Difficulty
from app.training.feed import Batch, micro_batches
from app.training.memory import choose_keep, shape_of
from app.training.schedule import total_steps

COLUMNS = ("input_ids", "labels", "position_ids")


def rows(folder: Path) -> dict[str, torch.Tensor]:
    """All rows of the shards: int64 [rows, seq_len] by column."""
    table = pq.ParquetDataset(folder).read(columns=list(COLUMNS))
    length = len(table["input_ids"][0])
    return {
        name: torch.from_numpy(table[name].combine_chunks().flatten().to_numpy().reshape(-1, length).astype("int64"))
        for name in COLUMNS
    }


def tune(profile: Profile, data: dict[str, torch.Tensor], device: torch.device, folder: Path) -> dict[str, Any]:
    """Train an adapter into `folder`; its losses and what it cost. On a card fused layers keep what fits
    sft.vram_gib."""
    model = lora.attach(load_model(ensure_model(profile.model), profile.model, device), profile.sft, profile.seed)
    difficulty = Difficulty() if profile.sft.data_dropout != "none" else None
    num_rows, seq_len = data["labels"].shape
    arrays = {name: data[name].numpy().astype(np.int32) for name in COLUMNS}

    def batches(epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng(profile.seed + epoch).permutation(num_rows)
        ordered = ({name: column[index] for name, column in arrays.items()} for index in order)
        return micro_batches(ordered, profile, epoch, num_rows, difficulty=difficulty)

    shape, limit = shape_of(model.config), profile.sft.vram_gib * GIB if device.type == "cuda" else math.inf
    steps, start, metrics = total_steps(num_rows, profile.sft), time.perf_counter(), list[loop.StepMetrics]()
    loop.train(
        model,
        batches,
        profile.sft,
        steps,
        device=device,
        on_step=metrics.append,
        on_checkpoint=lambda step, save: save(folder) if step == steps else None,
        keep=choose_keep(shape, profile.model, profile.sft, seq_len, limit) or [],
        corpus_rows=num_rows,
        difficulty=difficulty,
    )
    tenth, last = max(1, steps // 10), metrics[-1]
    return {
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
        "tokens": last.tokens,
        "effective_epochs": round(last.effective_epochs, 3),
        "flop_epochs": round(last.flop_epochs, 3),
        "loss_first": round(mean_loss(metrics[:tenth]), 4),
        "loss_last": round(mean_loss(metrics[-tenth:]), 4),
    }


def mean_loss(metrics: list[loop.StepMetrics]) -> float:
    return math.fsum(m.loss * m.label_tokens for m in metrics) / sum(m.label_tokens for m in metrics)


def evaluate(
    profile: Profile, run: Run, candidates: dict[str, str], suites: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Passes of every candidate, and differences to the base."""
    tokenizer = load_tokenizer(ensure_model(profile.model))
    settings = profile.evaluation.model_copy(
        update={
            "max_new_tokens": arguments.new_tokens,
            "temperature": arguments.temperature,
            "top_p": 1.0,
            "num_problems": arguments.problems,
            "num_samples": arguments.samples,
        }
    )
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        generator = TransformersEngine(profile.model, profile.generation)
        judges = stack.enter_context(closing(LocalJudges(profile.sandbox, confinement())))
        for (text, protocol), candidate in itertools.product(
            itertools.product(suites, arguments.protocols.split(",")), candidates
        ):
            name, _, path = text.partition("=")
            suite = get_suite(name)
            tasks = suite.load(Path(path) if path else None)
            what = measurement(settings, profile, suite, protocol, candidate, candidates[candidate], tasks)
            measure_candidate(run, plan_measurement(run, what, {}, tokenizer), {}, tokenizer, generator, judges)
            result = read_result(run.suite_result(what.label, candidate))
            row: dict[str, Any] = {"passed": result.num_passed, "samples": result.num_samples}
            if compared := against_base(run, what.label, candidate):
                row["difference"] = round(100 * compared.comparison.difference, 2)
                row["interval_95"] = [round(100 * end, 2) for end in compared.comparison.interval_95]
                row["better_worse"] = [compared.comparison.num_better, compared.comparison.num_worse]
            found.setdefault(candidate, {})[what.label] = row
            print(candidate, what.label, row, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--rates", default="2e-4,1e-3")
    parser.add_argument("--suite", action="append", default=[], metavar="NAME[=FILE]")
    parser.add_argument("--protocols", default="chat,completion")
    parser.add_argument("--problems", type=int, help="of each suite, evenly spaced; all if left out")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--new-tokens", type=int, default=512)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()

    defaults = [f"generation.use_gpu={str(arguments.gpu).lower()}", "generation.engine=transformers"]
    profile = with_overrides(get_profile(arguments.profile), defaults + arguments.overrides)
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    torch.set_float32_matmul_precision("high")
    run = Run(arguments.out)
    data = rows(arguments.corpus / "train")
    result: dict[str, Any] = {"benchmark": "tuning", "model": profile.model.name, "rows": len(data["labels"])}
    result["device"] = torch.cuda.get_device_name(0) if arguments.gpu else "cpu"
    candidates = {"base": ""}
    result["training"] = {}
    for rate in arguments.rates.split(",") if arguments.rates else ():
        folder = arguments.out / "adapters" / f"lr-{rate}"
        candidates[folder.name] = str(folder / "adapter")
        if not (folder / "adapter").exists():
            tuned = with_overrides(profile, [f"sft.learning_rate={rate}", "sft.max_steps=null", *arguments.overrides])
            folder.mkdir(parents=True)
            result["training"][folder.name] = tune(tuned, data, device, folder)
            print(folder.name, result["training"][folder.name], flush=True)
    torch.set_float32_matmul_precision("highest")  # scores are compared with those that were drawn in float32
    result["suites"] = evaluate(profile, run, candidates, arguments.suite or ["humaneval"], arguments)
    (arguments.out / "tuning.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
