"""Training speed of ours beside plain PEFT, TRL's SFTTrainer with Liger, and Unsloth, under a memory cap, in one run on
one card.

Every arm trains the same LoRA adapter (r 16, all linear layers, no dropout, AdamW) on a model of Qwen3-1.7B's shape
with random weights, on the same packed rows of a corpus, 16 rows a step: pairs of its rows of 1,024 tokens make rows of
2,048, documents as they lie. So the losses of all arms can be held against each other. Useful tokens are those that
are no padding, by the corpus's fill. An arm is a process of its own; memory is what its allocator reserved at most, and
the cap makes it fail beyond (`set_per_process_memory_fraction`). Prints one JSON line an arm.

Run: python -m benchmarks.training --corpus RUN/corpus --arms peft:1:bf16,trl:8:nf4,ours:4:bf16 [--steps 12]
where an arm is NAME:MICRO_BATCH:BASE[:KEEP=LAYERS+...]: bf16 or nf4, and how many layers keep what (`Keep`; without a
word ours keeps what fits under the cap).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3Config

from app.models.config import QWEN3_1_7B as SHAPE
from app.models.sizes import GIB
from app.records import IGNORE
from app.settings import ModelSettings, SftSettings
from app.stage_settings.base import Settings
from app.training.memory import ALLOCATOR, choose_keep, shape_of, step_memory
from app.training.saved_activations import Keep

CAP_GIB = 8.0
SEQ_LEN = 2048
ROWS_A_STEP = 16
WARM_UP = 3
QUANTIZATION = {"bf16": "none", "nf4": "nf4"}


class Arm(Settings):
    name: str
    micro_batch: int
    base: str
    keep: str = ""


def arm_of(text: str) -> Arm:
    name, micro_batch, base, *keep = text.split(":")
    return Arm(name=name, micro_batch=int(micro_batch), base=base, keep="".join(keep))


def make_model(folder: Path) -> None:
    """Random weights in Qwen3-1.7B's shape, saved as a model folder."""
    if (folder / "config.json").exists():
        return
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(Qwen3Config(**SHAPE), dtype=torch.bfloat16)
    model.save_pretrained(folder)


def load(folder: Path, base: str) -> Any:
    from app.models.base import load_model

    settings = ModelSettings(source="path", name=str(folder), dtype="bfloat16", quantization=QUANTIZATION[base])
    return load_model(folder, settings, torch.device("cuda", 0), quantize=base == "nf4")


def corpus_rows(corpus: Path, num_rows: int) -> dict[str, torch.Tensor]:
    """int64 [num_rows, SEQ_LEN] by column."""
    from benchmarks.tuning import rows

    held = {name: tensor.reshape(-1, SEQ_LEN) for name, tensor in rows(corpus / "train").items()}
    order = torch.randperm(len(held["labels"]), generator=torch.Generator().manual_seed(0))[:num_rows]
    return {name: tensor[order] for name, tensor in held.items()}


def useful(corpus: Path) -> float:
    """Share of the rows' tokens that are no padding."""
    return float(json.loads((corpus / "manifest.json").read_text())["fill"])


def run_arm(arm: Arm, folder: Path, corpus: Path, steps: int) -> dict[str, Any]:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(CAP_GIB * GIB / total)
    torch.set_float32_matmul_precision("high")
    data = corpus_rows(corpus, steps * ROWS_A_STEP)
    share = useful(corpus)
    result: dict[str, Any] = {"arm": ":".join((arm.name, str(arm.micro_batch), arm.base, arm.keep))}
    try:
        seconds, losses = TRAIN[arm.name](arm, folder, data, steps)
    except torch.OutOfMemoryError as error:
        return result | {"out_of_memory": str(error).splitlines()[0][:160]}
    timed = seconds[WARM_UP:]
    tokens = ROWS_A_STEP * SEQ_LEN * share
    middle = sorted(timed)[len(timed) // 2]
    if arm.name == "ours":
        result["planned_gib"] = round(planned_gib(arm), 2)
    return result | {
        "tokens_per_s": round(tokens / middle),
        "seconds": round(middle, 4),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / GIB, 2),
        "allocated_gib": round(torch.cuda.max_memory_allocated() / GIB, 2),
        "losses": [round(loss, 4) for loss in losses],
    }


