"""Slots of a card, with numbers by hand: how many individuals train at once, what each may take, and what is left for
the engine."""

import gc
import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen3Config

from app.errors import UserError
from app.models.config import QWEN3_1_7B
from app.overrides import with_overrides
from app.profiles import laptop, rtx3070, workstation
from app.reward.turns import trainer_gib
from app.settings import Profile
from app.training.memory import CONTEXT_GIB, GIB, choose_keep, shape_of, step_memory
from tune_spaces.gpu_slots import Slots, enforce, profile_in, slots_for

NUMBERS = range(1, 65)
"""Of slots that can be declared."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of Qwen3-1.7B without its weights, so that nobody asks the Hub."""
    folder = tmp_path_factory.mktemp("qwen3-1.7b")
    Qwen3Config(**QWEN3_1_7B).save_pretrained(folder)
    return folder


@pytest.fixture
def card_8(config: Path) -> Profile:
    return with_overrides(rtx3070(), ["model.source=path", f"model.name={config}"])


@pytest.fixture
def card_24(config: Path) -> Profile:
    return with_overrides(workstation(), ["model.source=path", f"model.name={config}"])


def shown(slots: Slots) -> tuple[int, float, float, dict[str, float]]:
    return slots.number, round(slots.gib, 3), round(slots.engine_gib, 3), slots.resources


@pytest.mark.parametrize("peak", [None, 0.4, 3.0, 5.0])
def test_on_8_gb_one_trains_at_a_time_in_turns_with_the_engine(card_8: Profile, peak: float | None) -> None:
    """7.0 for tensors - 2.0 asleep + 0.4 of context; 8.0 - 0.4 - 38,912 x 28 x 32 numbers of 14 bytes x 1.04."""
    slots = slots_for(card_8, peak_gib=peak, declared=None, cards=1)
    assert shown(slots) == (1, 5.4, 7.127, {"CPU": 1.0, "GPU": 0.5})
    assert slots.takes_turns and slots.beside_trainer
    assert slots.reason.startswith("one slot of 5.40 GiB in turns with the engine, which awake leaves 0.85 of 8.00: ")


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (7.6, (1, 20.4, 21.127, {"CPU": 1.0, "GPU": 0.5})),
        (7.0, (2, 7.4, 7.6, {"CPU": 0.5, "GPU": 0.25})),
        (3.6, (3, 4.0, 10.4, {"CPU": 0.3333, "GPU": 0.1666})),
        (2.6, (4, 3.0, 10.4, {"CPU": 0.25, "GPU": 0.125})),
        (0.6, (4, 1.0, 18.4, {"CPU": 0.25, "GPU": 0.125})),
    ],
)
def test_on_24_gb_as_many_train_as_measured_peaks_fit_beside_an_awake_engine(
    card_24: Profile, tensors: float, expected: tuple[int, float, float, dict[str, float]]
) -> None:
    """22.4 - 3.205 of weights - 2.2 - 1.75 of cache leave 15.245 for peaks of tensors + 0.4; the population is four."""
    slots = slots_for(card_24, peak_gib=tensors, declared=None, cards=1)
    assert shown(slots) == expected
    assert slots.takes_turns == (expected[0] == 1) and slots.beside_trainer
    assert f"a training takes {tensors + 0.4:.2f}, measured" in slots.reason


def test_what_was_not_measured_is_planned(card_24: Profile) -> None:
    grm, shape = card_24.grm, shape_of(Qwen3Config(**QWEN3_1_7B))
    sft = card_24.sft.model_copy(update={"micro_batch": grm.micro_batch, "lora_r": grm.lora_r})
    keep = choose_keep(shape, card_24.model, sft, grm.seq_len, trainer_gib(card_24) * GIB)
    assert keep is not None
    peak = step_memory(shape, card_24.model, sft, grm.seq_len, keep).total / GIB
    measured = slots_for(card_24, peak_gib=peak, declared=None, cards=1)
    for unknown in (None, 0.0):
        planned = slots_for(card_24, peak_gib=unknown, declared=None, cards=1)
        assert shown(planned) == shown(measured) and "planned" in planned.reason


