"""What the report tells of self-reward and evolution, from made-up runs, and the cards of their adapters."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from app import rights
from app.errors import UserError
from app.evaluation.gate import Decision
from app.evaluation.stage import CandidateComparison
from app.evaluation.statistics import Comparison
from app.files.json_files import append_json_line, write_json
from app.learnt_from import of_problems
from app.profiles import smoke
from app.report import TRAINED, headline, write_report
from app.reward.by_reward.watch import StepFigures, step_figures
from app.reward.model_card import write_card, write_evolved_card
from app.runs import Run, open_run, update_info
from tests.unit.evolution.made_run import meta as evolution_meta
from tests.unit.evolution.made_run import write_evolution
from tests.unit.reward.made_drafts import group

SCORE = {"num_problems": 60, "value": 0.21, "interval_95": [0.15, 0.28]}
META: dict[str, Any] = {
    "settings": {"lora_r": 32},
    "model": {"source": "hub", "name": "some/model"},
    "arm": "grpo",
    "problems": [
        {
            "source": "mbpp",
            "licence": "CC-BY-4.0",
            "given": 40,
            "learnt": 11,
            "untested": 0,
            "solve_rates": {"0": 20, "to 0.25": 20},
        },
        {"source": "pocketcoder", "licence": "MIT", "given": 20, "learnt": 5, "untested": 0, "solve_rates": {"1": 20}},
    ],
    "untouched": {"drafts_a_problem": 16, "problems_by_solve_rate": {}, "pass@1": SCORE, "pass@16": SCORE},
    "steps": 3,
    "drafts": 96,
    "tokens": 9000,
    "learnt_tokens": 4000,
    "seconds": 61.0,
    "why_ended": "all steps were taken",
    "audit": {
        "passing": 50,
        "audited": 40,
        "problems": 12,
        "false_passes": 2,
        "rate": SCORE | {"num_problems": 12, "value": 0.05},
        "by_source": {"mbpp": [30, 2], "pocketcoder": [10, 0]},
        "not_audited": {"it has no reference": 3},
    },
}


def figures(step: int, reward: float) -> StepFigures:
    made = step_figures(
        step,
        [*group("++--"), *group("----", name="b")],
        mismatch=0.01,
        clipped=0.0,
        training_tokens=4000,
        drafting_seconds=2.0,
        judging_seconds=0.5,
        training_seconds=4.0,
        learnt_tokens=800,
        learning_rate=1e-4,
        grad_norm=1.0,
        peak_gib=1.5,
    )
    return replace(made, reward_mean=reward)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose self-reward is complete."""
    with open_run(tmp_path, smoke(), resume=False) as run:
        write_json(run.grm_meta, META)
        for number, reward in enumerate((0.2, 0.3, 0.45), 1):
            append_json_line(run.arm("grpo").metrics, asdict(figures(number, reward)))
    return run


def test_the_report_tells_problems_figures_speeds_and_what_the_audit_found(run: Run) -> None:
    write_report(run)
    text = run.report_md.read_text()
    for line in (
        "| mbpp | CC-BY-4.0 | 40 | 11 | 20 | 20 | 0 | 0 | 0 | 0 |",
        "| pocketcoder | MIT | 20 | 5 | 0 | 0 | 0 | 0 | 0 | 20 |",
        "of 16 drafts a problem: pass@1 21.0 % (15.0 – 28.0), n = 60; pass@16 21.0 %",
        "| 1 | 0.200 | 50.0 % of 2 | 0.500 | 4 | 0.0 % |\n",
        "| 3 | 0.450 | 50.0 % of 2 |",
        "Drafting 16 tokens/s, training 1,000 with padding; at its peak 1.50 GiB of main memory",
        "It ended because all steps were taken.",
        "of 40 drafts that had passed, 2 failed a second judge on fresh inputs",
        "averaged over problems: 5.0 % (15.0 – 28.0), n = 12; mbpp 2 of 30, pocketcoder 0 of 10.",
        "Not judged again: 3 because it has no reference.",
    ):
        assert line in text, line
    page = run.report_html.read_text()
    assert page.count("data:image/png;base64,") == 1 and 'src="plots/' not in page


