"""How a critic learns: from drafts with verdicts (CodeRanker, arXiv 2206.03865), as many right as wrong ones of each
problem, by the loop and the loss of fine-tuning on the one token of its answer (GenRM, arXiv 2408.15240).

Since every problem has as many right as wrong drafts, how hard a problem is tells the critic nothing. Problems are
either learnt from or held out, by hash.

    FOLDER/identity.json         what is learnt, and how
    FOLDER/checkpoints/00010/    a TrainState (`app.training.state`), until the adapter is there
    FOLDER/metrics.jsonl         a line a step (`app.training.loop.StepMetrics`)
    FOLDER/adapter/              the adapter, once all steps are taken
"""

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from app.corpus.draws import by_hash, uniform
from app.corpus.rows.packing import Sample
from app.errors import UserError
from app.files.json_files import append_json_line, read_json, read_json_lines, write_json
from app.models.base import ensure_model, load_tokenizer
from app.progress import progress
from app.records import IGNORE
from app.reward.by_reward.outlets import Files
from app.reward.by_reward.rows import epochs_of, steps_an_epoch
from app.reward.critic.questions import Claim, Questions, claim_of
from app.reward.records import JudgedDraft, TrainingProblem
from app.settings import SftSettings
from app.stage_settings.grm import CriticSettings
from app.training import loop, lora
from app.training.saved_activations import Keep
from app.training.state import ADAPTER

HOW_ONLY = {"train", "held_out", "best_of", "checkpoint_every", "batch_size", "num_cpus"}
"""Settings that decide nothing about an adapter that is learnt from given rulings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A claim and whether it is true. Made by `rulings_of`; read by `learn`."""

    problem_id: str
    claim: Claim
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What a critic's training came to. Made by `learn`; kept in grm/critic/metrics.json."""

    problems: int
    rulings: int
    steps: int
    tokens: int
    """That went through the model, padding included."""
    seconds: float
    """Of all steps, loading left out."""
    first_loss: float
    """Nats an answer; a critic that knows nothing but the two answers has 0.69."""
    last_loss: float


def is_held_out(problem_id: str, share: float, seed: int) -> bool:
    """Whether a problem is one of those that no critic learns from."""
    return uniform(f"critic {seed} {problem_id}") < share


def rulings_of(
    problems: Mapping[str, TrainingProblem], drafts: Iterable[JudgedDraft], settings: CriticSettings, seed: int
) -> list[Ruling]:
    """What is learnt: of each problem that is not held out as many right as wrong drafts, all of different shape, drawn
    by hash; problems whose drafts all pass or all fail are left out.

    problems: by their ids. Drafts of others, and those whose verdict gives no reward, are left out.
    """
    held: dict[str, dict[bool, dict[str, JudgedDraft]]] = defaultdict(lambda: {True: {}, False: {}})
    for one in drafts:
        name = one.draft.problem_id
        if name in problems and one.reward is not None and not is_held_out(name, settings.held_out, seed):
            held[name][one.reward == 1].setdefault(one.shape or one.program, one)
    rulings: list[Ruling] = []
    for name in sorted(held, key=lambda name: by_hash(f"{seed} {name}")):
        sides = held[name]
        room = min(settings.drafts_a_problem, settings.max_drafts - len(rulings)) // 2
        number = min(room, *(len(side) for side in sides.values()))
        for is_right, side in sides.items():
            chosen = sorted(side, key=lambda shape: by_hash(f"{seed} {name} {shape}"))[:number]
            rulings += [
                Ruling(problem_id=name, claim=claim_of(problems[name], side[shape]), is_right=is_right)
                for shape in chosen
            ]
    return rulings


def learn(folder: Path, rulings: Sequence[Ruling], settings: CriticSettings, seed: int) -> Learnt:
    """Train a critic's adapter in a folder of its own, on the CPU; goes on at the last checkpoint, and does nothing
    where the adapter is there. What a folder holds of other rulings or settings is removed.

    Raises UserError where there is nothing to learn.
    """
    if not rulings:
        raise UserError("no problem has both right and wrong drafts, so a critic has nothing to learn")
    identity = _identity(rulings, settings, seed)
    if not _is_of(folder, identity):
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "identity.json", identity)
    if not (folder / ADAPTER).exists():
        _train(folder, rulings, settings, seed)
    rows = read_json_lines(folder / "metrics.jsonl")
    return Learnt(
        problems=len({one.problem_id for one in rulings}),
        rulings=len(rulings),
        steps=len(rows),
        tokens=rows[-1]["tokens"],
        seconds=round(sum(row["seconds"] for row in rows), 1),
        first_loss=rows[0]["loss"],
        last_loss=rows[-1]["loss"],
    )


def _train(folder: Path, rulings: Sequence[Ruling], settings: CriticSettings, seed: int) -> None:
    base = ensure_model(settings.model)
    tokenizer = load_tokenizer(base)
    samples = samples_of(rulings, Questions(tokenizer, settings.seq_len))
    steps = settings.epochs * steps_an_epoch(len(samples), settings.batch)
    options = SftSettings(
        lora_r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        learning_rate=settings.learning_rate,
        warmup_fraction=0.1,
        checkpoint_every=settings.checkpoint_every,
    )
    model = lora.load_for_training(base, settings.model, options, seed, torch.device("cpu"))
    files, metrics = Files(folder, 1), folder / "metrics.jsonl"
    with progress("critic: learning", steps, "steps") as update:

        def on_step(taken: loop.StepMetrics) -> None:
            append_json_line(metrics, asdict(taken))
            update(taken.step, f"loss {taken.loss:.3f}")

        loop.train(
            model,
            epochs_of(
                samples,
                settings.epochs,
                settings.batch,
                seq_len=settings.seq_len,
                micro_batch=settings.micro_batch,
                pad_id=tokenizer.pad_token_id or 0,
                seed=seed,
            ),
            options,
            steps,
            device=torch.device("cpu"),
            on_step=on_step,
            on_checkpoint=files.on_checkpoint,
            resume_from=files.last(),
            keep=[Keep.ALL] * model.config.num_hidden_layers,
        )
    done = files.last()
    assert done is not None, "the last step is always a checkpoint"
    (done / ADAPTER).rename(folder / ADAPTER)
    shutil.rmtree(done.parent)


def samples_of(rulings: Sequence[Ruling], questions: Questions) -> list[Sample]:
    """Each ruling with one learnt token, its answer."""
    found = []
    for one in rulings:
        ids = questions.answered(one.claim, is_right=one.is_right)
        found.append(Sample(input_ids=ids, labels=[IGNORE] * (len(ids) - 1) + ids[-1:], is_whole=True))
    return found


def _identity(rulings: Sequence[Ruling], settings: CriticSettings, seed: int) -> dict[str, Any]:
    told = json.dumps([asdict(one) for one in rulings])
    digest = hashlib.sha256(told.encode()).hexdigest()
    return {"rulings_sha256": digest, "settings": settings.model_dump(mode="json", exclude=HOW_ONLY), "seed": seed}


def _is_of(folder: Path, identity: Mapping[str, Any]) -> bool:
    path = folder / "identity.json"
    return path.exists() and read_json(path) == identity
