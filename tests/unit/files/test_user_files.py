"""Files of JSON lines are read whatever a tool put around them, and what is no row is told with its line."""

import gzip
import json
import os
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import UserError
from app.evaluation.scoring import Samples
from app.evaluation.stage import problem_paths
from app.evaluation.suites import humaneval
from app.evaluation.suites.humaneval import HumanEval
from app.evaluation.suites.registry import get_suite
from app.files.table_rows import read_lines
from app.files.user_files import user_path
from app.models.base import ensure_model
from app.overrides import with_overrides
from app.problem_sets.problem_files import rows
from app.profiles import smoke
from app.runs import runs_root

ROWS = [{"task_id": "HumanEval/0", "completion": "    return 'é\u2028'"}, {"task_id": "HumanEval/1", "completion": "x"}]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s"])
@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT.rstrip(b"\n"),
        TEXT.replace(b"\n", b"\r\n"),
        MARK + TEXT,
        b"\n\n" + TEXT.replace(b"\n", b"\n \n"),
        gzip.compress(TEXT),
        gzip.compress(MARK + TEXT.replace(b"\n", b"\r\n")),
        gzip.compress(TEXT[:50]) + gzip.compress(TEXT[50:]),
    ],
    ids=["plain", "no end", "carriage returns", "mark", "blank lines", "packed", "packed with all", "packed in parts"],
)
def test_every_reader_takes_what_tools_put_around_the_rows(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    assert [row for _, row in read_lines(path, "--cases")] == ROWS
    assert list(rows(path)) == ROWS
    with closing(Samples(path, HumanEval(), humaneval.load())) as samples:
        assert [row for problem in ("HumanEval/0", "HumanEval/1") for row in samples.rows(problem)] == ROWS


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "line 2 is no JSON"),
        (b"[1]", "line 2 is no JSON object"),
        (b"null", "line 2 is no JSON object"),
        (b'"text"', "line 2 is no JSON object"),
        (b'{"task_id": "\xff"}', "line 2 is no UTF-8"),
        (b'{"task_id": "a", "task_id": "b"}', "line 2 is ambiguous: it has the key 'task_id' twice"),
        (b"\x00\x00", "line 2 is no JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "line 2 is no JSON"),
        (b"[" * 100_000, "line 2 is no JSON"),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("place", ["inside", "last"])
def test_a_line_that_is_no_row_is_told_in_a_users_file(tmp_path: Path, line: bytes, says: str, place: str) -> None:
    for name, pack in (("f.jsonl", bytes), ("f.jsonl.gz", gzip.compress)):
        path = tmp_path / name
        first, second = TEXT.splitlines(keepends=True)
        path.write_bytes(pack(first + line + (b"\n" + second if place == "inside" else b"")))
        with pytest.raises(UserError, match=says):
            list(read_lines(path, "--cases"))
        with pytest.raises(UserError, match=says):
            list(rows(path))
        with pytest.raises(UserError, match=says):
            Samples(path, HumanEval(), humaneval.load())


def test_a_key_that_is_twice_in_an_inner_object_is_no_fault_of_the_row(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"a": {"b": 1, "b": 2}}\n')
    assert list(rows(tmp_path / "f")) == [{"a": {"b": 2}}]


PACKED = gzip.compress(TEXT, mtime=0)


@pytest.mark.parametrize("data", [PACKED[:-9], PACKED[:12], b"\x1f\x8b\x08 nothing"])
def test_a_packed_file_that_is_cut_off_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"--samples .*s.jsonl.gz can't be unpacked"):
        Samples(path, HumanEval(), humaneval.load())
    with pytest.raises(UserError, match=r"--problems .*s.jsonl.gz, line \d is cut off or damaged"):
        list(rows(path))


def test_samples_out_of_a_pipe_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="is a pipe"):
        Samples(tmp_path / "pipe", HumanEval(), humaneval.load())


