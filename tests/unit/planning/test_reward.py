"""The plan of self-reward: how many drafts it will draw, and how trainer and engine share a card."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.overrides import with_overrides
from app.planning.plan import PHASES
from app.planning.reward import Turns, grm, num_problems, work_of
from app.planning.reward_models import models_beside
from app.profiles import laptop, rtx3070
from tests.planning import planned

pytestmark = pytest.mark.usefixtures("alone")


def test_drafts_are_those_of_the_rates_and_of_all_steps() -> None:
    small = work_of(laptop())
    assert small.problems == num_problems(["ours=datasets/problems/basics.yaml"]) > 10
    grm = laptop().grm
    assert small.rated == small.problems * grm.rate_drafts
    assert small.drafts == grm.steps * grm.prompts_per_step * grm.num_drafts and small.tokens == grm.max_new_tokens
    full = work_of(rtx3070())
    assert full.problems > 1200 and full.rated == 16 * full.problems, "2,000 problems with 10 drafts are 20,000 as well"
    assert full.drafts == 40 * 32 * 16
    assert work_of(with_overrides(rtx3070(), ["grm.steps=20"])).drafts == full.drafts / 2
    again = work_of(with_overrides(rtx3070(), ["grm.refill=2"]))
    assert again.drafts == full.drafts * 2, "every other group is drawn again"


def test_imitation_draws_its_prompts_once_a_round_and_trains_less() -> None:
    full = work_of(with_overrides(rtx3070(), ["grm.steps=150"]))
    rft = work_of(with_overrides(rtx3070(), ["grm.arm=rft"]))
    assert rft.drafts == 10 * full.problems, "the first round takes the drafts of the rates"
    assert rft.trained < full.trained / 2 and "in 2 rounds" in rft.how
    few = work_of(with_overrides(rtx3070(), ["grm.arm=rft", "grm.imitate.prompts=100", "grm.rate_drafts=4"]))
    assert few.drafts == 100 * 16
    upft = work_of(with_overrides(rtx3070(), ["grm.arm=upft"]))
    assert upft.drafts == 0 and upft.trained < rft.trained


def test_problems_of_a_file_are_counted_by_its_lines(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("{}\n" * 7)
    assert num_problems([str(tmp_path / "own.jsonl"), "mbpp"]) == 225
    with pytest.raises(UserError, match=r"grm.problems .*none.jsonl can't be read"):
        num_problems([str(tmp_path / "none.jsonl")])


def test_problems_without_tests_are_drawn_of_only_where_they_are_learnt(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"tests": "assert f()"}\n' * 5 + "{}\n" * 3)
    source = f"grm.problems=[{tmp_path / 'own.jsonl'}]"
    by_tests, by_rank, by_teacher = (
        work_of(with_overrides(rtx3070(), [source, f"grm.arm={arm}"])) for arm in ("grpo", "rft", "distill")
    )
    assert [(one.problems, one.rated) for one in (by_tests, by_rank, by_teacher)] == [(5, 80), (8, 80), (8, 0)]
    assert by_rank.drafts == 8 * 20 - 5 * 10, "the solve rates leave drafts of the five"
    (tmp_path / "own.jsonl").write_text("{}\n" * 3)
    _, plan = planned("rtx3070", manifest, source)
    assert any(line.startswith("grm: none of its problems has tests: add some") for line in plan["advice"])


def test_critic_and_teacher_are_planned_and_fetched_where_they_are_used_and_nowhere_else(
    manifest: Path, tmp_path: Path
) -> None:
    def grm_and_pull(*settings: str) -> tuple[list[str], str]:
        inputs, _ = planned("rtx3070", manifest, *settings)
        return list(grm(inputs).notes), next(one for one in PHASES if one.__name__ == "pull")(inputs).how

    critic, teacher = "SmolLM2-135M-Instruct: unpacked", "Qwen/Qwen2.5-Coder-1.5B-Instruct: 3.09 GB"
    (tmp_path / "own.jsonl").write_text("{}\n" * 40)
    untested = f"grm.problems=[mbpp,{tmp_path / 'own.jsonl'}]"
    by_rank = [untested, "grm.arm=rft"]
    nothing_to_learn = ["grm.arm=rft", "grm.critic.train=always", f"grm.problems=[{tmp_path / 'own.jsonl'}]"]
    unused = ([], [untested], ["grm.arm=rft"], [*by_rank, "grm.critic.train=never"], [*by_rank, "grm.rate_drafts=1"])
    for settings in (*unused, nothing_to_learn):
        notes, fetched = grm_and_pull(*settings)
        assert not notes and critic not in fetched and teacher not in fetched
    [note], fetched = grm_and_pull(*by_rank)
    assert note.startswith("the critic learns from 1,216 drafts at most") and critic in fetched
    [note], fetched = grm_and_pull("grm.arm=distill")
    assert note.startswith("the teacher, Qwen/Qwen2.5-Coder-1.5B-Instruct, takes 3.8") and teacher in fetched
    _, plan = planned("rtx3070", manifest, "grm.arm=distill", "sft.vram_gib=5.7")
    assert any(line.startswith("grm: the teacher takes 3.88 GiB, more than the 3.") for line in plan["advice"])
    assert not models_beside(with_overrides(rtx3070(), ["grm.arm=distill", "grm.when=never"]).grm)


def seconds(how: str) -> dict[str, float]:
    """What a phase says that its parts take."""
    return {name: 3600 * float(hours) for name, hours, _ in (one.split() for one in how.split(": ")[-1].split(", "))}


def test_validations_and_a_teacher_s_passes_have_their_time(manifest: Path, tmp_path: Path) -> None:
    plain, validated, more = (
        grm(planned("rtx3070", manifest, *settings)[0])
        for settings in ([], ["grm.validate_every=10"], ["grm.validate_every=30", "grm.checkpoint_every=10"])
    )
    assert "validations" not in plain.how
    work = work_of(with_overrides(rtx3070(), ["grm.validate_every=10", "grm.validation_drafts=4"]))
    assert (work.validations, work.held_out, work.validated) == (5, 64, 5 * 64 * 4), "the model at the start as well"
    assert ", 192 in 3 validations" in more.how, "the last step as well"
    assert plain.hours < more.hours < validated.hours and plain.disk_gib < validated.disk_gib
    (tmp_path / "own.jsonl").write_text('{"tests": "assert f()"}\n' * 5 + "{}\n" * 3)
    named = ["grm.validate_every=10", f"grm.validation=[mbpp,{tmp_path / 'own.jsonl'}]"]
    assert work_of(with_overrides(rtx3070(), named)).held_out == 23 + 5
    assert not work_of(with_overrides(rtx3070(), ["grm.validate_every=10", "grm.arm=rft"])).validations
    distilled = grm(planned("rtx3070", manifest, "grm.arm=distill")[0])
    twice = grm(planned("rtx3070", manifest, "grm.arm=distill", "grm.num_drafts=32")[0])
    assert 0.3 * 3600 < seconds(distilled.how)["teacher"] < seconds(distilled.how)["drafting"]
    assert seconds(twice.how)["teacher"] > 1.8 * seconds(distilled.how)["teacher"]
    assert "whose time is not counted" not in " ".join(distilled.notes)
    held, _ = planned("rtx3070", manifest, "grm.kl=0.001")
    assert seconds(grm(held).how)["base"] > 0


def test_a_teacher_without_a_card_scores_on_the_trainer_s_core(manifest: Path) -> None:
    inputs, _ = planned("laptop", manifest, "grm.arm=distill", "corpus.seq_len=2048")
    tokens = work_of(inputs.profile).drafts * (96 + 200)
    assert seconds(grm(inputs).how)["teacher"] == pytest.approx(tokens * 1.54e9 / (430 * 134.5e6), rel=0.02)


def test_hours_follow_the_work_and_a_stage_that_is_left_out_takes_none(manifest: Path) -> None:
    inputs, plan = planned("rtx3070", manifest)
    hours = next(phase["hours"] for phase in plan["phases"] if phase["name"] == "grm")
    more, _ = planned("rtx3070", manifest, "grm.steps=100")
    assert 1 < hours < 100 and 1.5 * hours < grm(more).hours < 2 * hours
    assert "a second" in grm(inputs).how and "drafting" in grm(inputs).how
    without, left = planned("rtx3070", manifest, "grm.when=never")
    assert grm(without).hours == 0 and "grm.when=never" in grm(without).how
    drafts = [next(p for p in PHASES if p.__name__ == "evaluate")(one).how.split(" ")[0] for one in (inputs, without)]
    assert int(drafts[0].replace(",", "")) * 3 == int(drafts[1].replace(",", "")) * 4, "an adapter less is measured"
    assert left["total_days"] < plan["total_days"]


def test_trainer_and_engine_give_way_to_each_other_within_the_card(manifest: Path) -> None:
    inputs, plan = planned("rtx3070", manifest)
    turns = Turns(inputs)
    assert turns.engine.vram_gib < 8 and turns.choice.fits and turns.choice.profile.sft.vram_gib == 5
    phase = next(phase for phase in plan["phases"] if phase["name"] == "grm")
    assert phase["peak_vram_gib"] <= 8 and {"cache", "idle trainer"} <= phase["detail"].keys()
    _, plan = planned("rtx3070", manifest, "generation.vram_gib=5")
    assert any("leaves the engine 0.00 GiB for drafts beside the trainer" in line for line in plan["advice"])
    _, plan = planned("rtx3070", manifest, "sft.vram_gib=4")
    assert any(line.startswith("grm: a micro-batch takes") for line in plan["advice"])


def test_without_a_card_nothing_is_shared(manifest: Path) -> None:
    inputs, plan = planned("laptop", manifest, "corpus.seq_len=2048")
    assert Turns(inputs).engine == inputs.profile.generation
    assert 0.02 < grm(inputs).hours < 0.3, "about five minutes"
    assert next(phase for phase in plan["phases"] if phase["name"] == "grm")["detail"] == {}
