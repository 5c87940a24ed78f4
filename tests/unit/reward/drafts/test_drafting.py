"""Drafts are judged beside their drawing, kept with their tokens, drawn once, and never mixed with those of other
settings."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import UserError
from app.prompting.fences import fenced
from app.records import Prompt, Status, Verdict
from app.reward.drafts import files as draft_files
from app.reward.drafts.drafting import (
    UNTESTED,
    adapter_digest,
    judged_drafts,
    program_in,
    prompt_of,
    shape_of,
    stream_judged_drafts,
)
from app.reward.drafts.files import SCHEMA, lines_beside, read_drafts
from app.reward.records import JudgedDraft
from app.sandbox.catalogue import read_cases
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import Confinement, confinement
from app.settings import GenerationSettings, SandboxSettings
from tests.conftest import ROOT
from tests.unit.reward.made_drafts import HOT, CountingJudge, ScriptedGenerator, draft, problem, prompt

NAMES = ("a", "b", "c")
PROBLEMS = [problem(name) for name in NAMES]
PROMPTS = [prompt(name, 4) for name in NAMES]
PROGRAMS = (
    "def f(x):\n    return sorted(x)",
    "def f(x):\n    y = [*x]\n    y.sort()\n    return y",
    "def f(x):\n    return x",
    "def f(x):\n    return sorted(x)[::1]",
)
PASSES = [True, True, False, True] * 3


def by_sample(_: str, sample: int) -> str:
    return fenced(PROGRAMS[sample % len(PROGRAMS)])


@pytest.fixture(scope="module")
def judge() -> Iterator[LocalJudges]:
    settings = SandboxSettings(timeout_s=0.6, num_workers=1)
    with contextlib.closing(LocalJudges(settings, confinement())) as judges:
        yield judges


def drawn_until_killed(path: Path, at: int) -> None:
    """Runs in a process of its own, which ends when that many drafts are written."""

    def die() -> None:
        while len(lines_beside(path).read_text().splitlines()) <= at:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)

    with contextlib.closing(LocalJudges(SandboxSettings(timeout_s=2, num_workers=1), confinement())) as judges:
        judged_drafts(path, PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample, die=die, at=at), judges)


def test_each_draft_has_its_verdict_and_its_tokens(tmp_path: Path, judge: LocalJudges) -> None:
    path = tmp_path / "drafts.parquet"
    drafts = judged_drafts(path, PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample), judge)
    assert [(one.draft.problem_id, one.draft.sample) for one in drafts] == [(n, s) for n in NAMES for s in range(4)]
    assert [one.verdict.status == Status.PASSED for one in drafts] == PASSES
    assert [one.reward for one in drafts] == [float(passed) for passed in PASSES]
    for one in drafts:
        assert one.draft.token_ids == tuple(one.draft.text.encode()) and one.program in one.draft.text
        assert len(one.draft.token_logprobs) == len(one.draft.token_ids) and min(one.draft.token_logprobs) == -1
    assert read_drafts(path) == drafts
    assert pq.read_schema(path).equals(SCHEMA) and os.listdir(tmp_path) == [path.name]


def test_a_killed_drafting_goes_on_with_what_is_missing(tmp_path: Path, judge: LocalJudges) -> None:
    path, whole = tmp_path / "killed.parquet", tmp_path / "whole.parquet"
    there = judged_drafts(whole, PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample), judge)
    code = f"from pathlib import Path; from {__name__} import drawn_until_killed as d; d(Path({str(path)!r}), 7)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lines = lines_beside(path).read_text().splitlines()
    assert len(lines) == 1 + 7 and not path.exists()
    lines_beside(path).write_text("\n".join(lines)[:-40])  # torn in the middle of its last line
    generator = ScriptedGenerator(by_sample)
    resumed = judged_drafts(path, PROBLEMS, PROMPTS, HOT, generator, judge)
    assert len(generator.drawn) == 12 - 6
    assert [(one.draft, one.verdict.status) for one in resumed] == [(one.draft, one.verdict.status) for one in there]


def test_what_is_whole_is_not_drawn_again(tmp_path: Path) -> None:
    path, judge, generator = tmp_path / "d.parquet", CountingJudge(), ScriptedGenerator(by_sample)
    first = judged_drafts(path, PROBLEMS, PROMPTS, HOT, generator, judge)
    assert judged_drafts(path, PROBLEMS, PROMPTS, HOT, generator, judge) == first
    assert len(generator.drawn) == 12


def test_drafts_come_while_others_are_drawn(tmp_path: Path) -> None:
    generator = ScriptedGenerator(by_sample)
    drafts = stream_judged_drafts(tmp_path / "d.parquet", PROBLEMS, PROMPTS, HOT, generator, CountingJudge())
    next(drafts)
    assert len(generator.drawn) < 3 and len(lines_beside(tmp_path / "d.parquet").read_text().splitlines()) == 2


def adapter_at(folder: Path, weights: bytes) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return str(folder)


@pytest.mark.parametrize("whole", [True, False])
def test_drafts_of_other_settings_are_refused(tmp_path: Path, whole: bool) -> None:
    path, judge = tmp_path / "d.parquet", CountingJudge()
    adapter = adapter_at(tmp_path / "adapter", b"one")

    def draw(problems=PROBLEMS, prompts=PROMPTS, sampling=HOT, generator=None, adapter=adapter, model="m"):  # type: ignore[no-untyped-def]
        made = generator or ScriptedGenerator(by_sample)
        judged_drafts(path, problems, prompts, sampling, made, judge, adapter=adapter, facts={"model": model})

    def stop() -> None:
        raise InterruptedError

    with contextlib.nullcontext() if whole else pytest.raises(InterruptedError):
        draw(generator=None if whole else ScriptedGenerator(by_sample, die=stop, at=7))
    harder = [*PROBLEMS[1:], dataclasses.replace(PROBLEMS[0], problem=problem("a", "assert f([2]) == [2]").problem)]
    asked_else = [*PROMPTS[1:], Prompt(id="a", text="Sort.", samples=PROMPTS[0].samples)]
    for changed, told in (
        ({"sampling": dataclasses.replace(HOT, seed=1)}, "sampling.seed: 0 -> 1"),
        ({"problems": harder}, "problems_sha256"),
        ({"prompts": asked_else}, "prompts_sha256"),
        ({"adapter": ""}, "adapter_sha256"),
        ({"model": "n"}, "model: 'm' -> 'n'"),
    ):
        with pytest.raises(
            UserError, match=rf"was drawn with other settings \(.*{told}.*\): give those again"
        ) as told_:
            draw(**changed)
        assert "\n" not in str(told_.value)
    adapter_at(tmp_path / "adapter", b"two")  # the same folder, trained since
    with pytest.raises(UserError, match="adapter_sha256"):
        draw()
    adapter_at(tmp_path / "adapter", b"one")
    draw()


def test_an_adapter_is_read_again_only_when_its_files_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: reads.append(file.name) or digest(file, name))
    adapter = adapter_at(tmp_path / "adapter", b"one")
    first = adapter_digest(adapter)
    assert adapter_digest(adapter) == first and len(reads) == 2
    os.rename(adapter, tmp_path / "before")
    assert adapter_digest(adapter_at(tmp_path / "adapter", b"two")) != first and adapter_digest("") == ""


def test_copies_are_judged_once(tmp_path: Path) -> None:
    texts = (
        "def f(x):\n    return 1",
        "def f(x):  # one\n    '''Of it.'''\n    return 1",
        "def f(x): return 2",
        "def f(",
    )
    judge, generator = CountingJudge(), ScriptedGenerator(lambda _, sample: texts[sample % 4])
    path = tmp_path / "d.parquet"
    drafts = judged_drafts(path, PROBLEMS[:2], [prompt("a", 8), prompt("b", 8)], HOT, generator, judge)
    assert judge.programs == [(name, texts[sample]) for name in "ab" for sample in (0, 2, 3)]
    shapes = [one.shape for one in drafts[:4]]
    assert shapes[0] == shapes[1] != shapes[2] and shapes[3] == ""
    assert [one.verdict.detail for one in drafts[:3]] == [texts[0][:9], texts[0][:9], texts[2][:9]]


def test_a_resumed_drafting_knows_the_copies_of_what_was_judged_before(tmp_path: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    path, judge, same = tmp_path / "d.parquet", CountingJudge(), lambda *_: PROGRAMS[0]
    with pytest.raises(InterruptedError):
        judged_drafts(path, PROBLEMS[:1], PROMPTS[:1], HOT, ScriptedGenerator(same, die=stop, at=2), judge)
    judged_drafts(path, PROBLEMS[:1], PROMPTS[:1], HOT, ScriptedGenerator(same), judge)
    assert len(judge.programs) == 1


@pytest.mark.parametrize(
    "other",
    [
        "def f(x):\n    return sorted(x, reverse=False)",
        "def f(x, y=0):\n    return sorted(x)",
        "import os\ndef f(x):\n    return sorted(x)",
        "def f(x):\n    '''3'''\n    return eval(f.__doc__)",
    ],
)
def test_programs_that_may_differ_in_what_they_do_have_other_shapes(other: str) -> None:
    assert shape_of(other) != shape_of(PROGRAMS[0])
    assert shape_of(other) != shape_of(other.replace("'''3'''", "'''4'''")) or "__doc__" not in other


NESTED = """
class A:
    x = 'no docstring'
    def f(self):
        y = 1
        try:
            def g():
                return y
        except KeyError:
            class B:
                z = 1
        finally:
            match y:
                case 1:
                    async def h():
                        pass
