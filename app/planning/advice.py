"""What a plan advises: what to change where something doesn't fit, the `--set` options of the fastest training that
does, and how much training the days hold."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.evaluation.suites.registry import NUM_PROBLEMS
from app.models.sizes import GIB
from app.planning.cards import find_card
from app.planning.evolution import evolve
from app.planning.inputs import (
    MAX_CORPUS_RAM_GIB,
    MAX_RAM_GIB,
    SFT_START_S,
    Inputs,
    Phase,
    training_speed,
)
from app.planning.plan import evaluate, sft_vram_gib, validate
from app.planning.reward import grm
from app.planning.training_choice import Choice, choices, set_options
from app.training.memory import CONTEXT_GIB
from app.training.schedule import rows_a_step

BARELY = 1.02
"""How much faster a plan has to be to be worth a word."""
SEQ_LENS = (4096, 2048, 1024, 512, 256, 128)
"""Shorter rows, tried where no micro-batch of the profile's fits."""


def total_days(phases: Sequence[Phase]) -> float:
    return sum(phase.hours for phase in phases) / 24


def too_much(inputs: Inputs, phases: Sequence[Phase]) -> list[str]:
    """One sentence for everything that passes a limit, with what to change; empty where all fits."""
    found = []
    for phase in phases:
        takes, ram = f"{phase.name} takes", MAX_CORPUS_RAM_GIB if phase.name == "corpus" else MAX_RAM_GIB
        if phase.problem:
            found.append(f"{phase.name}: {phase.problem}")
        elif phase.peak_vram_gib > inputs.limit_gib:
            what = f"{takes} {phase.peak_vram_gib:.2f} GiB of the card, more than {inputs.limit_gib:.3g}"
            found.append(f"{what}: {phase.less_vram}")
        if phase.peak_ram_gib > ram:
            what = f"{takes} {phase.peak_ram_gib:.1f} GiB of main memory, more than {ram:.1f}"
            found.append(f"{what}: {phase.less_ram}")
    if total_days(phases) > inputs.days:
        found.append(f"{total_days(phases):.1f} days, more than {inputs.days:g}: {_fewer_days(inputs, phases)}")
    return found


def advice(inputs: Inputs, phases: Sequence[Phase]) -> list[str]:
    """The advice, line by line: where the config comes from; what doesn't fit; what phases need beside; the fastest
    training; what the days hold; how sure all that is."""
    wrong = too_much(inputs, phases)
    found = [*([inputs.note] if inputs.note else []), *wrong]
    found += [f"{phase.name}: {note}" for phase in phases for note in phase.notes]
    if inputs.profile.sft.when == "auto":
        what = "sft and its validation are counted here, but the pipeline leaves them out for an instruct model"
        found.append(f"{what}, unless you --set sft.when=always")
    if inputs.profile.sft.use_gpu:
        found.append(_fastest(inputs))
    if not wrong:
        steps = _steps_in(inputs, inputs.days * 24 - sum(phase.hours for phase in phases if phase.name != "sft"))
        tokens = steps * rows_a_step(inputs.profile.sft) * inputs.profile.corpus.seq_len
        holds = f"{inputs.days:g} days hold a training of {tokens / 1e6:,.0f} M tokens at the speed as set"
        found.append(f"{holds}: of a larger corpus train a part by --set sft.max_steps={steps}")
    if not training_speed(inputs.choice, inputs)[1]:
        sure = f"a projection, not a measurement: nothing was run on {inputs.device}"
        if inputs.card and not find_card(inputs.device):
            sure += f", which is in no table here and planned as if it were {inputs.card.name}"
        found.append(f"{sure}; --calibrate there replaces it (docs/training.md says what it is made of)")
    return found


