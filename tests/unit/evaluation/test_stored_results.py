"""A result belongs to the weights, settings and verdicts it was measured with, and is never shown for others."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.errors import UserError
from app.evaluation.stage import (
    load_suites,
    outdated,
    plans,
    read_result,
    run_evaluation,
    set_aside_outdated,
)
from app.files.json_files import append_json_line, read_json_lines, write_json_lines
from app.models.base import ensure_model, load_tokenizer, sha256_of, weights_sha256
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import Problem, Status
from app.report import write_report
from app.runs import Run, open_run
from app.settings import Profile
from tests.tiny_model import write_model
from tests.unit.evaluation.test_measure import ScriptedGenerator, StatedJudge

LABEL = "humaneval-chat-2"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer, which each copy of the folder has loaded anew, takes no half a second."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_model(folder, ["pass"])
    return folder


@pytest.fixture
def profile(tiny: Path, tmp_path: Path) -> Profile:
    """A profile whose model folder a test may change."""
    shutil.copytree(tiny, tmp_path / "model")
    model = ["model.source=path", f"model.name={tmp_path / 'model'}"]
    return with_overrides(smoke(), [*model, "evaluation.num_problems=2"])


def drawn(run: Run, profile: Profile, adapter: str = "", verdict: Any = Status.PASSED) -> int:
    """Measure the base model, and an adapter where one is given; how many drafts were drawn for it."""
    generator = ScriptedGenerator(lambda prompt, sample: "```python\npass\n```")
    suites, folder = load_suites(profile.evaluation), ensure_model(profile.model)
    tokenizer, candidates = load_tokenizer(folder), {"base": ""} | ({"sft": adapter} if adapter else {})
    planned = plans(run, profile, candidates, suites, tokenizer, weights_sha256(folder))
    planned = set_aside_outdated(run, planned)
    run_evaluation(run, planned, {"humaneval": None}, tokenizer, generator, StatedJudge(lambda *_: verdict))
    return generator.asked[0]


def overwrite_in_place(path: Path) -> None:
    """Other bytes, while size and times stay."""
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_result_belongs_to_every_file_that_loads_as_the_model(profile: Profile, tmp_path: Path) -> None:
    run, model = Run(tmp_path / "run"), tmp_path / "model"
    assert (drawn(run, profile), drawn(run, profile)) == (2, 0)
    (model / "README.md").write_text("what it is")
    assert drawn(run, profile) == 0, "a file that nothing loads"
    overwrite_in_place(model / "model.safetensors")
    assert (drawn(run, profile), drawn(run, profile)) == (2, 0)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        held = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(held | {"note": 1}))
        assert drawn(run, profile) == 2, name
    kept = sorted(path.name for path in (run.superseded / "evaluation" / LABEL).iterdir())
    assert kept == ["base-1", "base-2", "base-3", "base-4"], "what was measured is not lost"


def test_a_retrained_adapter_is_measured_anew_and_its_old_result_is_not_reported(
    profile: Profile, tmp_path: Path
) -> None:
    with open_run(tmp_path / "run", profile, resume=False) as run:
        run.sft_adapter.mkdir(parents=True)
        (run.sft_adapter / "adapter_model.safetensors").write_bytes(b"old")
        (run.sft_adapter / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
        assert drawn(run, profile, str(run.sft_adapter)) == 4
        write_report(run)
        assert f"| {LABEL} | chat | sft |" in run.report_md.read_text()
        (run.sft_adapter / "adapter_model.safetensors").write_bytes(b"new")
        write_report(run)
        text = run.report_md.read_text()
        assert f"| {LABEL} | chat | sft |" not in text and f"{LABEL}, sft: the adapter is another now" in text
        assert f"| {LABEL} | chat | base |" in text
        assert (drawn(run, profile, str(run.sft_adapter)), drawn(run, profile, str(run.sft_adapter))) == (2, 0)
        (run.sft_adapter / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 16}')
        assert drawn(run, profile, str(run.sft_adapter)) == 2, "its scale decides as well"
        overwrite_in_place(tmp_path / "model" / "model.safetensors")
        write_report(run)
        assert "Not evaluated yet" in run.report_md.read_text()
        assert "base: the base model's weights are others now" in run.report_md.read_text()


def test_only_samples_bind_the_settings_of_a_measurement(profile: Profile, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    assert drawn(run, profile) == 2
    other = with_overrides(profile, ["generation.max_model_len=1024", "sandbox.timeout_s=9"])
    with pytest.raises(UserError, match="measured with other settings"):
        drawn(run, other)
    run.suite_result(LABEL, "base").unlink()
    with pytest.raises(UserError, match="measured with other settings"):
        drawn(run, other)
    run.suite_samples(LABEL, "base").unlink()
    assert drawn(run, other) == 2


def test_a_shorter_limit_of_length_is_accepted_where_every_draft_had_room(profile: Profile, tmp_path: Path) -> None:
    """What the error of a generator that ran out of memory advises, followed after some drafts."""
    run = Run(tmp_path / "run")
    drawn(run, profile)
    drafts = [row["draft"] for row in read_json_lines(run.suite_samples(LABEL, "base"))]
    longest = max(draft["num_prompt_tokens"] + draft["num_tokens"] for draft in drafts)
    assert drawn(run, with_overrides(profile, [f"generation.max_model_len={max(32, longest + 1)}"])) == 0
    for path in (run.suite_settings(LABEL, "base"), run.suite_result(LABEL, "base")):
        assert json.loads(path.read_text())["generation"]["max_model_len"] == max(32, longest + 1)
    rows = read_json_lines(run.suite_samples(LABEL, "base"))
    rows[0]["draft"]["num_tokens"] = 500
    write_json_lines(run.suite_samples(LABEL, "base"), rows)
    with pytest.raises(UserError, match=r"measured with other settings \(generation.max_model_len: \d+ -> 400\)"):
        drawn(run, with_overrides(profile, ["generation.max_model_len=400"]))


def test_samples_on_which_the_sandbox_failed_bind_nothing(profile: Profile, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    with pytest.raises(UserError, match="could be judged"):
        drawn(run, profile, verdict=Status.INFRA)
    assert drawn(run, with_overrides(profile, ["sandbox.timeout_s=9"])) == 2
    assert len(read_json_lines(run.suite_samples(LABEL, "base"))) == 2


def test_a_result_whose_settings_are_gone_is_not_taken_for_complete(profile: Profile, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    drawn(run, profile)
    run.suite_settings(LABEL, "base").unlink()
    assert drawn(run, profile) == 2


def test_drafts_are_judged_anew_when_the_sandbox_judges_otherwise(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    drawn(run, profile)
    before = [row["draft"] for row in read_json_lines(run.suite_samples(LABEL, "base"))]
    monkeypatch.setattr("app.evaluation.stage.VERDICTS", 1000)
    assert outdated(run) == {(LABEL, "base"): "the sandbox judges otherwise since"}
    assert drawn(run, profile, verdict=Status.WRONG_ANSWER) == 0, "no draft is drawn again"
    rows = read_json_lines(run.suite_samples(LABEL, "base"))
    assert [row["draft"] for row in rows] == before
    assert {row["verdict"]["status"] for row in rows} == {"wrong_answer"}
    assert read_result(run.suite_result(LABEL, "base")).num_passed == 0 and outdated(run) == {}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: [], "is no JSON object"),
        (lambda row: {"draft": row["draft"]}, "is no sample"),
        (lambda row: row | {"verdict": row["verdict"] | {"status": "splendid"}}, "is no sample"),
        (lambda row: row | {"draft": row["draft"] | {"sample": "0"}}, "is no sample"),
        (lambda row: row | {"verdict": row["verdict"] | {"status": ["passed"]}}, "is no sample"),
        (lambda row: row | {"draft": row["draft"] | {"more": 1}}, "is no sample"),
        (lambda row: row | {"replies": 3}, "is no sample"),
        (lambda row: row | {"draft": row["draft"] | {"problem_id": "MBPP/11"}}, "is of another measurement"),
        (lambda row: row, "repeats a sample"),
    ],
)
def test_a_line_among_the_samples_that_is_none_is_told(
    profile: Profile, tmp_path: Path, change: Any, says: str
) -> None:
    run = Run(tmp_path / "run")
    drawn(run, profile)
    run.suite_result(LABEL, "base").unlink()
    path = run.suite_samples(LABEL, "base")
    first = read_json_lines(path)[0]
    append_json_line(path, change(first))
    append_json_line(path, first | {"verdict": first["verdict"] | {"status": "infra"}})
    with pytest.raises(UserError, match=rf"samples.jsonl, line 3 {says}"):
        drawn(run, profile)


def test_files_are_hashed_as_sha256sum_does(tmp_path: Path) -> None:
    for name, data in (("a", b""), ("b", b"abc"), ("c", bytes(9 << 20))):
        (tmp_path / name).write_bytes(data)
    found = sha256_of([tmp_path / name for name in "abc"])
    assert found["a"].startswith("e3b0c442") and found["b"].startswith("ba7816bf") and len(found) == 3


def test_problems_are_part_of_what_a_result_belongs_to(profile: Profile, tmp_path: Path) -> None:
    """Held by `problems_sha256`: a changed file of problems is another measurement."""
    run = Run(tmp_path / "run")
    drawn(run, profile)
    suites = load_suites(profile.evaluation)
    suite, tasks = suites["humaneval"]

    def harder(problem: Problem) -> Problem:
        return dataclasses.replace(problem, tests=problem.tests + "\n    assert False")

    changed = {"humaneval": (suite, [dataclasses.replace(t, problem=harder(t.problem)) for t in tasks])}
    folder = ensure_model(profile.model)
    with pytest.raises(UserError, match="problems_sha256"):
        plans(run, profile, {"base": ""}, changed, load_tokenizer(folder), weights_sha256(folder))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['{"step": 1', '{"step": 2}'], "line 1 is no JSON"),
        (['{"step": 1}'], "line 1 is no step of a training"),
        ([], "holds no step"),
    ],
)
def test_a_broken_line_of_the_training_is_told_by_the_report(
    profile: Profile, tmp_path: Path, lines: list[str], says: str
) -> None:
    with open_run(tmp_path / "run", profile, resume=False) as run:
        run.sft.mkdir()
        run.sft_meta.write_text('{"tokens": 1}')
        run.sft_metrics.write_text("".join(line + "\n" for line in lines))
        with pytest.raises(UserError, match=rf"metrics.jsonl.* {says}"):
            write_report(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda held: {},
        lambda held: held | {"result": {}},
        lambda held: held | {"result": held["result"] | {"more": 1}},
        lambda held: held | {"pass_rates": None},
    ],
)
def test_a_result_of_another_version_is_told_and_made_anew_from_its_samples(
    profile: Profile, tmp_path: Path, change: Any
) -> None:
    run = Run(tmp_path / "run")
    drawn(run, profile)
    path = run.suite_result(LABEL, "base")
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(change(whole)))
    with pytest.raises(UserError, match="is no result as this version writes it.*: remove it"):
        read_result(path)
    path.unlink()
    assert drawn(run, profile) == 0 and json.loads(path.read_text())["result"] == whole["result"]


def test_a_link_that_leads_to_other_weights_is_another_model(profile: Profile, tmp_path: Path) -> None:
    link, other = tmp_path / "link", tmp_path / "other"
    shutil.copytree(tmp_path / "model", other)
    overwrite_in_place(other / "model.safetensors")
    link.symlink_to(tmp_path / "model")
    linked = with_overrides(profile, [f"model.name={link}"])
    with open_run(tmp_path / "run", linked, resume=False) as run:
        assert drawn(run, linked) == 2
        link.unlink()
        link.symlink_to(other)
        assert outdated(run) == {(LABEL, "base"): "the base model's weights are others now"}
        assert drawn(run, linked) == 2 and outdated(run) == {}
