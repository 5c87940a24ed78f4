"""Data dropout trains the examples it says, none of them twice, and says what that cost."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from app.errors import UserError
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import IGNORE
from app.settings import Profile
from app.training import lora
from app.training.experimental.data_dropout import (
    Difficulty,
    DocumentLosses,
    Row,
    Trained,
    chosen,
    documents,
    keys_of,
    repack,
)
from app.training.feed import micro_batches
from app.training.loop import StepMetrics, epochs, train
from app.training.loss import CausalLMLoss, FusedLoss
from app.training.schedule import epoch_steps, total_steps

CPU = torch.device("cpu")
SEQ_LEN = 48


def profile(*changes: str) -> Profile:
    base = ["sft.micro_batch=2", "sft.grad_accumulation=2", "sft.max_steps=null", f"corpus.seq_len={SEQ_LEN}"]
    return with_overrides(smoke(), [*base, "sft.epochs=4", *changes])


def rows(count: int = 40) -> list[Row]:
    """Rows of one to four documents each, no two alike, and padding; a prompt of two tokens has no labels."""
    draw = np.random.default_rng(0)
    made = []
    for _ in range(count):
        ids, labels, positions = (np.zeros(SEQ_LEN, np.int32) for _ in range(3))
        labels[:] = IGNORE
        start = 0
        while start < SEQ_LEN - 6:
            end = min(SEQ_LEN, start + int(draw.integers(6, 30)))
            ids[start:end] = draw.integers(10, 49_000, end - start)
            labels[start + 2 : end] = ids[start + 2 : end]
            positions[start:end] = np.arange(end - start)
            start = end
        positions[start:] = np.arange(SEQ_LEN - start)
        made.append({"input_ids": ids, "labels": labels, "position_ids": positions})
    return made


def texts(some: Iterator[Row] | list[Row]) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The rows' documents as they are trained: tokens and labels."""
    return Counter(
        (tuple(row["input_ids"][a:b].tolist()), tuple(row["labels"][a:b].tolist()))
        for row in some
        for a, b, _ in documents(row)
    )


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_share_an_epoch_without_losing_or_repeating_a_row(workers: int) -> None:
    settings, given = profile(f"sft.num_workers={workers}"), rows(50)
    parts = [list(micro_batches(given, settings, 0, len(given), worker)) for worker in range(workers)]
    assert {len(part) for part in parts} == {epoch_steps(50, settings.sft, 0) * 2}, "all of them as many"
    found = Counter(tuple(row.tolist()) for part in parts for batch in part for row in batch["input_ids"])
    trained = 50 // (4 * workers) * 4 * workers
    assert found == Counter(tuple(row["input_ids"].tolist()) for row in given[:trained])


def test_a_document_is_known_by_its_tokens_wherever_it_lies() -> None:
    given = rows(2)
    start, end, key = list(documents(given[0]))[-1]
    moved = {
        name: np.concatenate([column[start:end], column[: SEQ_LEN - end + start]]) for name, column in given[0].items()
    }
    assert next(documents(moved))[2] == key
    assert set(keys_of(given[0])[start:end]) == {key}
    assert len({key for row in given for _, _, key in documents(row)}) == sum(
        1 for row in given for _ in documents(row)
    )


@pytest.mark.parametrize("way", [CausalLMLoss, FusedLoss])
def test_the_loss_of_a_document_is_what_it_is_alone(smoke_model: Path, way: Any) -> None:
    settings = profile("sft.lora_dropout=0", "sft.lora_r=4").sft
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), settings, seed=0)
    batch = next(micro_batches(rows(), profile(), 0, 40, difficulty=Difficulty()))
    keys = batch.pop("documents")
    loss, losses = way(model, 16), DocumentLosses()
    total = loss(**batch)
    losses.add(keys, batch["labels"], loss.token_losses)
    found = losses.trained()
    assert total.item() == pytest.approx(loss.token_losses.sum().item(), rel=1e-5)
    for row in rows()[:2]:
        for start, end, key in documents(row):
            alone = {name: torch.from_numpy(column[None, start:end].astype(np.int64)) for name, column in row.items()}
            expected = CausalLMLoss(model, 1024)(**alone).item() / (end - start - 2)
            assert found[key].loss == pytest.approx(expected, rel=1e-4)
            assert found[key].num_tokens == end - start