def test_the_kl_has_a_column_where_it_was_held_small(run: Run) -> None:
    append_json_line(run.arm("grpo").metrics, asdict(replace(figures(4, 0.5), kl=0.25)))
    write_report(run)
    text = run.report_md.read_text()
    assert "| KL from the base |" in text and "| 0.0 % | ? |\n| 4 | 0.500 |" in text and "| 0.0 % | 0.250 |\n" in text


def test_a_source_without_any_tests_has_no_solve_rates_and_the_report_says_why(run: Run) -> None:
    user = {"source": "user", "licence": "MIT", "given": 3, "learnt": 0, "untested": 3, "solve_rates": {}}
    unknown = user | {"licence": "Zlib", "untested": 1}  # no draft of the others counts
    write_json(run.grm_meta, META | {"problems": [*META["problems"], unknown]})
    write_report(run)
    text = run.report_md.read_text()
    assert "| user | Zlib | 3 | 0 | ? | ? | ? | ? | ? | ? |" in text and "A dash" not in text
    write_json(run.grm_meta, META | {"problems": [*META["problems"], user]})
    write_report(run)
    text = run.report_md.read_text()
    assert "| user | MIT | 3 | 0 | - | - | - | - | - | - |" in text
    assert "A dash: without tests nothing judges drafts, so nobody knows what is solved." in text
    assert "| mbpp | CC-BY-4.0 | 40 | 11 | 20 | 20 | 0 | 0 | 0 | 0 |" in text