def test_declared_slots_may_be_narrower_than_a_peak_but_not_than_what_a_training_can_do_with(card_24: Profile) -> None:
    slots = slots_for(card_24, peak_gib=9.6, declared=2, cards=1)
    assert shown(slots) == (2, 7.623, 7.155, {"CPU": 0.5, "GPU": 0.25})
    assert slots.reason.endswith("and evolve.slots says so") and not slots.takes_turns
    assert slots_for(card_24, peak_gib=2.6, declared=1, cards=1).takes_turns
    with pytest.raises(UserError, match=r"evolve.slots=12 trainings .* 15.25 for them beside .* set evolve.slots=2,"):
        slots_for(card_24, peak_gib=9.6, declared=12, cards=1)


def test_two_declared_ones_on_8_gb_are_refused(card_8: Profile) -> None:
    with pytest.raises(UserError, match="evolve.slots=2 .* 0.85 for them beside an awake engine: set evolve.slots=1"):
        slots_for(card_8, peak_gib=None, declared=2, cards=1)


def test_a_training_that_fits_nowhere_is_refused(card_8: Profile) -> None:
    tight = with_overrides(card_8, ["sft.vram_gib=4"])
    sentence = "more than the 2.40 that sft.vram_gib leaves beside a sleeping engine: lower grm.micro_batch"
    with pytest.raises(UserError, match=sentence):
        slots_for(tight, peak_gib=None, declared=None, cards=1)
    assert slots_for(tight, peak_gib=1.9, declared=None, cards=1).gib == pytest.approx(2.4), "it was measured to fit"
    with pytest.raises(UserError, match="has no card: add a node with one"):
        slots_for(card_8, peak_gib=None, declared=None, cards=0)


@pytest.mark.parametrize(
    ("cards", "declared", "expected"),
    [
        (2, None, (2, 11.2, 22.0, {"CPU": 0.5, "GPU": 0.5})),
        (3, None, (4, 11.2, 22.0, {"CPU": 0.5, "GPU": 0.5})),
        (5, None, (4, 22.4, 22.0, {"CPU": 1.0, "GPU": 1.0})),
        (3, 1, (2, 22.4, 22.0, {"CPU": 1.0, "GPU": 1.0})),
    ],
)
def test_of_several_cards_the_engine_has_one_for_itself(
    card_24: Profile, cards: int, declared: int | None, expected: tuple[int, float, float, dict[str, float]]
) -> None:
    """22.4 / 8.0 are 2 on each of the others, unless the population of four is fewer."""
    slots = slots_for(card_24, peak_gib=7.6, declared=declared, cards=cards)
    assert shown(slots) == expected
    assert not slots.takes_turns and not slots.beside_trainer and "the engine has another one" in slots.reason
    assert slots.engines == 1


@pytest.mark.parametrize(("wanted", "engines", "trained_on"), [(1, 1, 3), (2, 2, 2), (3, 3, 1), (9, 3, 1)])
def test_of_several_cards_engines_have_as_many_as_are_asked_for_and_trainings_at_least_one(
    card_24: Profile, wanted: int, engines: int, trained_on: int
) -> None:
    profile = with_overrides(card_24, [f"generation.num_workers={wanted}"])
    slots = slots_for(profile, peak_gib=12.0, declared=None, cards=4)
    assert (slots.engines, slots.number) == (engines, trained_on)
    assert f"on {trained_on} card(s), and " in slots.reason and (f"{engines} others" in slots.reason) == (engines > 1)


def test_an_engine_without_a_card_leaves_all_of_it_and_a_core(card_24: Profile) -> None:
    profile = with_overrides(card_24, ["generation.use_gpu=false"])
    slots = slots_for(profile, peak_gib=7.6, declared=None, cards=2)
    assert shown(slots) == (4, 11.2, 0.0, {"CPU": 0.25, "GPU": 0.5})
    assert slots.beside_trainer and not slots.takes_turns
    assert trainer_gib(profile_in(slots, profile)) == pytest.approx(10.8)