KNOWN = {key: Trained(loss=key / 100, num_tokens=10) for key in range(100)}


def test_dbpd_keeps_the_hardest_but_for_what_is_taken_for_noise() -> None:
    settings = profile("sft.data_dropout=dbpd", "sft.data_dropout_noise=0.05").sft
    assert chosen(KNOWN, settings, 300, seed=1) == set(range(65, 95))
    assert chosen(KNOWN, settings, 980, seed=1) == set(range(98)), "noise where nothing else is left"


def test_smrd_keeps_as_much_at_random_and_other_examples_each_epoch() -> None:
    settings = profile("sft.data_dropout=smrd").sft
    first, second = (chosen(KNOWN, settings, 300, seed) for seed in (1, 2))
    assert len(first) == len(second) == 30 and first != second
    assert 30 < sum(first) / 30 < 70, "hard ones and easy ones"
    backwards = dict(reversed(KNOWN.items()))
    assert chosen(backwards, settings, 300, 1) == first, "whatever order the workers told of them in"


def test_epochs_take_the_steps_that_the_settings_say() -> None:
    def steps(*changes: str) -> list[int]:
        return [epoch_steps(400, profile(*changes).sft, epoch) for epoch in range(4)]

    assert steps() == [100, 100, 100, 100]
    assert steps("sft.data_dropout=dbpd") == steps("sft.data_dropout=smrd") == [100, 50, 50, 100]
    assert steps("sft.data_dropout=srd", "sft.data_dropout_keep=0.4") == [100, 40, 16, 100]
    assert total_steps(400, profile("sft.data_dropout=dbpd").sft) == 300


def test_workers_take_as_many_steps_where_less_is_kept_than_planned() -> None:
    """Rows that are half empty: packed anew they are fewer. Else one worker would wait for the others for ever."""
    settings = profile("sft.data_dropout=smrd", "sft.data_dropout_keep=0.9", "sft.num_workers=2")
    for seed in range(20):
        draw = np.random.default_rng(seed)
        given = [{name: column.copy() for name, column in row.items()} for row in rows(64)]
        for row in given:
            size = int(draw.integers(20, 45))
            row["input_ids"] = draw.integers(10, 49_000, SEQ_LEN).astype(np.int32)
            row["labels"] = np.where(np.arange(SEQ_LEN) < size, row["input_ids"], IGNORE).astype(np.int32)
            row["position_ids"] = (np.arange(SEQ_LEN) - size * (np.arange(SEQ_LEN) >= size)).astype(np.int32)
        difficulty = Difficulty()
        difficulty.known = {
            key: Trained(loss=1.0, num_tokens=end - start) for row in given for start, end, key in documents(row)
        }
        counts = [sum(1 for _ in micro_batches(given, settings, 1, 64, worker, difficulty)) for worker in (0, 1)]
        assert counts[0] == counts[1] and counts[0] % 2 == 0, "whole steps of two micro-batches"


def test_what_is_kept_is_packed_anew_whole_and_once() -> None:
    given = rows(200)
    kept = {key for row in given[::2] for _, _, key in documents(row)}
    packed = list(repack(given, kept, SEQ_LEN, seed=3))
    assert texts(packed) == texts(given[::2])
    assert len(packed) <= 102, "as full as the rows were"
    again = list(repack(given, kept, SEQ_LEN, seed=3))
    assert all((a["input_ids"] == b["input_ids"]).all() for a, b in zip(packed, again, strict=True))


