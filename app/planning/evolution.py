"""What evolution takes: drafts and training by the tokens that each individual may spend, drafts to select by, the
imitations of the pool, verdicts, and the starts of processes.

All is counted as if individuals trained one after the other, selection drew all that it may, and the pool held right
drafts of every problem that was drawn. Limits: several `evolve.slots` are faster than that; genes that mutate are taken
for what `grm` says; what the run's corpus mines to measure by is taken to be enough.
"""

import re
from dataclasses import dataclass, replace

from app.evaluation.suites.splits import half_of
from app.evolution.selection_drafts import selection_budget
from app.hardware import num_cores
from app.models.sizes import GIB
from app.planning.inputs import EVALUATE_START_S, RAY_GIB, TORCH_GIB, Inputs, Phase, drafting_of, training_speed
from app.planning.reward import (
    HARDEN_S,
    QUESTION,
    SELECTED,
    TRAINED,
    VARIED,
    VERDICTS,
    Turns,
    draft_tokens,
    num_problems,
)
from app.planning.reward_models import LOADED_GIB_S, scoring_speed
from app.problem_sets import own
from app.problem_sets.problem_files import yaml_files
from app.reward.drafts.audit import MOST as MOST_AUDITED
from app.reward.problems.find import is_of_user, num_untested
from app.settings import Profile
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings
from app.training.memory import MOMENTS

PROCESS_S, LOAD_S = 8.0, 2.0
"""Seconds of a process until it can load a model, and of a load beside the reading of its weights: SmolLM2-135M took
7.7 and 2.2 on two cores that others used too."""
TO_MEASURE_BY = {"mbpp": 20, "leetcode": 183}
"""Problems of a source's other half than the one that self-reward validates by (`app.evaluation.suites.splits`), that
were left by the guard."""
A_PROBLEM = re.compile(r"^\s*- id: ", re.M)
"""With what a problem of ours begins, in its file."""
NO_TESTS = "none of its problems has tests: add some to grm.problems, or leave it out by evolve.when=never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the stage is to do. Made by `work_of`."""

    tokens: int
    """Of a draft."""
    rated: int
    """Drafts by the untouched model, for the solve rates that no self-reward has drawn."""
    drafts: int
    """Drawn to learn from, by all individuals."""
    trained: int
    """Tokens of these that go through the trainer, those of the questions included."""
    problems: int
    """That individuals are measured by."""
    measured: int
    """Drafts that measure: the untouched model, individuals, close ones again, and the final choice."""
    replayed: int
    """Answers that the imitations learn beside right drafts."""
    imitated: int
    """Tokens that go through the trainer in all imitations."""
    hardened: int
    """Problems that get further tests here, those of the audit included."""
    lives: int
    """Times that somebody is trained."""
    processes: int
    """In which that is done."""


