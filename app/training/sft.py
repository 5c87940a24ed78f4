"""The SFT stage, on Ray Train: streams the packed shards to `num_workers` workers and trains a LoRA adapter.

The driver starts the workers (`ray_train`) and shows what comes back (`reports`); each worker is a shell over
`loop.train`. Run: python -m app sft --profile P --run DIR
"""

import contextlib
import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.train

from app.cluster.signals import STOP_S
from app.corpus.shard_files import check_rows, read_whole
from app.errors import UserError
from app.files.json_files import of_this_version, read_json, read_json_lines, write_json
from app.learnt_from import of_run_corpus
from app.models.base import ensure_model
from app.models.sizes import GIB
from app.progress import forward_to, say
from app.running import metrics
from app.running.deadlines import NEVER, Deadline, cut_short
from app.runs import Run, git_commit
from app.settings import Profile
from app.training.memory import choose_keep, give_back, shape_of, step_memory
from app.training.model_card import write_card
from app.training.ray_train import fit, is_stopped, last_checkpoint, replace_folder, salvage, set_up_device
from app.training.reports import MetricsPlaces, Reporter, send, shown, told
from app.training.saved_activations import Keep
from app.training.schedule import total_steps

SHUFFLED = 1024
"""Rows that are mixed at a time, at the least: 25 MB for rows of 2,048 tokens."""


def run_sft(run: Run, profile: Profile, deadline: Deadline = NEVER) -> None:
    """Train the run's adapter, and write sft/meta.json last; do nothing where that is there. Needs a connected Ray and
    a complete corpus. At the deadline the training ends, with a checkpoint of the step that it has come to."""
    if run.sft_meta.exists():
        return
    run.decision("sft").unlink(missing_ok=True)  # about an adapter that was there before
    manifest = read_json(run.corpus_manifest)
    check_rows(run.train_shards, manifest["rows"])
    steps = total_steps(manifest["rows"], profile.sft)
    if steps == 0:
        raise UserError(
            f"the corpus has {manifest['rows']} rows, fewer than one step takes: "
            "lower sft.grad_accumulation or add sources to the recipe"
        )
    ensure_model(profile.model)
    with of_this_version(run.corpus):
        of_run_corpus(run)  # what the adapter's card will tell: a file that is broken is told before days of training
    workers = profile.sft.num_workers
    say(f"  {manifest['rows']} rows of {profile.corpus.seq_len} tokens, {steps} steps on {workers} worker(s)")
    salvage(run.sft_work)
    read_json_lines(run.sft_metrics)  # a broken line is told before anything starts
    result = _fit(run, profile, steps, deadline)
    checkpoint = Path(result.checkpoint.path)
    replace_folder(checkpoint / "adapter", run.sft_adapter)
    last = read_json_lines(run.sft_metrics)[-1]
    meta = {
        "settings": profile.sft.model_dump(),
        "model": profile.model.model_dump(),
        "parent": str(run.corpus_manifest),
        "seed": profile.seed,
        "commit": git_commit(),
        "steps": last["step"],
        "cut": cut_short(last["step"], steps, deadline) if last["step"] < steps else "",
        "tokens": last["tokens"],
        "effective_epochs": last["effective_epochs"],
        "flop_epochs": last["flop_epochs"],
        "final_loss": last["loss"],
        "held_out_loss": [row["loss"] for row in read_json_lines(run.sft_held_out)],
    }
    write_card(run, meta)
    write_json(run.sft_meta, meta)
    shutil.rmtree(run.sft_work)


def _fit(run: Run, profile: Profile, steps: int, deadline: Deadline) -> Any:
    options = profile.sft
    context = ray.data.DataContext.get_current()
    context.use_datasource_v2 = False  # it starts 32 processes an epoch and worker to read the ends of a few files
    context.execution_options.preserve_order = True  # a resumed epoch must bring the same rows
    context.execution_no_progress_timeout_s = -1  # a worker may wait for its card without fault
    resources = {"CPU": 1, "GPU": 1} if options.use_gpu else {"CPU": 1}
    with shown("sft", steps, told) as channel:
        return fit(
            train_loop,
            {
                "run": str(run.root),
                "profile": profile.model_dump_json(),
                "steps": steps,
                "deadline": deadline,
                "rows": read_json(run.corpus_manifest)["rows"],
            },
            run.sft_work,
            channel,
            ray.train.ScalingConfig(
                num_workers=options.num_workers, use_gpu=options.use_gpu, resources_per_worker=resources
            ),
            stop_s=STOP_S,
            datasets={"train": _dataset(run)},
            dataset_config=ray.train.DataConfig(datasets_to_split=[]),  # each worker takes its own rows (`feed`)
        )