def trained(
    smoke_model: Path, settings: Profile, folder: Path, resume_from: Path | None = None
) -> tuple[list[StepMetrics], Difficulty, dict[int, list[Row]]]:
    """Metrics, what is known at the end, and the rows of each epoch."""
    model = lora.attach(AutoModelForCausalLM.from_pretrained(smoke_model, dtype=torch.float32), settings.sft, seed=0)
    difficulty, metrics, seen = Difficulty(), [], {}
    given = rows()

    def batches(epoch: int) -> Iterator[Any]:
        order = np.random.default_rng(epoch).permutation(len(given))
        for batch in micro_batches([given[index] for index in order], settings, epoch, len(given), 0, difficulty):
            seen.setdefault(epoch, []).extend(
                {name: batch[name][index].numpy().astype(np.int32) for name in given[0]} for index in range(2)
            )
            yield batch

    steps = total_steps(len(given), settings.sft)
    train(
        model, epochs(batches, settings.sft, steps, difficulty), settings.sft, steps, device=CPU,
        on_step=metrics.append,
        on_checkpoint=lambda step, save: (folder / f"step-{step}").mkdir(parents=True) or save(folder / f"step-{step}"),
        resume_from=resume_from, corpus_rows=len(given), difficulty=difficulty,
    )  # fmt: skip
    return metrics, difficulty, seen


def test_a_training_leaves_out_easy_examples_and_says_what_it_cost(smoke_model: Path, tmp_path: Path) -> None:
    settings = profile(
        "sft.data_dropout=dbpd", "sft.data_dropout_noise=0", "sft.lora_dropout=0", "sft.checkpoint_every=10"
    )
    metrics, difficulty, seen = trained(smoke_model, settings, tmp_path)
    assert [row.step for row in metrics] == list(range(1, 31)), "10 + 5 + 5 + 10"
    every, first, second, last = texts(rows()), texts(seen[0]), texts(seen[1]), texts(seen[3])
    assert first == last == every
    assert max(second.values()) == 1 and 0.4 < len(second) / len(every) < 0.65
    assert metrics[-1].flop_epochs == pytest.approx(3.0)
    assert metrics[9].effective_epochs == pytest.approx(1.0)
    assert metrics[14].effective_epochs == pytest.approx(1 + len(second) / len(every))
    assert len(difficulty.fresh) == len(every)
    at_end_of_first = Difficulty()
    at_end_of_first.load(tmp_path / "step-10/documents.safetensors")
    hardest = chosen(at_end_of_first.fresh, settings.sft, 20 * SEQ_LEN, seed=1)
    keys = {key for row in seen[1] for _, _, key in documents(row)}
    assert keys <= hardest and len(hardest - keys) < 0.15 * len(hardest), "a few are in a row too many"


WITH_ALL_CHECKPOINTS = "sft.data_dropout=dbpd", "sft.lora_dropout=0", "sft.checkpoint_every=1"


@pytest.fixture(scope="module")
def whole(smoke_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[StepMetrics], Path]:
    """The steps of a training that nothing stopped, and the folder of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    return trained(smoke_model, profile(*WITH_ALL_CHECKPOINTS), folder)[0], folder


@pytest.mark.parametrize("stopped", [3, 10, 12, 20, 21])
def test_a_training_stopped_anywhere_goes_on_with_the_same_examples(
    smoke_model: Path, whole: tuple[list[StepMetrics], Path], tmp_path: Path, stopped: int
) -> None:
    """Inside a full epoch, at its end, inside a partial one, at the end of the last partial one, and after it."""
    steps, folder = whole
    rest, _, _ = trained(smoke_model, profile(*WITH_ALL_CHECKPOINTS), tmp_path, folder / f"step-{stopped}")
    for a, b in zip(steps[stopped:], rest, strict=True):
        assert (a.step, a.loss, a.grad_norm, a.effective_epochs) == (b.step, b.loss, b.grad_norm, b.effective_epochs)
    for name in ("adapter/adapter_model.safetensors", "optimiser.safetensors", "state.json", "documents.safetensors"):
        assert (folder / "step-30" / name).read_bytes() == (tmp_path / "step-30" / name).read_bytes()


def test_two_epochs_leave_nothing_to_drop_and_that_is_said() -> None:
    with pytest.raises(UserError, match="the first and the last are always full, so set epochs to 3 or more"):
        profile("sft.data_dropout=srd", "sft.epochs=2")