"""


def test_docstrings_are_no_part_of_a_shape_wherever_they_are() -> None:
    documented = '"""Of the module."""' + NESTED
    for head in ("class A:", "def f(self):", "def g():", "class B:", "async def h():"):
        begin, _, end = documented.partition(head)
        indent = " " * (4 + len(begin) - len(begin.rstrip(" ")))
        documented = f'{begin}{head}\n{indent}"""Of it."""{end}'
    assert documented.count("Of ") == 6 and shape_of(documented) == shape_of(NESTED) != ""
    assert shape_of(NESTED.replace("'no docstring'", "'another'")) != shape_of(NESTED)


@pytest.mark.parametrize(
    "program",
    ["x = " + "(" * 300 + ")" * 300, "x = " + "1 + " * 5000 + "1", "\ud800", "a\0", "x = 0x" + "f" * 5000],
    ids=["brackets", "a long sum", "half a character", "a zero byte", "a number that Python does not print"],
)
def test_what_python_can_not_read_has_no_shape(program: str) -> None:
    assert shape_of(program) == ""


def test_a_draft_that_forges_earns_nothing(tmp_path: Path, judge: LocalJudges) -> None:
    cases = read_cases(ROOT / "tests/cases/sandbox.jsonl")
    hacks = [case for case in cases if "HACK" in case.id and Status.PASSED not in case.expected]
    assert len(hacks) > 20
    generator = ScriptedGenerator(lambda _, sample: fenced(hacks[sample].program))
    drafts = judged_drafts(tmp_path / "d.parquet", PROBLEMS[:1], [prompt("a", len(hacks))], HOT, generator, judge)
    earned = [case.id for case, one in zip(hacks, drafts, strict=True) if one.reward != 0]
    assert not earned


def test_verdicts_that_could_be_forged_are_shown_and_earn_nothing(tmp_path: Path) -> None:
    unsplittable = problem("a", "def check(candidate):\n    assert candidate(lambda: 3) is not None\n")
    generator = ScriptedGenerator(lambda *_: "def f(x):\n    return 1")
    settings = SandboxSettings(timeout_s=2, num_workers=1)
    for name, one, confined, tier in (
        ("unsafe", PROBLEMS[0], Confinement(landlock=False, seccomp=False), "unsafe"),
        ("unsplittable", unsplittable, confinement(), "in_process"),
    ):
        with contextlib.closing(LocalJudges(settings, confined)) as judges:
            path = tmp_path / f"{name}.parquet"
            (first, *_) = judged_drafts(path, [one], PROMPTS[:1], HOT, generator, judges)
        assert first.verdict.tier == tier and first.reward is None
        assert first.verdict.status == (Status.PASSED if one is unsplittable else Status.WRONG_ANSWER)


def test_what_the_sandbox_failed_on_is_judged_again_without_being_drawn_again(tmp_path: Path) -> None:
    path, generator = tmp_path / "d.parquet", ScriptedGenerator(by_sample)
    fails = CountingJudge(lambda _: Status.INFRA)
    with pytest.raises(UserError, match="no draft could be judged"):
        judged_drafts(path, PROBLEMS, PROMPTS, HOT, generator, fails)
    some = [problem("a", tests=""), PROBLEMS[1]], PROMPTS[:2]
    with pytest.raises(UserError, match="no draft could be judged"):  # though those without tests needed no judge
        judged_drafts(tmp_path / "some.parquet", *some, HOT, ScriptedGenerator(by_sample), fails)
    drafts = judged_drafts(path, PROBLEMS, PROMPTS, HOT, generator, CountingJudge())
    assert len(generator.drawn) == len(drafts) == 12 and all(one.reward == 1 for one in drafts)


def test_drafts_of_a_problem_without_tests_are_kept_without_a_reward(tmp_path: Path) -> None:
    problems = [problem("a", tests=""), problem("b")]
    judge = CountingJudge()
    drafts = judged_drafts(
        tmp_path / "d.parquet", problems, [prompt("a", 2), prompt("b", 2)], HOT, ScriptedGenerator(by_sample), judge
    )
    assert [one.verdict.tier for one in drafts] == [UNTESTED, UNTESTED, "A", "A"]
    assert [one.reward for one in drafts] == [None, None, 1, 1] and {name for name, _ in judge.programs} == {"b"}


@pytest.mark.parametrize(
    "break_",
    [
        lambda row: row.pop("packed_token_ids"),
        lambda row: row.update(packed_token_ids="AAA"),
        lambda row: row.update(packed_token_logprobs="AAAAAA=="),
        lambda row: row.update(status="fine"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, break_: Callable[[dict[str, object]], object]) -> None:
    path = tmp_path / "d.parquet"
    drafts = stream_judged_drafts(path, PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample), CountingJudge())
    next(drafts)
    drafts.close()  # type: ignore[attr-defined]
    settings, line = lines_beside(path).read_text().splitlines()
    row = json.loads(line)
    break_(row)
    lines_beside(path).write_text(f"{settings}\n{json.dumps(row)}\n")
    with pytest.raises(UserError, match=r"d\.jsonl, line 2 is no judged draft"):
        judged_drafts(path, PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample), CountingJudge())


def test_tokens_and_logprobs_come_out_of_a_line_as_the_parquet_file_has_them(tmp_path: Path) -> None:
    exact = [-0.0, -(2.0**-149), -1.1754943508222875e-38, -0.10000000149011612, -3.4028234663852886e38, -math.inf]
    inexact = [-0.1, -1 / 3, -1e-46, math.nextafter(-1.0, -2.0)]
    numbers = tuple(exact + inexact)
    ids = tuple([0, 151_935, 2**31 - 1, *range(len(numbers) - 3)])
    made = draft("a", PROGRAMS[0], 0)
    one = dataclasses.replace(made, token_ids=ids, token_logprobs=numbers, num_tokens=len(ids))
    judged = JudgedDraft(
        draft=one, program="", shape="", verdict=Verdict(problem_id="a", status=Status.PASSED, detail="")
    )
    path = tmp_path / "d.parquet"
    lines = lines_beside(path)
    draft_files.begin_lines(lines, {})
    draft_files.append(lines, judged, "")
    (resumed,) = draft_files.begin_lines(lines, {}).values()
    draft_files.finish(path, {}, [("a", 0)])
    (read,) = read_drafts(path)
    assert resumed == read and read.draft.token_ids == ids
    assert [*map(repr, read.draft.token_logprobs[: len(exact)])] == [*map(repr, exact)]
    assert read.draft.token_logprobs == tuple(pa.array(numbers, pa.float32()).to_pylist())


def test_a_drafting_goes_on_with_lines_of_a_version_that_wrote_lists(tmp_path: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    path, judge = tmp_path / "d.parquet", CountingJudge()
    there = judged_drafts(tmp_path / "whole.parquet", PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample), judge)
    with pytest.raises(InterruptedError):
        judged_drafts(path, PROBLEMS, PROMPTS, HOT, ScriptedGenerator(by_sample, die=stop, at=5), judge)
    settings, *held = lines_beside(path).read_text().splitlines()
    rows = [json.loads(line) for line in held]
    for row, one in zip(rows, there, strict=False):
        del row["packed_token_ids"], row["packed_token_logprobs"]
        row |= {"token_ids": [*one.draft.token_ids], "token_logprobs": [*one.draft.token_logprobs]}
    lines_beside(path).write_text("".join(f"{line}\n" for line in (settings, *map(json.dumps, rows))))
    generator = ScriptedGenerator(by_sample)
    assert judged_drafts(path, PROBLEMS, PROMPTS, HOT, generator, judge) == there
    assert len(rows) > 1 and len(generator.drawn) == 12 - len(rows)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "d.parquet")
    with pytest.raises(UserError, match="row 1 is no judged draft"):
        read_drafts(tmp_path / "d.parquet")
    (tmp_path / "d.parquet").write_text("PAR1")
    for read in (
        read_drafts,
        lambda path: judged_drafts(path, [], [], HOT, ScriptedGenerator(by_sample), CountingJudge()),
    ):
        with pytest.raises(UserError, match="can't be read"):
            read(tmp_path / "d.parquet")


def test_a_real_models_drafts_hold_the_tokens_it_drew(tmp_path: Path, smoke_model: Path, judge: LocalJudges) -> None:
    from app.generation.transformers_engine import TransformersEngine
    from app.models.base import load_tokenizer
    from app.profiles import smoke

    tokenizer = load_tokenizer(smoke_model)
    prompts = [Prompt(id=one.given.id, text=prompt_of(tokenizer, one), samples=(0, 1)) for one in PROBLEMS[:2]]
    assert PROBLEMS[0].question[0]["content"] in prompts[0].text
    engine = TransformersEngine(smoke().model, GenerationSettings(batch_size=4))
    sampling = dataclasses.replace(HOT, max_new_tokens=8)
    ends: list[float] = []
    path = tmp_path / "d.parquet"
    drafts = judged_drafts(
        path, PROBLEMS, prompts, sampling, engine, judge, on_drawn=lambda: ends.append(time.monotonic())
    )
    assert len(ends) == 1 and len(drafts) == 4
    for one in drafts:
        assert one.draft.mean_logprob == pytest.approx(sum(one.draft.token_logprobs) / one.draft.num_tokens)
        assert tokenizer.decode(one.draft.token_ids, skip_special_tokens=True) == one.draft.text
        assert one.reward is None or one.draft.num_tokens < 8  # untrained, it seldom ends


@pytest.mark.parametrize(("body", "reward"), [("return sorted(x)", 1), ("return x", 0)])
def test_a_program_that_prints_or_asserts_its_examples_is_no_better_for_it(
    judge: LocalJudges, body: str, reward: int
) -> None:
    """The example is one of the tests."""
    plain = f"def f(x):\n    {body}\n"
    more = f"{plain}\nprint(f([1, 2]))\nassert f([1, 2]) == [1, 2]\nif __name__ == '__main__':\n    print('passed')\n"
    jobs = [(PROBLEMS[0].problem, [program_in(PROBLEMS[0], fenced(program)) for program in (plain, more)])]
    [verdicts] = judge.judge_all(jobs)
    assert [verdict.reward for verdict in verdicts] == [reward, reward]