def test_an_array_of_problems_may_have_a_mark_and_its_odd_row_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(MARK + b"\n [" + b",".join(TEXT.splitlines()) + b"]")
    assert list(rows(path)) == ROWS
    packed = tmp_path / "f.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(rows(packed)) == ROWS
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UserError, match="f.json.gz, the array is cut off or damaged"):
        list(rows(packed))
    for text, says in (
        ('[{"a": 1}, 2]', "row 2 is no JSON object"),
        ('[{"a": 1},\n{"a": 2}', "the array is cut off or damaged .*line 2 column 9"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=rf"^--problems .*f.json, {says}"):
            list(rows(path))


def test_problems_of_parquet_are_read_and_their_odd_row_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert list(rows(path)) == ROWS
    days = pa.array([0, 2**40], pa.timestamp("s"))  # the second is beyond the calendar
    pq.write_table(pa.table({"a": days}), path)
    with pytest.raises(UserError, match=r"^--problems .*f.parquet, row 2 is broken \("):
        list(rows(path))
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"^--problems .*f.parquet can't be read as Parquet"):
        list(rows(path))


MBPP = {"text": "Add.", "code": "def add(a, b):\n    return a + b", "test_list": ["assert add(1, 2) == 3"]}
LEETCODE = {"task_id": "two-sum", "query": "q", "prompt": "", "entry_point": "e", "test": "t", "completion": "c"}
NO_CALL = ["assert (lambda x: x)(3) == 3"]
APPS = {"problem_id": 5, "question": "q", "solutions": "[]", "difficulty": "interview", "starter_code": ""}


@pytest.mark.parametrize(
    ("suite", "good", "odd", "named"),
    [
        (
            "mbpp",
            MBPP | {"task_id": 11},
            {"test_list": NO_CALL},
            "row 2 .13.*call no function",
        ),
        ("mbpp", MBPP | {"task_id": 11}, {"test_list": None}, "row 2 .13"),
        ("mbpp", MBPP | {"task_id": 11}, {"code": "def add(:"}, "row 2 .13"),
        ("mbpp", MBPP | {"task_id": 11}, {"task_id": "13"}, "row 2 .'13'.*not one of 1 to 974"),
        ("leetcode", LEETCODE | {"difficulty": "Easy"}, {"test": 7}, "row 2 .'two-sum'"),
        ("apps", APPS | {"input_output": '{"inputs": ["1"], "outputs": ["1"]}'}, {"question": 7}, "row 2 .5"),
    ],
    ids=["no call", "null", "syntax", "id", "tests", "question"],
)
def test_one_odd_row_among_a_suites_problems_is_named(
    tmp_path: Path, suite: str, good: dict, odd: dict, named: str
) -> None:
    path = tmp_path / "problems.jsonl"
    good = good | {"test_setup_code": ""}
    second = good | ({"task_id": 13} if suite == "mbpp" else {}) | odd
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, second)))
    with pytest.raises(UserError, match=rf"problems.jsonl, {named}") as caught:
        get_suite(suite).load(path)
    assert "\n" not in str(caught.value) and "StopIteration" not in str(caught.value)


def test_a_tilde_is_a_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x" and user_path("a~b") == Path("a~b")
    with pytest.raises(UserError, match="'~nosuchuser/x' is unknown"):
        user_path("~nosuchuser/x")


@pytest.mark.parametrize("url", ["s3://bucket/run", "gs://bucket", "file:///run", "S3://bucket/run", "https://x/y"])
def test_a_url_is_no_path(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a folder `s3:` here, which a job's nodes don't share."""
    monkeypatch.setenv("POCKETCODER_RUNS", url)
    for ask in (lambda: user_path(url), runs_root):
        with pytest.raises(UserError, match=f"'{url}' is a URL, and a path is needed.*docs/cluster.md") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_link_that_leads_back_to_itself_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / "loop/run"):
        with pytest.raises(UserError, match="a link that leads back to itself"):
            user_path(str(path))


@pytest.mark.parametrize("name", ["~nosuchuser/x", "LOOP"])
def test_a_path_among_the_settings_that_leads_nowhere_gets_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    name = name.replace("LOOP", str(tmp_path / "loop"))
    for given in ("model.name={}", "evaluation.problems=[mbpp={}]"):
        profile = with_overrides(smoke(), ["model.source=path", given.format(name)])
        with pytest.raises(UserError, match="home directory|leads back"):
            problem_paths(profile.evaluation)
            ensure_model(profile.model)