def _dataset(run: Run) -> ray.data.Dataset:
    """The corpus's rows. A block a shard: the order they are mixed into depends on blocks, and is to be the same on
    a machine with other cores."""
    shards = sorted(run.train_shards.glob("*.parquet"))
    return ray.data.read_parquet([str(shard) for shard in shards], override_num_blocks=len(shards))


def train_loop(config: dict[str, Any]) -> None:
    """One Ray Train worker: model, data and reporting around `loop.train`."""
    from app.training import loop, parallel
    from app.training.experimental.data_dropout import Difficulty
    from app.training.feed import Batch, micro_batches
    from app.training.held_out import held_out_batches

    run, profile = Run(Path(config["run"])), Profile.model_validate_json(config["profile"])
    options, steps = profile.sft, config["steps"]
    device = ray.train.torch.get_device()
    set_up_device(device, options.vram_gib)
    worker = ray.train.get_context().get_world_rank()
    if worker == 0:
        forward_to(functools.partial(send, config["channel"]))
    model = _load(profile, device)
    keep = _keep(model, profile, device)
    checkpoint = last_checkpoint(config)
    difficulty = Difficulty() if options.data_dropout != "none" else None

    def batches(epoch: int) -> Iterator[Batch]:
        return micro_batches(_rows(run, profile, epoch), profile, epoch, config["rows"], worker, difficulty)

    places = _metrics_places(run)
    with (
        metrics.tagged(run=run.root.name, stage="sft"),
        contextlib.closing(Reporter(places, checkpoint, options, steps, device)) as reporter,
    ):
        loop.train(
            model,
            loop.until(loop.epochs(batches, options, steps, difficulty), config["deadline"], device),
            options,
            steps,
            device=device,
            on_step=reporter.on_step,
            on_checkpoint=reporter.on_checkpoint,
            resume_from=checkpoint,
            wrap=lambda module: parallel.wrap(module, options, device),
            keep=keep,
            corpus_rows=config["rows"],
            difficulty=difficulty,
            held_out=held_out_batches(profile),
            on_held_out=reporter.on_held_out,
            is_stopped=lambda: is_stopped(config),
        )
    give_back()


def _metrics_places(run: Run) -> MetricsPlaces:
    return MetricsPlaces(
        label="sft", metrics=run.sft_metrics, held_out=run.sft_held_out, tensorboard=run.sft_tensorboard
    )


def _load(profile: Profile, device: Any) -> Any:
    from app.training import lora

    return lora.load_for_training(ensure_model(profile.model), profile.model, profile.sft, profile.seed, device)


def _keep(model: Any, profile: Profile, device: Any) -> list[Keep]:
    """What each layer keeps for its backward pass. Raises UserError where a micro-batch doesn't fit the card."""
    from app.training.attention import attention_of
    from app.training.fused import why_plain

    if reason := why_plain(model, profile.sft):
        attention = f"{model.config._attn_implementation} attention under a mask by document"
        say(f"  layers of transformers and PEFT, not the fused ones: {reason}; {attention}")
        return []
    say(f"  fused layers; {attention_of(model.get_input_embeddings().weight)}")
    shape, seq_len = shape_of(model.config), profile.corpus.seq_len
    if device.type != "cuda":
        return [Keep.ALL] * shape.layers
    keep = choose_keep(shape, profile.model, profile.sft, seq_len, profile.sft.vram_gib * GIB)
    if keep is None:
        least = step_memory(shape, profile.model, profile.sft, seq_len, [Keep.INPUT] * shape.layers)
        raise UserError(
            f"a micro-batch of {profile.sft.micro_batch} x {seq_len} tokens takes {least}, more than sft.vram_gib = "
            f"{profile.sft.vram_gib}: lower sft.micro_batch and raise sft.grad_accumulation, or lower corpus.seq_len "
            "in another --run"
        )
    counts = ", ".join(f"{keep.count(level)} keep {level.name.lower()}" for level in Keep if level in keep)
    say(f"  memory {step_memory(shape, profile.model, profile.sft, seq_len, keep)}; of {shape.layers} layers {counts}")
    return keep


def _rows(run: Run, profile: Profile, epoch: int) -> Iterator[dict[str, Any]]:
    """All rows of the corpus, in an order that depends on seed and epoch only."""
    shard = ray.train.get_dataset_shard("train")
    batches = shard.iter_batches(
        batch_size=64,
        batch_format="numpy",
        local_shuffle_buffer_size=SHUFFLED,
        local_shuffle_seed=profile.seed + epoch,
    )
    with read_whole(run.train_shards):
        for batch in batches:
            for index in range(len(batch["labels"])):
                yield {name: column[index] for name, column in batch.items()}