def best_choices(inputs: Inputs) -> list[Choice]:
    """The fastest training that fits with either base, the fastest first; of shorter rows where none of the profile's
    fits, and none where nothing does."""

    def speed(choice: Choice) -> float:
        return training_speed(choice, inputs)[0]

    profile, asked = inputs.profile, inputs.profile.corpus.seq_len
    for seq_len in (asked, *(shorter for shorter in SEQ_LENS if shorter < asked)):
        tried = choices(inputs.shape, inputs.config, profile, seq_len, sft_vram_gib(inputs))
        best = {choice.profile.model.quantization: choice for choice in sorted(tried, key=speed) if choice.fits}
        if best:
            return sorted(best.values(), key=speed, reverse=True)
    return []


def _fastest(inputs: Inputs) -> str:
    found = best_choices(inputs)
    learns, what = (grm, "self-reward") if inputs.profile.grm.when != "never" else (evolve, "evolution")
    with_it = [one for one in found if not learns(replace(inputs, profile=one.profile, choice=one)).problem]
    best = next(iter(with_it or found), None)
    if best is None:
        return "no micro-batch fits, of rows of any length: raise sft.vram_gib or take a smaller model"
    now, then = training_speed(inputs.choice, inputs)[0], training_speed(best, inputs)[0]
    fits = inputs.choice.fits and inputs.choice.memory.total / GIB + CONTEXT_GIB <= inputs.limit_gib
    if fits and then < BARELY * now:
        room = f" and leaves {what} room" if best != found[0] else ""
        return f"training as it is set is the fastest that fits{room}: {inputs.choice.words()}"
    return (
        f"fastest training that fits: {set_options(inputs.profile, best)} ({then:,.0f} tokens/s"
        f"{f' instead of {now:,.0f}' if fits else ''}; {best.words()}; {best.memory.total / GIB:.2f} GiB of "
        f"sft.vram_gib={best.profile.sft.vram_gib:g} and {CONTEXT_GIB} of context)"
    )


def _fewer_days(inputs: Inputs, phases: Sequence[Phase]) -> str:
    """Fewer steps, fewer problems or both: each may take what the other leaves of the days, and at least a half.
    Evolution gives way where nothing takes longer."""
    hours, most = {phase.name: phase.hours for phase in phases}, inputs.days * 24
    if hours["evolve"] == max(hours.values()) and sum(hours.values()) - _of_evolution(inputs, hours) <= most:
        shorter = "lower evolve.generations or evolve.generation_tokens"
        return f"{shorter}, or leave evolution out by --set evolve.when=never"
    left = most - sum(hours.values()) + hours["sft"] + hours["evaluate"]
    for_sft, for_problems = (max(left / 2, left - hours[other]) for other in ("evaluate", "sft"))

    def hours_of(num_problems: int) -> float:
        settings = inputs.profile.evaluation.model_copy(update={"num_problems": num_problems})
        return evaluate(replace(inputs, profile=inputs.profile.model_copy(update={"evaluation": settings}))).hours

    mends = {}
    if hours["sft"] > for_sft:
        mends["sft.max_steps"] = _steps_in(inputs, for_sft)
    if hours["evaluate"] > for_problems:
        sizes = range(1, max(NUM_PROBLEMS.values()) + 1)
        mends["evaluation.num_problems"] = bisect_right(sizes, for_problems, key=hours_of)
    if mends and all(mends.values()):
        return ", and ".join(f"--set {key}={value}" for key, value in mends.items())
    return "take a smaller model, or lower corpus.max_files"


def _of_evolution(inputs: Inputs, hours: Mapping[str, float]) -> float:
    """Hours that are saved where it is left out: there is one adapter less to measure, too."""
    left_out = inputs.profile.evolve.model_copy(update={"when": "never"})
    without = replace(inputs, profile=inputs.profile.model_copy(update={"evolve": left_out}))
    measuring = hours["validate"] + hours["evaluate"] - validate(without).hours - evaluate(without).hours
    return hours["evolve"] + measuring


def _steps_in(inputs: Inputs, hours: float) -> int:
    """Steps that the training as it is set makes in that time."""
    settings, seconds = inputs.profile.sft, max(0.0, hours * 3600 - SFT_START_S)
    tokens = seconds * training_speed(inputs.choice, inputs)[0] * settings.num_workers
    return int(tokens / rows_a_step(settings) / inputs.profile.corpus.seq_len)
