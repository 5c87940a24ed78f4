"""How many individuals of evolution train at once, and what each may take of its card.

A slot is the right to train on a card: an individual's trial holds one for a generation, and waits for none while it
holds one. Slots are shares of what every cluster has of its own, so nothing has to be declared where one is joined.

    slots = slots_for(profile, peak_gib=None, declared=profile.evolve.slots, cards=1)
    GeneratorClient(profile.model, engine, beside_trainer=slots.beside_trainer)  # engine.vram_gib: slots.engine_gib
    tune.Tuner(tune.with_resources(train, slots.resources), ...)
    device = enforce(slots)                          # in the trial, which learns by profile_in(slots, profile)

    one card, one slot         GPU: 0.5 engine, 0.5 trial            in turns, one sleeps while the other one works
    one card, four slots       GPU: 0.5 engine, 4 x 0.125 trial      the engine stays awake
    three cards, two a card    GPU: 1 engine, 2 x (2 x 0.5 trial)    the engine has a card of its own
    generation.num_workers=2   GPU: 2 x 1 engine, 2 x 0.5 trial      or more cards, if one is left to train on
    no card                    CPU: 1 trial or shares of it, and all others of a machine the engine
    no card, three machines    CPU: 2 engine, 3 x 1 trial            of 2 cores each, evolve.slots=3

The trials of a card share a core as well, as Ray counts: one beside the engine's is enough for them to start.

Turns need a single card: an individual on a second one would wake the engines while they have to sleep, since all draw
for everybody. So they get cards for themselves as soon as there are two: one, unless generation.num_workers says more.

Shares are Ray's bookkeeping. `enforce` holds a process to its GiB, into which its training fits what layers keep
(`app.training.memory.choose_keep`): a child with longer rows computes more again, and takes no more.

Limits: the engine's share is anybody's while its actor is not there, so it has to start before the trials. A cluster
without cards has other cores than the one that drafting leaves, and trials take those as well. All cards are taken for
equal, and the population's genomes for alike: peak and plan are those of profile.grm.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import UserError
from app.models.config import config_of
from app.models.sizes import GIB
from app.planning.reward import trainer_choice
from app.planning.speed import PROMPT, cache_per_token, drafting_memory
from app.reward.turns import CARD_OF_TRAINER, asleep_gib, engine_settings, take_turns, trainer_gib
from app.settings import Profile
from app.training.memory import CONTEXT_GIB, Shape, give_back, shape_of

if TYPE_CHECKING:
    import torch

LEAST_DRAFTS = 16
"""That have room in the cache of an engine which stays awake beside trainings. Assumed: with fewer, engine and trainer
had better take turns."""
FRACTIONS = 10_000
"""Of one card or core; Ray rounds to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Who may train at once. Made by `slots_for`; read by whoever starts an experiment, and by its trials.

    Example: Slots(number=1, gib=5.4, takes_turns=True, resources={"CPU": 1.0, "GPU": 0.5}, beside_trainer=True,
                   engines=1, engine_gib=6.9, reason="one slot of 5.40 GiB in turns with the engine, ...")
    """

    number: int
    """In the whole cluster."""
    gib: float
    """What a trial may take of its card, the CUDA context included; 0 without a card."""
    takes_turns: bool
    """Whether the engine sleeps while the trial trains, and the trial's frozen weights are away while it draws: the
    `engine_sleeps` of `app.reward.by_reward.learning.learn`."""
    resources: dict[str, float]
    """Of one trial, for `tune.with_resources`."""
    beside_trainer: bool
    """Whether the engine leaves trials a share of its card or a core, for `actors.generator.GeneratorClient`. False: it
    has a card of its own."""
    engines: int | None
    """How many draw, each on a card of its own or beside the trials; None: as many as generation.num_workers says."""
    engine_gib: float
    """What an engine may take of its card; 0 without one."""
    reason: str
    """What was decided, in a sentence for a person."""


def slots_for(
    profile: Profile,
    *,
    peak_gib: float | None,
    declared: int | None,
    cards: int,
    cores: int = 1,
    started: Slots | None = None,
) -> Slots:
    """The slots of an experiment. Without a card as many as are declared, else one; with one see `_on_cards`.

    peak_gib: what torch reserved at most for a training by profile.grm (`app.training.memory.peak_bytes`); None, or 0
    where nothing was trained: what is planned for it. declared: `evolve.slots`. cards: of the cluster. cores: those
    that drafting leaves. started: the slots by which the engine was started that runs already; it keeps what it has.
    Raises UserError where not one training fits, or not as many as are declared.
    """
    if profile.sft.use_gpu:
        if cards < 1:
            raise UserError("sft.use_gpu=true, and the cluster has no card: add a node with one, or set it to false")
        card = _Card(profile, take_turns(profile) and cards == 1, started)
        return _on_cards(card, peak_gib + CONTEXT_GIB if peak_gib else None, declared, cards)
    if started:
        return started
    number = declared or 1
    how = "evolve.slots says so" if declared else "nothing else is declared by evolve.slots"
    return Slots(
        number=number,
        gib=0.0,
        takes_turns=False,
        resources={"CPU": _share(min(cores, number), number)},
        beside_trainer=True,
        engines=None,
        engine_gib=profile.generation.vram_gib if profile.generation.use_gpu else 0.0,
        reason=f"{_told(number)} on {_told(cores, 'core')} that drafting leaves, without a card: {how}",
    )


def enforce(slots: Slots) -> "torch.device":
    """Hold this process, a trial's, to its slot, before it learns; returns what it trains on, of the cards the one that
    Ray shows it. Without a card, trials share the cores, since drafting waits while they train.

    A process serves other trials before (Tune's reuse_actors): what is left of them is given back, since models hold
    themselves in circles, and the peak of their memory is forgotten."""
    import torch

    from app.training.ray_train import set_up_device

    device = torch.device("cuda", 0) if slots.gib else torch.device("cpu")
    set_up_device(device, slots.gib - CONTEXT_GIB, sharers=slots.number)
    give_back()
    if slots.gib:
        torch.cuda.reset_peak_memory_stats(device)
    return device


def profile_in(slots: Slots, profile: Profile) -> Profile:
    """The profile that a trial trains by: `app.reward.turns.trainer_gib`, by which layers choose what to keep, is what
    its slot leaves beside the context."""
    if not slots.gib:
        return profile
    tensors = slots.gib - CONTEXT_GIB + (asleep_gib(profile) if take_turns(profile) else 0.0)
    return profile.model_copy(update={"sft": profile.sft.model_copy(update={"vram_gib": tensors})})


def least_engine_gib(profile: Profile, shape: Shape) -> float:
    """What an awake engine takes of a card: weights, what it works with, and a cache for LEAST_DRAFTS drafts, or with
    transformers the one that is set."""
    grm, engine = profile.grm, profile.generation
    parts = drafting_memory(shape, profile.model, engine, grm.max_new_tokens)
    if engine.engine == "vllm":
        draft = (PROMPT + grm.max_new_tokens) * cache_per_token(shape, profile.model)
        parts["cache"] = LEAST_DRAFTS * draft / GIB
    return sum(parts.values())


class _Card:
    """GiB of a card on which individuals train; `_on_cards` says what each is."""

    def __init__(self, profile: Profile, is_shared: bool, started: Slots | None) -> None:
        self.profile, self.is_shared, self._started = profile, is_shared, started
        self.can_turn = is_shared and (started is None or started.takes_turns)
        self._config, _ = config_of(profile.model)
        self._shape = shape_of(self._config)
        self.cap = self.room = self.alone = profile.sft.vram_gib + CONTEXT_GIB
        if is_shared:
            self.cap = max(self.cap, profile.generation.vram_gib)
            self.room = self.cap - (started.engine_gib if started else least_engine_gib(profile, self._shape))
            self.alone = trainer_gib(profile) + CONTEXT_GIB if self.can_turn else self.room

    def training(self, gib: float) -> float:
        """What a training is planned to take where it may take gib; more than that where it can't do with it."""
        limit = max(0.01, gib - CONTEXT_GIB)
        memory = trainer_choice(self._shape, self._config, self.profile, limit).memory
        return memory.total / GIB + CONTEXT_GIB

    def engine_gib(self, each: int, gib: float) -> float:
        """What the engine has beside `each` trainings of gib."""
        if self._started:
            return self._started.engine_gib
        if self.is_shared and each == 1:
            return engine_settings(self.profile, self._config).vram_gib
        generation = self.profile.generation
        return self.cap - each * gib if self.is_shared else generation.vram_gib * generation.use_gpu


def _on_cards(card: _Card, peak_gib: float | None, declared: int | None, cards: int) -> Slots:
    """Everything in GiB of one card:

    cap      all of it: sft.vram_gib and a context or, where it is more and the engine is there, generation.vram_gib
    room     what trainings have beside an awake engine: cap - `least_engine_gib`, or less what the one that runs has;
             cap where the engine is elsewhere
    alone    what a training has beside a sleeping one: `trainer_gib` and a context; room where none sleeps
    peak     what a training takes that may take `alone`: measured, or planned
    least    what a training can do with, its layers keeping nothing but their inputs, or less if less was measured

    A card has room / peak slots, rounded down, at least one, and no more than the population fills; room / least may be
    declared. One slot beside the engine has `alone` of the card, in turns with it. Several have their peaks (declared
    ones at most room / slots), and the engine has the rest; where it is elsewhere they have room / slots.

    By hand, Qwen3-1.7B in bf16 on 24 GB, 22.0 for tensors and for the engine: cap 22.40; the engine needs 3.20 of
    weights, 2.20 beside them and 1.75 for 16 x 1,024 tokens of cache, which leaves a room of 15.25. A peak of 4.0 makes
    3 slots, with 10.40 for the engine; one of 8.0 makes one slot, in turns. Under NF4 on 8 GB (7.0 and 8.0), room is
    0.85: one slot, always.
    """
    profile, is_shared = card.profile, card.is_shared
    peak = card.training(card.alone) if peak_gib is None else peak_gib
    least = min(peak, card.training(0.0))
    if least > card.alone:
        where = "sft.vram_gib leaves beside a sleeping engine" if card.can_turn else "there are for it"
        raise UserError(
            f"an individual's training takes {least:.2f} GiB of a card, more than the {card.alone:.2f} that {where}: "
            "lower grm.micro_batch or grm.seq_len, take a smaller model, or raise sft.vram_gib"
        )
    most = max(1, _times(card.room, least))
    if declared and declared > most:
        where = "beside an awake engine" if is_shared else "of a card"
        raise UserError(
            f"evolve.slots={declared} trainings have no room: each takes {least:.2f} GiB or more, and there are "
            f"{max(0.0, card.room):.2f} for them {where}: set evolve.slots={most}, or null to have it decided"
        )
    uses_engine = profile.generation.use_gpu
    engines = 1 if is_shared else min(profile.generation.num_workers or 1, cards - 1)
    trained_on = cards - engines if uses_engine and not is_shared else cards
    each = declared or max(1, min(_times(card.room, peak), math.ceil(profile.evolve.population / trained_on)))
    gib = card.alone if each == 1 else min(card.room / each, peak if is_shared else math.inf)
    takes_turns = card.can_turn and each == 1
    engine_gib = card.engine_gib(each, gib)
    if takes_turns:
        where = f"in turns with the engine, which awake leaves {max(0.0, card.room):.2f} of {card.cap:.2f}"
    elif is_shared:
        where = f"beside an engine that stays awake in {engine_gib:.2f} of {card.cap:.2f}"
    else:
        several = f"engines have {engines} others" if engines > 1 else "the engine has another one"
        where = f"on {trained_on} card(s), and {several if uses_engine else 'the engine uses none'}"
    how = f"a training takes {peak:.2f}, {'planned' if peak_gib is None else 'measured'}"
    number = each * trained_on
    return Slots(
        number=number,
        gib=gib,
        takes_turns=takes_turns,
        resources={
            "CPU": _share(1.0, each if uses_engine else number),
            "GPU": _share(CARD_OF_TRAINER if is_shared else 1.0, each),
        },
        beside_trainer=is_shared or not uses_engine,
        engines=engines if uses_engine else None,
        engine_gib=engine_gib,
        reason=f"{_told(each)} of {gib:.2f} GiB {where}: {how}{', and evolve.slots says so' if declared else ''}",
    )


def _times(room: float, one: float) -> int:
    """How often it fits."""
    return max(0, math.floor(room / one + 1e-9))


def _share(whole: float, number: int) -> float:
    """A part that Ray grants `number` times out of the whole, and not once more: it would round 1/6 up."""
    return math.floor(whole * FRACTIONS / number) / FRACTIONS


def _told(number: int, what: str = "slot") -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"
