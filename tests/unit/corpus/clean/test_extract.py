"""The corpus tasks on real files, without Ray: forms, masks, rejections, and going on where a kill left off."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.corpus.clean import extract
from app.corpus.clean.extract import ExtractJob, ShardFile, extract_shard
from app.corpus.clean.guard import Guard, guard_of
from app.corpus.mining.storage import PROBLEM_SCHEMA, problem_row, read_problems, write_problems
from app.corpus.recipes import Recipe
from app.corpus.records import Bug, Origin, SolvedProblem
from app.corpus.rows.assemble import AssembleJob, ShardCounts, assemble_shard
from app.corpus.rows.samples import HELD_OUT, RenderJob, render_shard
from app.corpus.rows.shares import choose
from app.corpus.shard_files import part, write_rows
from app.corpus.sources.distributions import SourceFile
from app.evaluation.suites import humaneval
from app.files.json_files import write_atomic
from app.models.base import load_tokenizer
from app.records import IGNORE, BenchmarkText, Problem, ProblemStyle
from tests.unit.corpus.builds import build_in

SOURCE = '''"""Tools for triangles, kept here for the tests of the corpus build and nothing else."""

KEY = "AKIAIOSFODNN7EXAMPLE"


def area(base, height):
    """Return the area of a triangle with this base and height."""
    if base < 0 or height < 0:
        raise ValueError("lengths can't be negative")
    return base * height / 2


def perimeter(a, b, c):
    """Return the perimeter of a triangle with these three sides."""
    total = a + b
    total += c
    return total
'''
HEADER = "def halves(numbers):\n"
SOLVED = SolvedProblem(
    problem=Problem(
        id="mined/shapes/halves",
        source="mined",
        licence="MIT",
        prompt=HEADER + '    """Return half of each number, in order.\n\n    >>> halves([2])\n    [1.0]\n    """\n',
        entry_point="halves",
        tests="assert halves([2]) == [1.0]\nassert halves([]) == []\nassert halves([4, 6]) == [2.0, 3.0]\n",
        style=ProblemStyle.ASSERTIONS,
        difficulty="easy",
        split="train",
    ),
    solution=HEADER + '    """Return half of each number, in order."""\n    return [n / 2 for n in numbers]\n',
    description="Return half of each number, in order.",
    bugs=(
        Bug(
            program=HEADER + '    """Return half of each number, in order."""\n    return [n // 2 for n in numbers]\n',
            failure="",
        ),
    ),
    origin=Origin(distribution="shapes", version="1", licence="MIT", path="shapes.py"),
)


@pytest.fixture(scope="module")
def guard() -> Guard:
    return guard_of({"humaneval": [task.benchmark_text for task in humaneval.load()]})


@pytest.fixture
def job(tmp_path: Path, smoke_model: Path, guard: Guard) -> ExtractJob:
    task = humaneval.load()[0]
    files = {
        "shapes.py": SOURCE,
        "leak.py": SOURCE + "\n\n" + task.problem.prompt + task.canonical_solution,
        "bad.py": "def",
        "gone.py": None,
    }
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    forms = dict.fromkeys(("doc_to_code", "completion", "problem", "fix_bug"), 1.0)
    forms |= dict.fromkeys(("code_to_doc", "fill_in", "multi_file", "tool_use", "file"), 0.0)
    build = build_in(tmp_path, guard, forms=forms)
    write_atomic(build.work / HELD_OUT, "[]")
    write_problems(build.problems, [])
    return ExtractJob(
        index=0, identity="one", build=build, files=files_of({name: tmp_path / name for name in files}, "shapes")
    )


def files_of(places: dict[str, Path], distribution: str, source: int = -1) -> tuple[ShardFile, ...]:
    """places: by path in the distribution."""
    return tuple(
        ShardFile(
            origin=Origin(distribution=distribution, version="1", licence="MIT", path=path),
            file=SourceFile(path=path, location=str(place)),
            source=source,
        )
        for path, place in places.items()
    )


def kept(job: ExtractJob) -> list[dict[str, Any]]:
    return pq.read_table(job.part("documents")).to_pylist()


def row_of(job: ExtractJob, path: str, name: str) -> int:
    return next(n for n, row in enumerate(kept(job)) if (row["path"], row["name"]) == (path, name))


def texts(job: ExtractJob, tokenizer: Any) -> tuple[str, str]:
    """All that is shown, and all that is learnt."""
    rows = pq.read_table(job.build.train / "part-00000.parquet").to_pylist()
    shown = "".join(tokenizer.decode(row["input_ids"]) for row in rows)
    return shown, "".join(tokenizer.decode([label for label in row["labels"] if label != IGNORE]) for row in rows)


@pytest.fixture(scope="module")
def tokenizer(smoke_model: Path) -> Any:
    return load_tokenizer(smoke_model)


def assemble(job: ExtractJob, keep: Sequence[int] = ()) -> ShardCounts:
    """The last two tasks of the build, and the choice between them."""
    own = {"index": job.index, "identity": job.identity, "build": job.build}
    rendering = RenderJob(keep=list(keep), num_shards=1, inputs=str(job.build.work), **own)
    render_shard(rendering)
    chosen = choose([rendering.part("samples")], job.build.recipe.forms.model_dump())
    return assemble_shard(AssembleJob(take=chosen.rows[0].tolist(), cuts=chosen.cuts[0], **own))


def with_recipe(job: ExtractJob, **parts: Any) -> ExtractJob:
    recipe = Recipe.model_validate(job.build.recipe.model_dump() | parts)
    return replace(job, build=replace(job.build, recipe=recipe))


def with_forms(job: ExtractJob, **shares: float) -> ExtractJob:
    return with_recipe(job, forms=dict.fromkeys(job.build.recipe.forms.model_dump(), 0.0) | shares)


def with_settings(job: ExtractJob, **settings: Any) -> ExtractJob:
    return replace(job, build=replace(job.build, **settings))


def test_documents_and_rejections_of_a_shard(job: ExtractJob) -> None:
    extract_shard(job)
    rejected = pq.read_table(job.part("rejected")).to_pylist()
    assert [row["name"] for row in kept(job) if row["path"] == "shapes.py"] == ["", "area", "perimeter"]
    leaked = {(row["path"], row["name"]) for row in rejected if row["reason"].startswith("benchmark")}
    assert ("leak.py", "") in leaked and ("leak.py", "has_close_elements") in leaked
    assert not any("has_close_elements" in row["text"] for row in kept(job))
    reasons = {row["path"]: row["reason"] for row in rejected}
    assert "too short" in reasons["bad.py"] and "unreadable" in reasons["gone.py"], "one odd file does not end it"


ODD = {
    "deep_sum.py": "x = " + " +\\\n".join(["value"] * 20_000),
    "deep_not.py": "x = (" + "not\n" * 20_000 + "1)",
    "deep_calls.py": "x = f" + "(\n)" * 20_000,
    "deep_elif.py": "if x:\n    pass\n" + "elif x:\n    pass\n" * 20_000,
    "deep_brackets.py": "x = " + "[\n" * 5_000 + "]" * 5_000,
    "utf16.py": SOURCE.encode("utf-16"),
    "escapes.py": b"# coding: raw_unicode_escape\n" + SOURCE.encode() + b"X = '\\ud800'\n",
    "hidden.py": SOURCE + "LEVEL = 'user\u202e \u2066# admin\u2069'\n",
    "latin.py": SOURCE.encode() + b"NAME = '\xe9'\n",
    "nul.py": SOURCE.encode() + b"\0",
    "empty.py": "",
    "one_line.py": "x = '" + "a" * 300_000 + "'\n",
    "surrogate.py": SOURCE.replace("these three sides.", "sides \\ud800 \\x00 of three."),
    "warned.py": SOURCE + "PATTERN = '\\d\\w'\nprint(1 is 1)\n",
    "form_feed.py": SOURCE.replace("\n\n\n", "\n\f\n\n").replace("\n", "\r\n"),
}


def test_an_odd_file_ends_no_shard_and_every_file_is_learnt_or_has_its_reason(job: ExtractJob, tmp_path: Path) -> None:
    for name, held in ODD.items():
        (tmp_path / name).write_bytes(held if isinstance(held, bytes) else held.encode())
    job = replace(job, files=files_of({name: tmp_path / name for name in ODD}, "odd"))
    job = with_forms(job, doc_to_code=1, code_to_doc=1, fill_in=1, completion=1, file=1)
    extract_shard(job)
    rejected = pq.read_table(job.part("rejected")).to_pylist()
    learnt = {row["path"] for row in kept(job)}
    assert learnt == {"surrogate.py", "warned.py", "form_feed.py"}
    assert {row["path"] for row in rejected if row["reason"]} == ODD.keys() - learnt
    reasons = {row["path"]: row["reason"] for row in rejected}
    assert reasons["hidden.py"] == "hidden order: a bidirectional control character, U+202E"
    counts = assemble(with_settings(job, seq_len=512), range(len(kept(job))))
    assert counts.examples_by_form["file"] == 3


def test_a_docstring_with_half_a_surrogate_pair_is_left_out_of_the_forms_that_write_it_out(
    job: ExtractJob, tmp_path: Path
) -> None:
    (tmp_path / "shapes.py").write_text(ODD["surrogate.py"])
    job = with_forms(job, code_to_doc=1, completion=1)
    extract_shard(job)
    for seed in range(8):  # the wording is drawn
        for folder in ("samples", "left_out"):
            job.part(folder).unlink(missing_ok=True)
        part(job.build.train, ".", 0).unlink(missing_ok=True)
        assemble(with_settings(job, seed=seed, seq_len=512), [row_of(job, "shapes.py", "perimeter")])
        left_out = pq.read_table(job.part("left_out")).to_pylist()
        if left_out:
            assert {row["reason"] for row in left_out} == {"encoding: half a surrogate pair"}
            return
    raise AssertionError("no wording writes the docstring out")


def test_a_file_with_an_unforeseen_error_is_rejected_alone(job: ExtractJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **more: Any) -> Any:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("app.corpus.clean.extract.functions", broken)
    extract_shard(job)
    rejected = pq.read_table(job.part("rejected")).to_pylist()
    assert [row["reason"] for row in rejected if row["path"] == "shapes.py"] == ["failed: RuntimeError (two lines)"]
    assert not any(row["path"] == "shapes.py" for row in kept(job)), "nothing of it is learnt without its functions"


def test_what_the_queue_left_out_has_its_reason_and_the_others_are_learnt(
    job: ExtractJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def at(what: str) -> str:
        told.append(what)
        return "crashes: its worker died 3 times" if what == "shapes: leak.py" else ""

    monkeypatch.setattr("app.corpus.clean.extract.at", at)
    extract_shard(job)
    rejected = pq.read_table(job.part("rejected")).to_pylist()
    reasons = [row["reason"] for row in rejected if row["path"] == "leak.py"]
    assert reasons == ["crashes: its worker died 3 times"] and kept(job)
    assert told[0] == "shapes: shapes.py" and told[-1] == ""


def test_code_that_a_link_brings_in_from_elsewhere_is_not_shown_beside_its_importer(
    job: ExtractJob, tmp_path: Path
) -> None:
    main = 'from .{name} import twice\n\n\ndef {name}_four(x):\n    """Return four times the number x, as it is."""\n'
    main += "    value = twice(x)\n    return twice(value)\n# " + "x" * 60 + "\n"
    helper = "def twice(x):\n    return 2 * x\n# " + "x" * 90 + "\n"
    names = ("beside", "linked", "_vendor.other")
    tree = tmp_path / "tree"
    (tree / "pkg/_vendor").mkdir(parents=True)
    (tmp_path / "elsewhere.py").write_text(helper)
    for name in names:
        (tree / f"pkg/of_{names.index(name)}.py").write_text(main.format(name=name).replace("_vendor.other_", "other_"))
    (tree / "pkg/beside.py").write_text(helper)
    (tree / "pkg/_vendor/other.py").write_text(helper)
    (tree / "pkg/linked.py").symlink_to(tmp_path / "elsewhere.py")
    paths = [f"pkg/of_{number}.py" for number in range(3)]
    job = replace(job, files=files_of({path: tree / path for path in paths}, "odd"))
    extract_shard(with_forms(job, multi_file=1))
    shown = {row["path"]: "return 2 * x" in row["context"] for row in kept(job) if row["name"]}
    assert shown == {"pkg/of_0.py": True, "pkg/of_1.py": False, "pkg/of_2.py": False}


def test_what_reading_a_sibling_does_is_charged_to_the_sibling(
    job: ExtractJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = 'from .beside import twice\n\n\ndef four(x):\n    """Return four times the number x, as it is."""\n'
    main += "    value = twice(x)\n    return twice(value)\n# " + "x" * 60 + "\n"
    for name in ("good", "kills"):
        (tmp_path / f"tree/{name}").mkdir(parents=True)
        (tmp_path / f"tree/{name}/main.py").write_text(main)
        (tmp_path / f"tree/{name}/beside.py").write_text("def twice(x):\n    return 2 * x\n# " + "x" * 90 + "\n")
    paths = ["good/main.py", "kills/main.py"]
    job = replace(job, files=files_of({path: tmp_path / "tree" / path for path in paths}, "odd"))
    events, real = [""], extract.clean

    def at(what: str) -> str:
        events.append(what)
        return "crashes: its worker died" if what == "odd: kills/beside.py" else ""

    def clean(raw: bytes, path: str, *given: Any) -> Any:
        events.append(f"clean {path}")
        return real(raw, path, *given)

    monkeypatch.setattr(extract, "at", at)
    monkeypatch.setattr(extract, "clean", clean)
    extract_shard(with_forms(job, multi_file=1))
    shown = {row["path"]: "return 2 * x" in row["context"] for row in kept(job) if row["name"]}
    assert shown == {"good/main.py": True, "kills/main.py": False}
    assert pq.read_table(job.part("rejected")).num_rows == 0
    around = {
        (before, after)
        for before, event, after in zip(events, events[1:], events[2:], strict=False)
        if event == "clean good/beside.py"
    }
    assert around == {("odd: good/beside.py", "odd: good/main.py")} and "clean kills/beside.py" not in events


@pytest.mark.parametrize("kept_out", [{"exclude_paths": ["pkg/helpers.py"]}, {"include_paths": ["pkg/main.py"]}])
def test_code_of_a_path_that_the_source_leaves_out_is_not_shown_beside_its_importer(
    job: ExtractJob, tmp_path: Path, kept_out: dict[str, Any]
) -> None:
    tree = tmp_path / "tree/pkg"
    tree.mkdir(parents=True)
    main = 'from .helpers import twice\n\n\ndef four(x):\n    """Return four times the number x, as it is."""\n'
    (tree / "main.py").write_text(main + "    value = twice(x)\n    return twice(value)\n# " + "x" * 60 + "\n")
    (tree / "helpers.py").write_text("def twice(x):\n    return 2 * x\n# " + "x" * 90 + "\n")
    job = with_forms(replace(job, files=files_of({"pkg/main.py": tree / "main.py"}, "shapes", 0)), multi_file=1)
    shown = []
    for patterns in ({}, kept_out):
        source = {"kind": "tree", "path": str(tmp_path / "tree")} | patterns
        extract_shard(replace(with_recipe(job, sources=[source]), identity=str(patterns)))
        shown += ["return 2 * x" in row["context"] for row in kept(job) if row["name"] == "four"]
    assert shown == [True, False]


def test_a_docstring_or_default_that_no_dialogue_can_hold_ends_no_shard(job: ExtractJob, tmp_path: Path) -> None:
    odd = "def huge(a, b=0x" + "f" * 5000 + '):\n    """Return the sum of both numbers as a number."""\n'
    odd += "    total = a\n    total += b\n    return total\n\n\n"
    odd += odd.replace("huge", "half").replace("as a", "as \\ud800 a").replace("f" * 5000, "f")
    (tmp_path / "shapes.py").write_text(SOURCE + "\n\n" + odd)
    cleaning = {"max_line_chars": 9000, "max_mean_line_chars": 900}
    job = with_settings(with_recipe(with_forms(job, tool_use=1), cleaning=cleaning), seq_len=2048)
    extract_shard(job)
    assert {"huge", "half", "area"} <= {row["name"] for row in kept(job)}
    counts = assemble(job, range(len(kept(job))))
    assert counts.examples_by_form["tool_use"] >= 2


def test_a_function_whose_dialogue_fails_is_left_out_with_its_reason(
    job: ExtractJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(document: Any, *given: Any, **more: Any) -> Any:
        raise RuntimeError("odd")

    monkeypatch.setattr("app.corpus.examples.tool_dialogues.described", broken)
    job = with_forms(job, tool_use=1, file=1)
    extract_shard(job)
    assemble(job, range(len(kept(job))))
    left_out = pq.read_table(job.part("left_out")).to_pylist()
    told = {(row["name"], row["what"], row["reason"]) for row in left_out}
    assert ("area", "tool_use", "failed: RuntimeError (odd)") in told


def test_a_secret_is_masked_before_anything_is_cut_and_is_counted(job: ExtractJob) -> None:
    extract_shard(job)
    assert not any("AKIA" in row["text"] for row in kept(job))
    metadata = pq.read_schema(job.part("documents")).metadata
    assert json.loads(metadata[b"masked"])["secrets"] == 2, "one in each file that was read"


def test_a_dialogue_learns_its_answer_only_and_a_completion_its_body(job: ExtractJob, tokenizer: Any) -> None:
    extract_shard(job)
    counts = assemble(job, [row_of(job, "shapes.py", "area")])
    shown, learnt = texts(job, tokenizer)
    assert "Complete the following Python function" in shown and "Complete the following" not in learnt
    assert learnt.count("return base * height / 2") == 2 and learnt.count("<|im_end|>") == 2
    assert counts.tokens_by_form.keys() == {"doc_to_code", "completion"}
    assert [row[:3] for row in counts.documents] == [["shapes", "MIT", "shapes.py"]]


def test_a_writer_that_was_killed_leaves_nothing_behind(job: ExtractJob) -> None:
    extract_shard(job)
    left = job.build.train / ".part-00000.parquet.417.tmp"
    left.parent.mkdir()
    left.write_bytes(b"PAR1")
    assemble(job, [0, 1, 2])
    assert [path.name for path in job.build.train.iterdir()] == ["part-00000.parquet"]


def test_a_finished_shard_is_not_done_again(job: ExtractJob) -> None:
    extract_shard(job)
    first = assemble(job, [0, 1, 2])
    path = job.build.train / "part-00000.parquet"
    before = path.stat().st_mtime_ns
    extract_shard(job)
    assert assemble(job, [0, 1, 2]) == first and path.stat().st_mtime_ns == before


def test_a_part_of_another_identity_is_made_anew(job: ExtractJob) -> None:
    extract_shard(job)
    assemble(job, [0, 1, 2])
    Path(job.files[0].file.location).write_text(SOURCE.replace("def area", "def surface"))
    extract_shard(job)
    assert not any(row["name"] == "surface" for row in kept(job)), "the identity says that nothing has changed"
    job = replace(job, identity="two")
    extract_shard(job)
    assert any(row["name"] == "surface" for row in kept(job))
    rows = [row_of(job, "shapes.py", "surface")]
    assert assemble(job, rows).documents
    assert pq.read_schema(job.build.train / "part-00000.parquet").metadata[b"identity"] == b"two"


def test_a_shard_without_an_identity_is_of_an_older_version_and_made_anew(job: ExtractJob) -> None:
    extract_shard(job)
    table = pq.read_table(job.part("documents")).replace_schema_metadata(None)
    pq.write_table(table.slice(0, 0), job.part("documents"))
    extract_shard(job)
    assert kept(job)


def test_a_dialogue_longer_than_a_row_is_left_out_with_the_reason_not_cut(job: ExtractJob) -> None:
    extract_shard(job)
    job = with_forms(job, doc_to_code=1, file=1)
    keep = [row_of(job, "shapes.py", name) for name in ("", "area")]
    counts = assemble(with_settings(job, seq_len=40), keep)
    left_out = pq.read_table(job.part("left_out")).to_pylist()
    assert [row["what"] for row in left_out] == ["doc_to_code"] and left_out[0]["reason"].startswith(
        "longer than a row"
    )
    assert counts.cut == 1 and counts.rows >= 2, "plain text goes on in the next row"


def test_shares_are_of_the_tokens_that_are_learnt_and_a_file_ends_where_its_share_is_full(
    job: ExtractJob, tokenizer: Any
) -> None:
    extract_shard(job)
    keep = [row_of(job, "shapes.py", name) for name in ("", "area", "perimeter")]
    everything = assemble(with_forms(job, completion=1, file=1), keep).learnt_tokens_by_form
    for folder in (job.build.train, job.build.work / "samples"):
        (folder / "part-00000.parquet").unlink()
    counts = assemble(with_forms(job, completion=1, file=0.7), keep)
    learnt = counts.learnt_tokens_by_form
    assert learnt["completion"] == everything["completion"] and learnt["file"] < everything["file"]
    assert learnt["file"] == pytest.approx(0.7 * sum(learnt.values()), abs=1)
    assert counts.learnable_tokens_by_form == everything
    rows = pq.read_table(job.build.train / "part-00000.parquet").to_pylist()
    labels = [label for row in rows for label in row["labels"] if label != IGNORE]
    assert sum(learnt.values()) == len(labels), "what is counted is what the rows hold"


def checked(work: Path) -> Path:
    path = part(work, "checked", 0)
    write_rows(path, [problem_row(SOLVED)], PROBLEM_SCHEMA)
    return path


def test_problems_come_back_from_their_files_as_they_were(tmp_path: Path) -> None:
    counts = write_problems(tmp_path, [checked(tmp_path)])
    assert read_problems(tmp_path, "train") == [SOLVED] and read_problems(tmp_path, "test") == []
    assert counts["train"] == {"mined": 1}


def test_a_training_problem_is_shown_with_its_bug_and_a_test_is_kept_hidden(job: ExtractJob, tokenizer: Any) -> None:
    extract_shard(job)
    write_problems(job.build.problems, [checked(job.build.work)])
    counts = assemble(job)
    shown, learnt = texts(job, tokenizer)
    assert counts.examples_by_form["problem"] >= 2 and counts.examples_by_form["fix_bug"] == 1
    assert "n // 2" in shown and "n // 2" not in learnt, "the bug is shown and not learnt"
    assert shown.count("assert halves([4, 6])") < shown.count("def halves"), "hidden tests are never all shown"


def test_a_held_out_problem_is_kept_out_of_training_documents(job: ExtractJob) -> None:
    extract_shard(job)
    area = kept(job)[row_of(job, "shapes.py", "area")]["text"]
    held = asdict(BenchmarkText(problem_id="mined/area", entry_point="", text=area))
    write_atomic(job.build.work / HELD_OUT, json.dumps([held]))
    counts = assemble(job, [row_of(job, "shapes.py", "area")])
    assert counts.rows == 0 and any("held-out problem" in name for name in counts.left_out)
