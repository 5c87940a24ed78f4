"""The plan of evolution: what its tokens come to, and when it is to be left out."""

from pathlib import Path

import pytest

from app.cli import main
from app.evolution.selection_drafts import first_draws, selection_budget
from app.overrides import with_overrides
from app.planning.evolution import begins_with_trunk, evolve, num_to_measure_by, work_of
from app.planning.plan import evaluate, validate
from app.planning.reward import grm
from app.profiles import get_profile, rtx3070
from app.reward.problems.held_out import to_measure_by
from app.settings import Profile
from app.stage_settings.evolve import EvolveSettings
from app.stage_settings.grm import GrmSettings
from tests.planning import planned
from tests.unit.planning.test_reward import seconds

pytestmark = pytest.mark.usefixtures("alone")
ROUND = ("grm.max_new_tokens=100", "evolve.generation_tokens=150000", "grm.problems=[mined]")
"""A draft has 100 tokens and half of them are learnt from, so it costs 150. 950 problems are mined."""


def profile(*overrides: str) -> Profile:
    return with_overrides(rtx3070(), [*ROUND, *overrides])


def test_what_individuals_may_spend_is_divided_into_drafts_and_what_is_learnt_of_them() -> None:
    work = work_of(profile())
    assert work.tokens == 100 and work.drafts == 3 * 4 * 150_000 / 150
    assert work.trained == 6000 * (100 + 200), "one half of them, with their questions"
    assert work.lives == 4 * 3 + 3 and work.processes == 1 + 3
    twice = work_of(profile("grm.updates_per_step=2"))
    assert twice.drafts == 3 * 4 * 150_000 / 200 and twice.trained == 9000 * 300, "each is learnt from twice"
    assert work_of(profile("evolve.population=8", "evolve.generations=2")).drafts == 16_000
    least = work_of(profile("evolve.generation_tokens=2000"))
    assert least.drafts == 3 * 4 * 32 * 16, "a step is the least that an individual does"


def test_selection_draws_its_share_and_who_is_chosen_is_measured_again() -> None:
    """A generation may spend 750,000 tokens with selection, which so has 150,000: 1,500 drafts."""
    work = work_of(profile())
    assert work.problems == 150_000 / (5 * 2 * 100), "two drafts by four individuals and the imitation"
    untouched, fresh = 256 * 2, 2 * 150 * 8
    assert work.measured == 3 * 1500 + untouched + fresh
    few = work_of(profile("evolve.validation_problems=10", "evolve.imitation=false"))
    assert few.problems == 10 and few.measured == 3 * 4 * 10 * 8 + 10 * 2 + 2 * 10 * 8, "no more than the most drafts"
    settings = rtx3070().evolve
    names, ids = [str(number) for number in range(5)], [str(number) for number in range(256)]
    draws = first_draws(names, ids, settings, tokens_a_draft=250, budget=selection_budget(settings))
    assert work_of(rtx3070()).problems == len(draws[0].problems), "as the stage will have it"


def test_an_imitation_learns_of_each_problem_that_was_drawn_so_far() -> None:
    """4,000 drafts in groups of 16 are 250 problems a generation, each with two lessons, three quarters of all."""
    work = work_of(profile())
    assert work.imitated == pytest.approx((250 + 500 + 750) * 2 / 0.75 * 2 * 300, abs=1) and work.replayed == 950
    many = work_of(profile("evolve.generations=6", "grm.imitate.epochs=1", "grm.imitate.replay_share=0"))
    assert many.imitated == (250 + 500 + 750 + 3 * 950) * 2 * 300 and many.replayed == 0, "there are no more problems"
    none = work_of(profile("evolve.imitation=false"))
    assert (none.imitated, none.replayed, none.lives, none.processes) == (0, 0, 12, 1)
    assert none.problems == 187, "150,000 tokens for 4 x 2 drafts"


def test_a_population_that_begins_with_the_adapter_of_self_reward_has_no_trunk() -> None:
    anew = "evolve.start=base", "evolve.rung_tokens=76800", "evolve.trunk_tokens=300000"
    work, plain = work_of(profile(*anew)), work_of(profile(*anew[1:]))
    assert plain == work_of(profile())
    before = 3 * 512 + 2000
    assert work.drafts == before + 12_000 and work.lives == 4 + 15 and work.processes == 4 + 4
    assert work.measured == plain.measured + 4 * 150 * 2, "the rates' individuals and the trunk are measured too"
    assert work.imitated == pytest.approx((471 + 721 + 950) * 2 / 0.75 * 2 * 300, rel=0.001), "of their drafts too"
    for rates in ("[]", "[2.0]"):
        alone = work_of(profile(*anew, f"evolve.rates={rates}"))
        assert alone.drafts == 2000 + 12_000 and alone.lives == 1 + 15, "one rate is no choice"
    assert work_of(profile(*anew, "evolve.trunk_tokens=0")).drafts == 12_000, "nor is there a rung then"
    assert begins_with_trunk(profile("grm.when=never")) and not begins_with_trunk(profile("grm.when=always"))