def work_of(profile: Profile) -> Work:
    """Raises UserError for a source of problems that can't be read."""
    grm, settings = profile.grm, profile.evolve
    taught, held_out = num_problems(grm.problems) - num_untested(grm.problems), num_to_measure_by(settings, grm)
    tokens, spent = draft_tokens(grm), _Spent.of(profile)
    candidates = settings.population + settings.imitation
    problems = _num_affordable(settings, tokens, held_out)
    selected = min(selection_budget(settings) // tokens, candidates * settings.most_drafts * problems)
    untouched = min(held_out, settings.validation_problems) * settings.drafts
    others = spent.lives_before * settings.drafts * problems + 2 * settings.most_drafts * problems
    lessons = sum(_num_lessons(grm, taught, spent.drafts_until(one)) for one in range(1, settings.generations + 1))
    without_reward = grm.when == "never"
    imitations = settings.generations * settings.imitation
    return Work(
        tokens=tokens,
        rated=taught * grm.rate_drafts if without_reward or grm.arm == "distill" else 0,
        drafts=int(spent.drafts_until(settings.generations)),
        trained=int(spent.drafts_until(settings.generations) * spent.learnt * (tokens + QUESTION)),
        problems=problems,
        measured=settings.generations * selected + untouched + others,
        replayed=taught if settings.imitation and grm.imitate.replay_share else 0,
        imitated=int(settings.imitation * lessons * grm.imitate.epochs * (tokens + QUESTION)),
        hardened=held_out + taught * without_reward + min(MOST_AUDITED, taught),
        lives=spent.lives_before + settings.population * settings.generations + imitations,
        processes=spent.lives_before + 1 + imitations,  # trials take the process of the one before
    )


def begins_with_trunk(profile: Profile) -> bool:
    """Whether one individual learns before the population; self-reward's adapter has the rank that is asked for."""
    settings = profile.evolve
    return settings.trunk_tokens > 0 and (settings.start == "base" or profile.grm.when == "never")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spent:
    """What individuals spend of their tokens, all together."""

    lives_before: int
    """Of the rung and the trunk."""
    drafts_before: float
    drafts: float
    """In a generation."""
    learnt: float
    """How often a draft is learnt from."""

    @classmethod
    def of(cls, profile: Profile) -> "_Spent":
        """A life takes one step at the least."""
        grm, settings = profile.grm, profile.evolve
        learnt = VARIED * grm.updates_per_step
        a_draft = draft_tokens(grm) * (1 + learnt)  # drawn and learnt
        step = (settings.prompts_per_step or grm.prompts_per_step) * (1 + grm.refill * (1 - VARIED)) * grm.num_drafts
        rates = len(settings.rates) if len(settings.rates) > 1 else 0
        drafts_before = rates * max(step, settings.rung_tokens / a_draft) + max(step, settings.trunk_tokens / a_draft)
        has_trunk = begins_with_trunk(profile)
        return cls(
            lives_before=has_trunk * (rates + 1),
            drafts_before=has_trunk * drafts_before,
            drafts=settings.population * max(step, settings.generation_tokens / a_draft),
            learnt=learnt,
        )

    def drafts_until(self, generation: int) -> float:
        return self.drafts_before + generation * self.drafts


def num_to_measure_by(settings: EvolveSettings, grm: GrmSettings) -> int:
    """How many problems there are to measure by, about (`app.reward.problems.held_out.to_measure_by`). Raises UserError
    for a source that can't be read."""
    total = 0
    for source in settings.validation or [one for one in grm.problems if not is_of_user(one)]:
        name, _, path = source.partition("=")
        if name == "ours":
            files = yaml_files(own.place_of(path), "datasets/problems")
            total += sum(_is_to_measure_by(text) for file in files for text in A_PROBLEM.split(file.read_text())[1:])
        elif is_of_user(source):
            total += num_problems([source]) - num_untested([source])
        else:
            total += TO_MEASURE_BY.get(name, settings.validation_problems)
    return total


def _is_to_measure_by(text: str) -> bool:
    """text: a problem of ours, from its id on."""
    return not TRAINED.search(text) and half_of(text.split(maxsplit=1)[0]) == "validation"


def _a_problem(settings: EvolveSettings, tokens: int) -> int:
    """Tokens of all candidates' first drafts of one problem."""
    return (settings.population + settings.imitation) * settings.drafts * tokens


def _num_affordable(settings: EvolveSettings, tokens: int, held_out: int) -> int:
    """Problems whose first drafts selection can pay for (`app.evolution.selection_drafts.first_draws`)."""
    return min(held_out, settings.validation_problems, selection_budget(settings) // _a_problem(settings, tokens))


def _num_lessons(grm: GrmSettings, problems: int, drafts: float) -> float:
    """That an imitation learns once these drafts are in the pool."""
    return min(problems, drafts / grm.num_drafts) * SELECTED / (1 - grm.imitate.replay_share)


def evolve(inputs: Inputs) -> Phase:
    """The whole stage, as it is set; nothing where it is left out."""
    settings, grm = inputs.profile.evolve, inputs.profile.grm
    if settings.when == "never":
        return Phase(name="evolve", peak_ram_gib=0.0, how="left out by evolve.when=never")
    by_reward = inputs.profile.model_copy(update={"grm": grm.model_copy(update={"arm": "grpo"})})
    turns, work = Turns(replace(inputs, profile=by_reward), "evolve"), work_of(inputs.profile)
    engine = turns.engine
    drawing, drawn_per_s = drafting_of(inputs, engine, work.tokens)
    trained_per_s, is_measured = training_speed(turns.choice, inputs)
    seconds = _seconds(inputs, work, drawn_per_s, trained_per_s)
    said = ", ".join(f"{name} {time / 3600:.2f} h" for name, time in seconds.items())
    use_gpu = inputs.profile.sft.use_gpu
    ram = RAY_GIB + TORCH_GIB[engine.use_gpu] + inputs.weights_gib
    ram += (settings.slots or 1) * (TORCH_GIB[use_gpu] + inputs.weights_gib + 1.0)
    ram += 0.0 if engine.use_gpu else engine.kv_cache_bytes / GIB
    drafts = work.rated + work.drafts + work.measured + work.replayed
    return Phase(
        name="evolve",
        peak_ram_gib=ram,
        disk_gib=_states_gib(inputs) + drafts * (work.tokens * 8 + 4e3) / GIB,
        hours=sum(seconds.values()) / 3600,
        detail=turns.fuller(drawing),
        how=f"{_begins(inputs.profile)}{settings.population} individuals in {settings.generations} generations, "
        f"{work.drafts:,} drafts to learn from and {work.measured:,} to measure by {work.problems:,} problems, of "
        f"{work.tokens} tokens at {drawn_per_s:,.0f} a second, {work.trained / 1e6:.1f} M tokens learnt by reward and "
        f"{work.imitated / 1e6:.1f} M of the pool at {trained_per_s:,.0f}, "
        f"{'measured' if is_measured else 'projected'}: {said}",
        problem=_problem(inputs.profile, work) or turns.problem(drawing),
        less_vram=turns.less_vram(drawing),
        less_ram="lower evolve.slots, take a smaller model, or leave it out by evolve.when=never",
    )


def _seconds(inputs: Inputs, work: Work, drawn_per_s: float, trained_per_s: float) -> dict[str, float]:
    """By what takes them."""
    grm, genes, cores = inputs.profile.grm, inputs.profile.evolve.genes, num_cores()
    drawn = work.rated + work.drafts + work.replayed
    load = LOAD_S + inputs.weights_gib / LOADED_GIB_S
    found = {
        "drafting": drawn * work.tokens / drawn_per_s,
        "selection": work.measured * work.tokens / drawn_per_s,
        "training": work.trained / trained_per_s,
        "imitation": work.imitated / trained_per_s,
        "judging": ((drawn + work.measured) / VERDICTS + work.hardened * HARDEN_S) / cores,
        "starts": EVALUATE_START_S + work.processes * PROCESS_S + work.lives * load,
    }
    if grm.kl or "kl" in genes:
        found["base"] = work.trained / grm.updates_per_step / scoring_speed(inputs, inputs.shape)
    return found


def _begins(profile: Profile) -> str:
    """For a person, before what the population does."""
    settings = profile.evolve
    if not begins_with_trunk(profile):
        is_of_reward = settings.start == "auto" and profile.grm.when != "never"
        return "from self-reward's adapter, " if is_of_reward else ""
    rung = f"{len(settings.rates)} rates, " if len(settings.rates) > 1 else ""
    return f"{rung}a trunk of {settings.trunk_tokens / 1e6:g} M tokens, then "


def _states_gib(inputs: Inputs) -> float:
    """Adapters with their moments at the end of a generation: those of its individuals and of the generation before,
    Tune's copies of three generations, and what all began with."""
    grm, settings = inputs.profile.grm, inputs.profile.evolve
    a_state = inputs.shape.adapter(grm.lora_r) * (4 + MOMENTS[inputs.profile.sft.optimiser]) / GIB
    candidates = settings.population + settings.imitation
    held = min(2, settings.generations) * candidates + min(3, settings.generations) * settings.population
    return a_state * (held + 1)


def _problem(profile: Profile, work: Work) -> str:
    """Why nothing can be learnt, or nobody be measured, and what to change."""
    settings, grm = profile.evolve, profile.grm
    if num_problems(grm.problems) <= num_untested(grm.problems):
        return NO_TESTS
    if work.problems:
        return ""
    if not num_to_measure_by(settings, grm):
        return "no problem with tests is held out to measure by: name a source by evolve.validation"
    budget, cost = selection_budget(settings), _a_problem(settings, work.tokens)
    what = f"selection may draw {budget:,} tokens, and one problem for all individuals takes {cost:,}"
    return f"{what}: raise evolve.generation_tokens or evolve.selection_share"