def test_the_report_says_why_self_reward_was_left_out(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        write_report(run)
        assert "## Self-reward\n\nNot run yet." in run.report_md.read_text()
        update_info(run, left_out={"grm": "none of 3 problems is solved"})
        write_report(run)
    text = run.report_md.read_text()
    assert "## Self-reward\n\nLeft out: none of 3 problems is solved." in text
    assert "Nothing was trained" not in text, "SFT may still come"


def test_a_stage_of_before_there_were_audits_is_told_without_one(run: Run) -> None:
    write_json(run.grm_meta, {name: value for name, value in META.items() if name != "audit"} | {"untouched": None})
    write_report(run)
    text = run.report_md.read_text()
    assert "Audit" not in text and "| mbpp | CC-BY-4.0 | 40 | 11 |\n" in text
    assert "| pocketcoder | MIT | 20 | 5 |\n\nWhose the problems are" in text, "a line right behind is a row"
    write_json(run.grm_meta, {})
    with pytest.raises(UserError, match=r"grm/meta.json can't be read as the end of self-reward \(KeyError"):
        write_report(run)


def test_rounds_of_imitation_are_told_where_there_are_no_figures_of_steps(run: Run) -> None:
    held = {"round": 1, "drafts": 1200, "lessons": {"right": 40, "replay": 13}, "problems": 22, "steps": 3}
    write_json(run.grm_meta, META | {"arm": "rft", "rounds": [held | {"loss_first": 0.5, "loss_last": 0.25}]})
    append_json_line(run.arm("rft").metrics, {"step": 1, "loss": 0.5})
    write_report(run)
    text = run.report_md.read_text()
    assert "| 1 | 1,200 | right 40, replay 13 | 22 | 3 | 0.500, 0.250 |" in text and "plots/grm.png" not in text


def test_rankings_are_told_with_what_they_are_worth_and_why_one_was_used(run: Run) -> None:
    score = {"num_problems": 9, "value": 0.5, "interval_95": [0.25, 0.75]}
    rows = [
        {"ranking": name, "auc_pooled": 0.625, "auc_within": within, "best_of_n": score}
        for name, within in (("critic", 0.75), ("mean_logprob", None))
    ]
    against = {"num_problems": 9, "difference": 0.125, "interval_95": [0.01, 0.25], "num_better": 2, "num_worse": 0,
               "p_value": 0.5, "detectable": None}  # fmt: skip
    table = {"best_of": 10, "problems": 9, "mixed": 7, "drafts": 90, "rows": rows, "against": {"mean_logprob": against}}
    ranking = {"used": "critic", "why": "it was better", "model": {"name": "some/critic"}, "measured": table}
    learnt = {"rulings": 1200, "problems": 30}
    untested = META["problems"][0] | {"source": "user", "untested": 8}
    of_rft = META | {"arm": "rft", "rounds": [], "problems": [untested], "ranking": ranking | {"learnt": learnt}}
    write_json(run.grm_meta, of_rft)
    append_json_line(run.arm("rft").metrics, {"step": 1, "loss": 0.5})
    write_report(run)
    text = run.report_md.read_text()
    for line in (
        "which executed tests have judged (`rft`",
        "8 of the problems have no tests; of these the best ranked complete drafts are learnt.",
        "were ranked by **critic**: it was better. The critic, some/critic, learnt from 1,200 drafts of 30 problems.",
        "| critic | 0.625 | 0.750 | 50.0 % (25.0 – 75.0), n = 9 |  |",
        "| mean_logprob | 0.625 | ? | 50.0 % (25.0 – 75.0), n = 9 | +12.5 (+1.0 to +25.0) |",
        "Measured on 90 drafts of 9 problems that no critic has learnt from, of which 7 have right and wrong drafts",
    ):
        assert line in text, line
    card_beside(run.grm, of_rft)
    card = (run.grm / "README.md").read_text()
    assert "8 of the 40 problems that it was given have no tests" in card and "`critic` put first." in card
    without = ranking | {"measured": table | {"against": {}}, "learnt": None}
    alone = of_rft | {"problems": [untested | {"untested": 40}], "ranking": without}
    write_json(run.grm_meta, alone)
    write_report(run)
    text = run.report_md.read_text()
    assert "which a ranking has judged (`rft`" in text and "best of 10 is right |\n|---|---:|---:|---|\n" in text
    card_beside(run.grm, alone)
    assert "that it wrote itself and that a ranking had judged;" in (run.grm / "README.md").read_text()


def learnt(meta: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(row["source"], row["licence"]): row["learnt"] for row in meta["problems"]}


def card_beside(folder: Path, meta: dict[str, Any]) -> None:
    rights.write(folder, of_problems("grm", learnt(meta)))
    write_card(folder, meta)


def test_the_card_lists_whose_problems_were_learnt_from(tmp_path: Path) -> None:
    unused = {"source": "user", "licence": "MIT", "given": 3, "learnt": 0, "untested": 3, "solve_rates": {}}
    card_beside(tmp_path, META | {"problems": [*META["problems"], unused]})
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nbase_model: some/model\nlibrary_name: peft\n")
    assert "| mbpp | CC-BY-4.0 | 11 |\n| pocketcoder | MIT | 5 |\n" in card and "user" not in card
    assert "Of 40 drafts that had passed, 2 failed a second judge on fresh inputs." in card and "ranking" not in card


@pytest.fixture
def evolved(run: Run) -> Run:
    """A run whose self-reward and evolution are complete."""
    write_evolution(run)
    return run


def test_the_report_tells_of_evolution_after_self_reward(evolved: Run) -> None:
    write_report(evolved)
    text = evolved.report_md.read_text()
    _, reward, rest = text.partition("## Self-reward")
    _, evolution, rest = rest.partition("## Evolution")
    assert reward and evolution and "## Corpus" in rest
    for line in (
        "## Evolution\n\nThe individual `e_00002.3`, a child of `e_00003.2`, is **better than** the untouched model on",
        "| 2 | imitation.2 | 0.292 | 29.8 % | 0.41 | 0.70 | 2 of 4 | 1 of 5 | 54.0 %, 49.0 % |\n",
        "| learning_rate | 7e-05 | 0.000143 | 0.00011 in 1.1, 0.000143 in 3.2 |\n",
        "| clip_high | 0.28 | 0.28 |  |\n",
        "Tokens: 4,300,000 drawn in 20,000 drafts to learn from, 4,200,000 learnt, and 1,200,000 drawn to select, 12",
        "The last attempt took 812 s; all individuals together drafting 465 s",
        "Learnt from: 130 of mbpp (CC-BY-4.0), 44 of ours (MIT).",
        "**Audit:** of 50 drafts that had passed, 1 failed a second judge",
        "They are in `evolve/audit.jsonl`.",
        "Failed: 0.1 in generation 1.",
    ):
        assert line in text, line
    page = evolved.report_html.read_text()
    assert page.count("data:image/png;base64,") == 3 and 'src="plots/' not in page


def test_the_report_of_a_partial_copy_tells_what_is_there(evolved: Run) -> None:
    shutil.rmtree(evolved.evolve_individuals)
    evolved.evolve_lineage.unlink()
    imitation = {"id": "imitation.3", "generation": 3, "is_imitation": True, "config": {}}
    write_json(evolved.evolve_meta, evolution_meta() | {"winner": imitation, "fresh": None})
    write_report(evolved)
    text = evolved.report_md.read_text()
    assert "came out best; no fresh draft could be judged" in text and "| ? of 4 |" in text
    assert "| gene |" not in text and "plots/evolve_genes.png" not in text and "plots/evolve.png" in text
    shutil.rmtree(evolved.evolve_boundaries)
    write_report(evolved)
    assert "plots/evolve.png" not in evolved.report_md.read_text()


def test_the_report_says_why_evolution_was_left_out(tmp_path: Path) -> None:
    with open_run(tmp_path, smoke(), resume=False) as run:
        update_info(run, left_out={stage: f"{stage} has nothing to do" for stage in ("sft", "grm", "evolve")})
        write_report(run)
    text = run.report_md.read_text()
    assert "## Evolution\n\nLeft out: evolve has nothing to do." in text
    assert "Nothing was trained. SFT was left out: sft has nothing to do. Self-reward was left out:" in text
    assert "Evolution was left out: evolve has nothing to do. Kept is the base model." in text


def compared(candidate: str, difference: float) -> CandidateComparison:
    comparison = Comparison(
        num_problems=164, difference=difference, interval_95=(difference - 0.01, difference + 0.01), num_better=9,
        num_worse=4, p_value=0.3, detectable=0.05,
    )  # fmt: skip
    return CandidateComparison(suite="humaneval-chat", candidate=candidate, comparison=comparison)


@pytest.mark.parametrize(
    ("kept", "told", "what"),
    [
        ((True, True, True), "evolve against the base model: **better**", "are the adapters sft, grm and evolve"),
        ((False, True, True), "evolve against the base model: **better**", "are the adapters grm and evolve"),
        ((False, True, False), "grm against the base model: **not to be told apart", "is the adapter grm"),
        ((False, False, False), "evolve against", "is the base model, without an adapter"),
    ],
)
def test_the_first_sentence_is_of_the_latest_adapter_that_is_kept(
    tmp_path: Path, kept: tuple[bool, ...], told: str, what: str
) -> None:
    decisions = [
        Decision(stage=stage, kept=one, reason="so", comparison=None, suites=())
        for stage, one in zip(TRAINED, kept, strict=True)
    ]
    found = [compared("sft", -0.2), compared("grm", 0.0), compared("evolve", 0.05)]
    with open_run(tmp_path, smoke(), resume=False) as run:
        text = headline(run, found, decisions)
    assert text.startswith(f"The adapter {told}") and f"Kept {what}. `python -m app serve" in text


def test_the_card_of_an_evolved_adapter_tells_how_it_was_chosen(tmp_path: Path) -> None:
    rights.write(tmp_path, of_problems("evolve", learnt(evolution_meta())))
    write_evolved_card(tmp_path, evolution_meta())
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nbase_model: some/model\n") and "| mbpp | CC-BY-4.0 | 130 |" in card
    assert "r=32, by evolution: the individual `e_00002.3`, of a population that drew 20,000 drafts in 3" in card
    assert "differs by +4.1\npoints (+1.2 to +7.1, 95 %) from the base model's." in card
    assert "Of 50 drafts that had passed, 1 failed" in card
    imitation = {"id": "imitation.3", "generation": 3, "is_imitation": True, "config": {}}
    write_evolved_card(tmp_path, evolution_meta() | {"winner": imitation, "fresh": None})
    card = (tmp_path / "README.md").read_text()
    assert "r=32, by evolution: the base, which imitates what all individuals had solved by generation 3" in card
    assert "nothing is said of it beside the base model" in card