def test_an_engine_that_runs_keeps_what_it_has(card_24: Profile) -> None:
    awake = slots_for(card_24, peak_gib=3.6, declared=None, cards=1)
    for tensors, number, gib in ((1.6, 4, 2.0), (4.6, 2, 5.0), (9.0, 1, 12.0)):
        slots = slots_for(card_24, peak_gib=tensors, declared=None, cards=1, started=awake)
        assert shown(slots)[:3] == (number, gib, 10.4) and not slots.takes_turns
    in_turns = slots_for(card_24, peak_gib=7.6, declared=None, cards=1)
    again = slots_for(card_24, peak_gib=3.6, declared=None, cards=1, started=in_turns)
    assert shown(again) == shown(in_turns) and again.takes_turns


def test_without_a_card_slots_are_shares_of_a_core_as_declared() -> None:
    one, four = (slots_for(laptop(), peak_gib=None, declared=declared, cards=0) for declared in (None, 4))
    assert shown(one) == (1, 0.0, 0.0, {"CPU": 1.0}) and shown(four) == (4, 0.0, 0.0, {"CPU": 0.25})
    assert one.beside_trainer and not one.takes_turns and profile_in(four, laptop()) == laptop()
    assert four.reason == "4 slots on one core that drafting leaves, without a card: evolve.slots says so"


@pytest.mark.parametrize(("cores", "share"), [(2, 0.5), (4, 1.0), (9, 1.0)])
def test_without_a_card_slots_have_a_core_each_where_other_machines_have_them(cores: int, share: float) -> None:
    slots = slots_for(laptop(), peak_gib=None, declared=4, cards=0, cores=cores)
    assert slots.resources == {"CPU": share}
    assert slots_for(laptop(), peak_gib=None, declared=4, cards=0, started=slots) == slots


def test_a_share_is_granted_as_often_as_there_are_slots_and_not_once_more() -> None:
    """Ray rounds what is asked to 1/10,000: six times 1/6 would be more than there is."""
    for number in NUMBERS:
        share = slots_for(laptop(), peak_gib=None, declared=number, cards=0).resources["CPU"]
        assert round(share * 10_000) * number <= 10_000 < round(share * 10_000) * (number + 1), number


def test_a_trainer_keeps_what_fits_into_its_slot(card_8: Profile, card_24: Profile) -> None:
    for profile, tensors in ((card_8, None), (card_24, 3.6), (card_24, 7.6)):
        slots = slots_for(profile, peak_gib=tensors, declared=None, cards=1)
        assert trainer_gib(profile_in(slots, profile)) == pytest.approx(slots.gib - CONTEXT_GIB)


def test_a_process_is_held_to_its_slot(card_24: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be set on a card; tests/gpu/test_slots_card.py sees it held."""
    held: list[tuple[float, torch.device]] = []
    measured_from: list[torch.device] = []
    card = SimpleNamespace(total_memory=24 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: held.append(given))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", measured_from.append)
    slots = slots_for(card_24, peak_gib=3.6, declared=None, cards=1)
    assert [enforce(slots)] == measured_from == [torch.device("cuda", 0)]
    assert held == [(pytest.approx(3.6 / 24), torch.device("cuda", 0))]


def test_a_process_keeps_nothing_of_a_trial_that_it_served_before() -> None:
    class Model:
        def __init__(self) -> None:
            self.parent = self

    slots = slots_for(laptop(), peak_gib=None, declared=None, cards=0)
    enforce(slots)  # what it imports is not to be what frees the model
    gc.disable()
    try:
        model = weakref.ref(Model())
        enforce(slots)
        assert not model()
    finally:
        gc.enable()


def test_without_a_card_processes_share_the_cores() -> None:
    before = torch.get_num_threads()
    try:
        for number in (1, 2):
            slots = slots_for(laptop(), peak_gib=None, declared=number, cards=0)
            assert enforce(slots) == torch.device("cpu")
            assert torch.get_num_threads() == max(1, len(os.sched_getaffinity(0)) // number)
    finally:
        torch.set_num_threads(before)