def kept_by(arm: Arm, settings: SftSettings) -> list[Keep]:
    """What each layer keeps: as the arm says, or without a word what fits under the cap."""
    model = ModelSettings(source="path", name="random", dtype="bfloat16", quantization=QUANTIZATION[arm.base])
    if not arm.keep:
        return choose_keep(shape_of(Qwen3Config(**SHAPE)), model, settings, SEQ_LEN, CAP_GIB * GIB) or []
    counts = dict(part.split("=") for part in arm.keep.split("+"))
    keep = [level for level in sorted(Keep, reverse=True) for _ in range(int(counts.get(level.name, 0)))]
    return keep + [Keep.INPUT] * (SHAPE["num_hidden_layers"] - len(keep))


def planned_gib(arm: Arm) -> float:
    """Peak memory that `app.training.memory` foretells for ours."""
    settings = settings_of(arm)
    model = ModelSettings(source="path", name="random", dtype="bfloat16", quantization=QUANTIZATION[arm.base])
    keep = kept_by(arm, settings)
    return step_memory(shape_of(Qwen3Config(**SHAPE)), model, settings, SEQ_LEN, keep).total / GIB


def settings_of(arm: Arm, **changes: Any) -> SftSettings:
    return SftSettings(
        lora_dropout=0.0, micro_batch=arm.micro_batch, grad_accumulation=ROWS_A_STEP // arm.micro_batch,
        checkpoint_every=10**6, use_gpu=True, **changes,
    )  # fmt: skip


def train_ours(arm: Arm, folder: Path, data: dict[str, torch.Tensor], steps: int) -> tuple[list[float], list[float]]:
    from app.training import loop, lora

    settings = settings_of(arm)
    model = lora.attach(load(folder, arm.base), settings, 0)
    keep = kept_by(arm, settings)
    metrics: list[loop.StepMetrics] = []

    def batches(epoch: int) -> Iterator[loop.Batch]:
        for start in range(0, steps * ROWS_A_STEP, arm.micro_batch):
            yield {name: tensor[start : start + arm.micro_batch] for name, tensor in data.items()}

    loop.train(
        model, loop.epochs(batches, settings, steps), settings, steps, device=torch.device("cuda", 0),
        on_step=metrics.append, on_checkpoint=lambda step, save: None, keep=keep,
    )  # fmt: skip
    return [m.seconds for m in metrics], [m.loss for m in metrics]


def train_peft(arm: Arm, folder: Path, data: dict[str, torch.Tensor], steps: int) -> tuple[list[float], list[float]]:
    """PEFT as its documentation has it: the model's own forward pass and loss, gradient checkpointing, AdamW."""
    from app.training import lora

    settings = settings_of(arm, gradient_checkpointing=True)
    return plain_loop(lora.attach(load(folder, arm.base), settings, 0).train(), arm, settings, data, steps)


def train_unsloth(arm: Arm, folder: Path, data: dict[str, torch.Tensor], steps: int) -> tuple[list[float], list[float]]:
    """Unsloth's model with its kernels and its own checkpointing, which moves activations to main memory, in the plain
    loop under autocast, as its trainer has it; documents of a row attend to each other."""
    from unsloth import FastLanguageModel  # type: ignore[import-not-found]

    own = folder.with_name(f"{folder.name}-unsloth")  # it wants a tokenizer, and writes beside the weights
    own.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (own / path.name).unlink(missing_ok=True)
        (own / path.name).symlink_to(path.resolve())
    tiny_tokenizer().save_pretrained(own)
    settings = settings_of(arm)
    model, _ = FastLanguageModel.from_pretrained(
        model_name=str(own), max_seq_length=SEQ_LEN, dtype=torch.bfloat16, load_in_4bit=arm.base == "nf4",
        fix_tokenizer=False,
    )  # fmt: skip
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=32, lora_dropout=0.0, target_modules=linear, use_gradient_checkpointing="unsloth",
    )  # fmt: skip
    with torch.autocast("cuda", dtype=torch.bfloat16):
        return plain_loop(FastLanguageModel.for_training(model) or model, arm, settings, data, steps)