def test_what_self_reward_leaves_is_made_here_where_there_was_none() -> None:
    with_it, alone, distilled = (work_of(profile(*one)) for one in ([], ["grm.when=never"], ["grm.arm=distill"]))
    assert with_it.rated == 0 and alone.rated == distilled.rated == 950 * 16, "a distillation draws no solve rates"
    assert with_it.hardened == 256 + 400, "those to measure by, and those of the audit"
    assert alone.hardened == 256 + 400 + 950 and distilled.hardened == with_it.hardened


def test_problems_to_measure_by_are_counted_as_the_stage_finds_them(tmp_path: Path) -> None:
    for problems in (("ours",), ("ours=datasets/problems/basics.yaml",)):
        settings, grm_settings = EvolveSettings(), GrmSettings(problems=problems)
        assert num_to_measure_by(settings, grm_settings) == len(to_measure_by(settings, grm_settings, []))
    (tmp_path / "own.jsonl").write_text('{"tests": "assert f()"}\n' * 5 + "{}\n" * 3)
    named = EvolveSettings(validation=(str(tmp_path / "own.jsonl"), "mbpp"))
    assert num_to_measure_by(named, GrmSettings()) == 5 + 20
    assert num_to_measure_by(EvolveSettings(), GrmSettings(problems=(str(tmp_path / "own.jsonl"),))) == 0


def test_hours_are_those_of_the_tokens_at_the_speed_of_two_cores(manifest: Path) -> None:
    inputs, _ = planned("laptop", manifest, "corpus.seq_len=2048", "evolve.generations=3", "evolve.imitation=true")
    work, phase, params = work_of(inputs.profile), evolve(inputs), 134.5e6
    parts = seconds(phase.how)
    assert sum(parts.values()) == pytest.approx(3600 * phase.hours, abs=36 * len(parts))
    assert parts["drafting"] == pytest.approx((work.drafts + work.replayed) * 96 / 155.6, abs=20)
    assert parts["selection"] == pytest.approx(work.measured * 96 / 155.6, abs=20)
    speed = grm(inputs).how.partition("learnt at ")[2].partition(",")[0]
    assert parts["training"] == pytest.approx(work.trained / float(speed), rel=0.1)
    assert parts["imitation"] == pytest.approx(work.imitated / float(speed), rel=0.1)
    assert parts["starts"] == pytest.approx(60 + 4 * 8 + 15 * (2 + params * 4 / 2**30), abs=20)
    held, _ = planned("laptop", manifest, "corpus.seq_len=2048", "evolve.genes=[kl,learning_rate]")
    assert "base" not in parts and seconds(evolve(held).how)["base"] > 0, "a child may be held near the base"


def test_the_card_is_shared_as_in_self_reward_and_a_teacher_takes_nothing_of_it(manifest: Path) -> None:
    inputs, plan = planned("rtx3070", manifest)
    phases = {phase["name"]: phase for phase in plan["phases"]}
    assert phases["evolve"]["detail"] == phases["grm"]["detail"] and phases["evolve"]["peak_vram_gib"] <= 8
    distilled, _ = planned("rtx3070", manifest, "grm.arm=distill")
    assert evolve(distilled).detail == evolve(inputs).detail
    more, _ = planned("rtx3070", manifest, "evolve.slots=3")
    each = 3.0 + inputs.weights_gib + 1.0
    assert evolve(more).peak_ram_gib - evolve(inputs).peak_ram_gib == pytest.approx(2 * each)