def plain_loop(
    model: Any, arm: Arm, settings: SftSettings, data: dict[str, torch.Tensor], steps: int
) -> tuple[list[float], list[float]]:
    """Seconds and losses of the steps."""
    from app.training.schedule import learning_rate_at

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    seconds, losses = [], []
    for step in range(steps):
        start = time.perf_counter()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, steps, settings)
        rows = {name: tensor[step * ROWS_A_STEP : (step + 1) * ROWS_A_STEP].cuda() for name, tensor in data.items()}
        labelled = (rows["labels"][:, 1:] != IGNORE).sum()
        total = torch.zeros((), device="cuda")
        for first in range(0, ROWS_A_STEP, arm.micro_batch):
            batch = {name: tensor[first : first + arm.micro_batch] for name, tensor in rows.items()}
            loss = model(**batch, num_items_in_batch=labelled).loss
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(total.item())
        seconds.append(time.perf_counter() - start)
    return seconds, losses


def tiny_tokenizer() -> Any:
    """For trainers that ask for one and need none, since the rows are token ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1, "c": 2}, "a")))
    tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token = "a", "b", "c"
    return tokenizer


def train_trl(arm: Arm, folder: Path, data: dict[str, torch.Tensor], steps: int) -> tuple[list[float], list[float]]:
    """TRL's trainer with Liger's kernels; documents of a row attend to each other there."""
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            torch.cuda.synchronize()
            marks.append(time.perf_counter())

    settings = settings_of(arm)
    table = datasets.Dataset.from_dict({name: data[name].tolist() for name in ("input_ids", "labels")})
    config = SFTConfig(
        output_dir="/tmp/trl", per_device_train_batch_size=arm.micro_batch,
        gradient_accumulation_steps=ROWS_A_STEP // arm.micro_batch, max_steps=steps,
        learning_rate=settings.learning_rate, lr_scheduler_type="cosine", bf16=True, use_liger_kernel=True,
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, max_length=SEQ_LEN,
        logging_steps=1, report_to=[], save_strategy="no", dataset_kwargs={"skip_prepare_dataset": True},
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        load(folder, arm.base), args=config, train_dataset=table, processing_class=tiny_tokenizer(), peft_config=lora,
        callbacks=[Clock()],
    )  # fmt: skip
    marks.append(time.perf_counter())
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return [after - before for before, after in zip(marks, marks[1:], strict=False)], losses


TRAIN = {"peft": train_peft, "ours": train_ours, "trl": train_trl, "unsloth": train_unsloth}
UNSLOTH = {
    "UNSLOTH_DISABLE_STATISTICS": "1", "HF_HUB_OFFLINE": "1", "UNSLOTH_COMPILE_LOCATION": "/tmp/unsloth-compiled",
    "UNSLOTH_CE_LOSS_TARGET_GB": "1",  # it would size its loss by the whole card's free memory, which the cap forbids
}  # fmt: skip


def command_of(arm: str, arguments: argparse.Namespace) -> list[str]:
    """A process of its own for the arm. Unsloth patches transformers and PEFT, so it must be imported before them."""
    first = "import unsloth; " if arm.startswith("unsloth") else ""
    module = f"{first}import runpy; runpy.run_module('benchmarks.training', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", module, "--corpus", str(arguments.corpus), "--arms", arm]
    return [*command, "--model", str(arguments.model), "--steps", str(arguments.steps), "--only"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("/tmp/qwen3-1.7b-random"), help="folder, made if missing")
    parser.add_argument("--arms", required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", action="store_true", help="run the one arm in this process")
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run_arm(arm_of(arguments.arms), arguments.model, arguments.corpus, arguments.steps)))
        return
    make_model(arguments.model)
    for text in arguments.arms.split(","):
        done = subprocess.run(
            command_of(text, arguments), capture_output=True, text=True, env=os.environ | ALLOCATOR | UNSLOTH
        )
        lines = done.stdout.splitlines()
        print(lines[-1] if lines and not done.returncode else f"{text}: {done.stderr[-1500:]}", flush=True)


if __name__ == "__main__":
    main()