def test_states_of_two_generations_and_copies_of_them_are_on_the_disk(manifest: Path) -> None:
    """By hand: 28 layers x 32 ranks x 38,912 inputs and outputs of Qwen3-1.7B's seven products."""
    state = 28 * 32 * 38_912 * (4 + 8) / 2**30
    for generations, states in ((1, 5 + 4 + 1), (2, 2 * (5 + 4) + 1), (3, 2 * 5 + 3 * 4 + 1)):
        inputs, _ = planned("rtx3070", manifest, f"evolve.generations={generations}")
        work = work_of(inputs.profile)
        drafts = (work.drafts + work.measured + work.replayed) * (250 * 8 + 4000) / 2**30
        assert evolve(inputs).disk_gib == pytest.approx(states * state + drafts, rel=0.001)


def test_a_stage_that_is_left_out_takes_nothing_and_leaves_an_adapter_less_to_measure(manifest: Path) -> None:
    inputs, plan = planned("rtx3070", manifest)
    without, left = planned("rtx3070", manifest, "evolve.when=never")
    phase = evolve(without)
    assert (phase.hours, phase.disk_gib, phase.peak_ram_gib, phase.detail) == (0, 0, 0, {})
    assert phase.how == "left out by evolve.when=never"
    for measuring in (validate, evaluate):
        drafts = [int(measuring(one).how.split(" ")[0].replace(",", "")) for one in (inputs, without)]
        assert drafts[0] * 3 == drafts[1] * 4, "base, sft and grm are left"
    assert left["total_days"] < plan["total_days"]


def test_what_can_not_be_measured_or_learnt_is_said_with_what_to_change(manifest: Path, tmp_path: Path) -> None:
    def told(*settings: str) -> str:
        return evolve(planned("rtx3070", manifest, *settings)[0]).problem

    poor = "evolve.generation_tokens=2000"
    assert told(poor).startswith("selection may draw 2,000 tokens, and one problem for all individuals takes 2,500: ")
    assert "evolve.selection_share" in told(poor) and not told(poor, "evolve.selection_share=0.25")
    (tmp_path / "own.jsonl").write_text('{"tests": "assert f()"}\n' * 5)
    own = f"grm.problems=[{tmp_path / 'own.jsonl'}]"
    assert told(own).endswith("name a source by evolve.validation") and not told(own, "evolve.validation=[mbpp]")
    (tmp_path / "own.jsonl").write_text("{}\n" * 5)
    assert told(own, "evolve.validation=[mbpp]").endswith(
        "add some to grm.problems, or leave it out by evolve.when=never"
    )
    assert told("generation.vram_gib=5").endswith("or leave it out by evolve.when=never")
    _, plan = planned("rtx3070", manifest, poor)
    assert not plan["fits"] and any(line.startswith("evolve: selection may draw") for line in plan["advice"])


def test_evolution_that_outlasts_the_days_is_shortened_or_left_out(manifest: Path) -> None:
    long = "evolve.generation_tokens=50000000"
    _, plan = planned("rtx3070", manifest, long)
    (line,) = [line for line in plan["advice"] if "days, more than 7" in line]
    assert "lower evolve.generations" in line and line.endswith("--set evolve.when=never")
    assert planned("rtx3070", manifest, long, line.split()[-1])[1]["fits"]
    _, plan = planned("rtx3070", manifest, long, "sft.epochs=90")
    (line,) = [line for line in plan["advice"] if "days, more than 7" in line]
    assert "evolve." not in line, "leaving it out would not be enough"


def test_the_fastest_training_leaves_evolution_room_where_it_learns_alone(manifest: Path) -> None:
    _, plan = planned("rtx3070", manifest, "grm.when=never")
    assert any("is the fastest that fits and leaves evolution room" in line for line in plan["advice"])


@pytest.mark.parametrize("name", ["smoke", "laptop", "rtx3070", "workstation"])
def test_each_profile_has_something_to_select_by_once_it_evolves(name: str) -> None:
    changed = with_overrides(get_profile(name), ["evolve.when=always"])
    work = work_of(changed)
    assert work.problems >= 2
    assert work.drafts >= changed.evolve.population * changed.evolve.generations * changed.grm.num_drafts


def test_the_reference_evolves_within_its_days_from_either_start(manifest: Path) -> None:
    for settings in ([], ["evolve.start=base"], ["grm.when=never"]):
        inputs, plan = planned("rtx3070", manifest, *settings)
        assert plan["fits"] and plan["total_days"] < 1 < evolve(inputs).hours < 12


def test_a_source_to_measure_by_that_can_not_be_read_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["evolve.when=always", "evolve.validation=[/no/own.jsonl]"]
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--profile", "smoke", *(part for one in settings for part in ("--set", one))])
    assert "/no/own.jsonl" in f"{ended.value} {capsys.readouterr().err}"
