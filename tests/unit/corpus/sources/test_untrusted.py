"""One odd file, package, row or name ends nothing: each is rejected with its reason, and the rest is read."""

import gzip
import importlib.metadata
import json
import os
import random
import socket
import struct
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.recipe_check import check_recipe
from app.corpus.recipes import LeetCodeTrain, MbppTrain
from app.corpus.records import RejectedFileError
from app.corpus.sources import packages, untrusted
from app.corpus.sources.distributions import Distribution, read_source
from app.corpus.sources.find import draw_files, find_distributions
from app.corpus.sources.task_files import RejectedProblem, solved_problems
from app.errors import UserError
from app.files import table_rows
from app.files.user_files import matching
from tests.unit.corpus.sources.test_find import COLUMNS, GOOD, recipe_of, row, write_lines, write_tree, write_wheel

METADATA = "Metadata-Version: 2.1\nName: odd\nVersion: 1\nLicense: MIT\n"
FULL = {"split": {"train": 1, "validation": 0, "test": 0}}


def found_in(kind: str, path: Path, **more: Any) -> list[Distribution]:
    return find_distributions(recipe_of({"kind": kind, "path": str(path)} | more), path.parent / "cache")


def reasons(distribution: Distribution) -> dict[str, str]:
    return dict(distribution.rejected)


# ---------------------------------------------------------------- trees


def test_what_is_not_a_regular_file_of_its_tree_is_rejected_and_never_opened(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, "odd")
    outside = tmp_path / "secret.py"
    outside.write_text(GOOD)
    os.mkfifo(tree / "pipe.py")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tree / "s.py"))
        (tree / "folder.py").mkdir()
        (tree / "out.py").symlink_to(outside)
        (tree / "up.py").symlink_to("../secret.py")
        (tree / "loop.py").symlink_to("loop.py")
        (tree / "gone.py").symlink_to("nowhere.py")
        (tree / "device.py").symlink_to("/dev/zero")
        (tree / "inside.py").symlink_to("src/odd.py")
        (tree / "away").symlink_to(tmp_path)
        (tree / "itself").symlink_to(tree)
        (odd,) = found_in("tree", tree)
    assert [file.path for file in odd.files] == ["inside.py", "src/odd.py"]
    found = reasons(odd)
    assert found["pipe.py"] == "unreadable: no regular file (a named pipe)" and "a socket" in found["s.py"]
    assert "a folder" in found["folder.py"] and found["loop.py"] == found["gone.py"] == "link: it leads nowhere"
    out = {path for path, reason in found.items() if reason == "link: it leads out of its tree"}
    assert {"out.py", "up.py", "device.py", "away"} <= out


def test_a_file_that_changes_into_something_else_after_it_was_listed_is_rejected_when_it_is_read(
    tmp_path: Path,
) -> None:
    tree = write_tree(tmp_path, "odd")
    (odd,) = found_in("tree", tree)
    path = Path(odd.files[0].location)
    for change in (
        path.unlink,
        lambda: os.mkfifo(path),
        lambda: (path.unlink(), path.mkdir()),
        lambda: (path.rmdir(), path.symlink_to("/dev/zero")),
        lambda: (path.unlink(), path.write_bytes(b"x"), os.truncate(path, 1 << 40)),
    ):
        change()
        with pytest.raises(RejectedFileError, match="^(unreadable|too large): "):
            read_source(odd.files[0])


def test_names_that_are_not_utf_8_or_hold_control_characters_are_rejected_and_shown_with_replacement(
    tmp_path: Path,
) -> None:
    tree = write_tree(tmp_path, "odd")
    for name in (b"caf\xe9.py", b"a\nb.py", b"a\x1b[2Jb.py"):
        with open(os.fsencode(tree) + b"/" + name, "wb") as file:
            file.write(GOOD.encode())
    os.mkdir(os.fsencode(tree) + b"/d\xff")
    Path(os.fsdecode(os.fsencode(tree) + b"/d\xff/x.py")).write_text(GOOD)
    (odd,) = found_in("tree", tree)
    assert [file.path for _, file in draw_files([odd], 0, None)] == ["src/odd.py"]
    assert {reason.partition(":")[0] for reason in reasons(odd).values()} == {"name"}
    assert {"caf\ufffd.py", "d\ufffd/x.py", "a\nb.py"} <= reasons(odd).keys()
    json.dumps(list(reasons(odd)), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "project",
    [
        'license="MIT"\nauthors=["A <a@b.test>"]',
        'license="MIT"\nauthors="A"',
        'license="MIT"\nauthors=[{name = 3}, {email = "x"}]',
        'license="MIT"\nurls="https://a.test"',
        'license="MIT"\nurls={home = 3}',
        'license="MIT"\nname=3\nversion=1.0',
        'license="MIT"\nname=["a"]\nclassifiers="x"',
        'license="MIT"\nclassifiers=[1, {a = 1}]',
        'license="MIT"\nname="  \\n "',
        'license={text = "MIT"}\nreadme=3',
    ],
)
def test_a_field_of_a_pyproject_that_has_another_type_is_ignored(tmp_path: Path, project: str) -> None:
    tree = write_tree(tmp_path, "odd")
    (tree / "pyproject.toml").write_text(f"[project]\n{project}\n")
    (odd,) = found_in("tree", tree)
    assert (odd.name, odd.verdict.approved, len(odd.files)) == ("odd", True, 1)


@pytest.mark.parametrize(
    "text", ['project = "x"', "project = [1]", "[project", "\x00", "a = " + "[" * 50_000, "[[project]]"]
)
def test_a_pyproject_that_is_none_leaves_the_licence_to_the_licence_file(tmp_path: Path, text: str) -> None:
    tree = write_tree(tmp_path, "odd")
    (tree / "pyproject.toml").write_text(text)
    (odd,) = found_in("tree", tree)
    assert odd.name == "odd" and not odd.verdict.approved and odd.verdict.evidence == "none"


def test_a_tree_that_can_not_be_read_is_rejected_and_the_next_one_is_read(tmp_path: Path) -> None:
    write_tree(tmp_path / "trees", "good")
    huge = write_tree(tmp_path / "trees", "huge")
    os.truncate(huge / "pyproject.toml", 1 << 40)
    pipe = write_tree(tmp_path / "trees", "pipe")
    os.mkfifo(pipe / "LICENSE")
    (write_tree(tmp_path / "trees", "folder") / "LICENSE").mkdir()
    found = {d.name: d for d in found_in("tree", tmp_path / "trees")}
    assert found["huge"].verdict.reason.startswith("unreadable: too large") and not found["huge"].files
    assert all(found[name].verdict.approved for name in ("good", "pipe", "folder"))


def test_two_trees_of_one_name_are_both_kept(tmp_path: Path) -> None:
    (tmp_path / "trees").mkdir()
    for folder in ("a", "b"):
        write_tree(tmp_path / folder, "demo").rename(tmp_path / "trees" / folder)
    first, second = found_in("tree", tmp_path / "trees")
    assert (first.name, second.name) == ("demo", "demo (b)") and first.files and second.files
    assert first.verdict.approved and second.verdict.approved


def test_of_one_name_the_one_under_an_approved_licence_is_used_whichever_comes_first(tmp_path: Path) -> None:
    for version, licence in (("3.0", "MIT"), ("2.0", "MIT"), ("1.0", "LicenseRef-Secret")):
        path = write_wheel(tmp_path, "two", licence)
        path.rename(tmp_path / f"two-{version}-py3-none-any.whl")
    used, *refused = found_in("wheels", tmp_path)
    assert used.files and used.verdict.approved and not any(d.files for d in refused)
    assert sorted(d.verdict.reason.partition(":")[0][:9] for d in refused) == ["The OSI d", "duplicate"]


# ---------------------------------------------------------------- wheels


def member(name: str, *, mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    return info


def test_odd_members_of_a_wheel_are_rejected_and_the_others_read(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, "odd")
    with zipfile.ZipFile(path, "a") as wheel, pytest.warns(UserWarning, match="Duplicate"):
        wheel.writestr("odd/__init__.py", GOOD + "# again\n")
        wheel.writestr(member("odd/link.py", mode=0o120777), "/etc/passwd")
        wheel.writestr(member("/etc/abs.py"), GOOD)
        wheel.writestr(member("../up.py"), GOOD)
        wheel.writestr(member("odd/bz.py", method=zipfile.ZIP_BZIP2), GOOD)
        wheel.writestr(member("odd/bomb.py"), b"#" * (untrusted.MAX_FILE_BYTES + 1))
        wheel.writestr(member("odd\\_vendor\\six.py"), GOOD)
        wheel.writestr("odd/dir.py/", b"")
    (odd,) = found_in("wheels", tmp_path)
    assert [file.path for file in odd.files] == ["odd/__init__.py", "odd/bomb.py"]
    assert read_source(odd.files[0]).endswith(b"# again\n"), "as every program that unpacks it"
    with pytest.raises(RejectedFileError, match="too large"):
        read_source(odd.files[1])
    found = reasons(odd)
    assert found["odd/__init__.py"].startswith("duplicate") and "a link" in found["odd/link.py"]
    assert found["/etc/abs.py"].startswith("outside") and found["../up.py"].startswith("outside")
    assert "method 12" in found["odd/bz.py"] and found["odd/_vendor/six.py"] == "vendored: in _vendor"


def test_a_member_that_lies_about_its_size_is_unpacked_no_further(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.py", b"\0" * (32 << 20))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<I", 32 << 20), struct.pack("<I", 100)))
    with zipfile.ZipFile(path) as archive, pytest.raises(Exception, match=r"CRC|size|too large"):
        untrusted.read_member(archive, "bomb.py", 1000)


def test_an_encrypted_member_is_rejected(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, "odd")
    raw = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(mark) + place] |= 1
    path.write_bytes(raw)
    (odd,) = found_in("wheels", tmp_path)
    assert not odd.files and reasons(odd)["odd/__init__.py"] == "unreadable: encrypted"


def test_wheels_that_can_not_be_read_are_rejected_by_their_names_and_the_next_one_is_read(tmp_path: Path) -> None:
    write_wheel(tmp_path, "good")
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"PK")
    (tmp_path / "empty-1.0-py3-none-any.whl").write_bytes(b"")
    (tmp_path / "folder-1.0-py3-none-any.whl").mkdir()
    os.mkfifo(tmp_path / "pipe-1.0-py3-none-any.whl")
    with zipfile.ZipFile(tmp_path / "bare-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("bare.py", GOOD)
    whole = write_wheel(tmp_path, "cut").read_bytes()
    (tmp_path / "cut-1.0-py3-none-any.whl").write_bytes(whole[:-30])
    found = {d.name: d for d in found_in("wheels", tmp_path)}
    assert found.pop("good").files
    assert sorted(found) == ["bare", "broken", "cut", "empty", "folder", "pipe"]
    assert all(d.verdict.reason.startswith("unreadable: ") and not d.files for d in found.values())


# ---------------------------------------------------------------- what is installed


@pytest.mark.parametrize(
    ("meta", "record", "approved"),
    [
        ((METADATA + "Author: Jos\xe9\n").encode("latin-1"), b"a.py,,\n", True),
        (METADATA.encode(), b"a,b.py,sha256=x,12\n", True),
        (METADATA.encode(), b"a.py,,\n\nb.py,,\n", True),
        (METADATA.encode(), b"a.py,sha256=x,twelve\n", True),
        (METADATA.encode(), b"\xe9.py,,\n", True),
        (METADATA.encode(), b"a.py\nb.py,x\n", True),
        (METADATA.encode(), b'"a.py,,\n', True),
        (METADATA.encode(), b"." + b"," * 200, True),
        (b"\xef\xbb\xbf" + METADATA.encode(), b"a.py,,\n", True),
        (METADATA.replace("Version: 1", "Version: not a version!").encode(), b"a.py,,\n", True),
        ((METADATA + "Name: other\nLicense: Secret\n").encode(), b"a.py,,\n", True),
        (METADATA.replace("MIT", "\xd8\xff\udcff").encode("utf-8", "surrogateescape"), b"a.py,,\n", False),
        (b"", b"a.py,,\n", False),
        (b"\x00\xff\n\n", b"a.py,,\n", False),
        (METADATA.encode(), b"a.py," + b"x" * 200_000 + b",\n", False),
    ],
)
def test_odd_metadata_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meta: bytes, record: bytes, approved: bool
) -> None:
    for name, raw in (("odd", meta), ("good", METADATA.replace("odd", "good").encode())):
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_bytes(raw)
        (info / "RECORD").write_bytes(record if name == "odd" else b"a.py,,\n")
    (tmp_path / "a.py").write_text(GOOD)
    real = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: real(path=[str(tmp_path)]))
    found = {d.name: d for d in packages.installed(frozenset())}
    assert sorted(found) == ["good", "odd"] and found["good"].files
    assert found["odd"].verdict.approved is approved and (approved or found["odd"].verdict.reason)


def test_a_record_that_leads_out_of_the_environment_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "RECORD").write_text("/etc/abs.py,,\n//etc/abs.py,,\n../../up.py,,\npkg/../../x.py,,\na.py,,\n")
    real = importlib.metadata.distributions
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: real(path=[str(tmp_path)]))
    (odd,) = packages.installed(frozenset())
    assert [file.path for file in odd.files] == ["a.py"]
    assert set(reasons(odd).values()) == {"outside: the path leads out of its package"} and len(odd.rejected) == 4


# ---------------------------------------------------------------- tables

LINE = json.dumps(row()).encode()
NOISE = random.Random(0).randbytes(9000).hex().encode()
"""What does not pack well, so that a cut-off file still holds the rows before it."""


def table(path: Path, **more: Any) -> list[Distribution]:
    return found_in("jsonl", path, columns=COLUMNS, **more)


@pytest.mark.parametrize(
    ("name", "raw", "num_files", "reason"),
    [
        ("a.jsonl", LINE + b"\n\n \r\n", 1, ""),
        ("a.jsonl.gz", gzip.compress(LINE + b"\n\n"), 1, ""),
        ("a.jsonl", b"\xef\xbb\xbf" + LINE + b"\n", 1, ""),
        ("a.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + LINE), 1, ""),
        ("packed.jsonl", gzip.compress(LINE), 1, ""),
        ("a.json", b"[" + LINE + b", 3]", 1, "unreadable: no JSON object"),
        ("a.jsonl", LINE.replace(b"\n", b"") + b"\r\n" + LINE, 2, ""),
        ("a.jsonl", b"[1]\n" + LINE + b"\n3\nnull\n", 1, "unreadable: no JSON object"),
        ("a.jsonl", LINE + b"\n{oops\n", 1, "unreadable: no JSON"),
        ("a.jsonl", LINE + b"\n" + LINE.replace(b"ada", b"\xff"), 1, "unreadable: no UTF-8"),
        ("a.jsonl", LINE + b'\n{"text": "x", "text": "y"}\n', 1, "unreadable: ambiguous: it has the key 'text' twice"),
        ("a.jsonl", LINE + b"\n" + b"[" * 200_000, 1, "unreadable: no JSON"),
        ("a.jsonl.gz", gzip.compress((LINE + b"\n") * 3 + NOISE)[:-3000], 3, "unreadable: cut off"),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(text=3)).encode(), 1, "content is not text"),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(text=[GOOD])).encode(), 1, "content is not text"),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(file={"a": 1})).encode(), 1, "path is not text"),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(licences={"a": 1})).encode(), 1, "licence: "),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(licences="(" * 5000)).encode(), 1, ""),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(repo="\ud800", sha=4.5, file="\ud800.py")).encode(), 2, ""),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(file="pkg\\tests\\..\\..\\a.py")).encode(), 1, "outside"),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(file="pkg\\_vendor\\a.py")).encode(), 1, "vendored: in _vendor"),
        ("a.jsonl", LINE + b"\n" + json.dumps(row(file="C:\\x\\a.py")).encode(), 1, "outside"),
        ("a.jsonl", b"{}\n" + LINE, 1, "content missing"),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else None,
)  # fmt: skip
def test_an_odd_row_is_rejected_with_its_reason_and_the_others_are_read(
    tmp_path: Path, name: str, raw: bytes, num_files: int, reason: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    found = table(tmp_path / name)
    assert sum(len(d.files) for d in found) == num_files
    given = [text for d in found for _, text in d.rejected]
    assert all(text.startswith(reason) for text in given) and (given or not reason), given


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_rows, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.jsonl").write_bytes(b'{"x": "' + b"y" * 5000 + b'"}\n' + LINE[:990] + b"\n")
    rows = list(table_rows.readable_rows(tmp_path / "a.jsonl", "source"))
    assert rows[0] == table_rows.Unreadable(place="line 1", reason="too large: more than 1000 bytes")
    assert len(rows) == 2 and isinstance(rows[1], dict)


def test_what_exists_under_its_very_name_is_not_a_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "t [x]*"
    folder.mkdir()
    for name in ("a[1].jsonl", "b.jsonl"):
        (folder / name).write_bytes(LINE)
    assert [path.name for path in matching(str(folder / "a[1].jsonl"))] == ["a[1].jsonl"]
    assert [path.name for path in matching(str(folder / "*.jsonl"))] == ["a[1].jsonl", "b.jsonl"]
    assert matching(str(folder / "none-*")) == [] == matching("/nowhere/at/all/*.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    assert matching(str(folder / "pipe.jsonl")) == []


def test_rows_of_parquet_whose_text_is_not_utf_8_are_rejected_alone(tmp_path: Path) -> None:
    raw = pa.array([GOOD.encode(), b"\xff\xfe"], pa.binary())
    texts = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    columns = {key: [value, value] for key, value in row(licences="MIT").items() if key != "text"}
    pq.write_table(pa.table({**columns, "text": texts}), tmp_path / "t.parquet")
    (one,) = [d for d in found_in("parquet", tmp_path / "t.parquet", columns=COLUMNS) if d.files]
    found = found_in("parquet", tmp_path / "t.parquet", columns=COLUMNS)
    assert len(one.files) == 1 and [text for d in found for _, text in d.rejected][0].startswith(
        "unreadable: broken (Unicode"
    )


def test_a_table_without_a_single_row_to_read_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for name, raw in (("a.jsonl", b"[1]\n2\n"), ("b.jsonl.gz", gzip.compress(b"x" * 99)[:20]), ("c.jsonl", b"\xff\n")):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(UserError, match=name) as caught:
            table(tmp_path / name)
        assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- files of problems


def test_an_odd_row_of_a_task_file_is_rejected_and_the_others_are_taken(tmp_path: Path) -> None:
    task = {"text": "Add.", "code": "def add(a, b):\n    return a + b", "test_list": ["assert add(1, 2) == 3"]}
    task |= {"test_setup_code": "", "challenge_test_list": []}
    rows = [
        task | {"task_id": 601},
        task | {"task_id": 602, "code": "add = lambda a, b: a + b"},
        task | {"task_id": 603, "test_list": None},
        task | {"task_id": 604, "code": "def ("},
        task | {"task_id": 605, "text": "\ud800"},
        {"task_id": 606},
        task | {"task_id": 11},
        task | {"task_id": "x"},
        task | {"task_id": 607},
    ]
    path = write_lines(tmp_path / "mbpp.jsonl", rows)
    path.write_text(path.read_text() + "[1]\n{oops\n")
    recipe = recipe_of(
        {"kind": "mbpp_train", "path": str(path)}, {"kind": "installed_python"}, licences={"allow_non_osi": True}
    )
    kept, rejected = solved_problems(MbppTrain(kind="mbpp_train", path=str(path)), recipe, 0)
    assert [solved.problem.id for solved in kept] == ["MBPP/601", "MBPP/607"], "task 11 is a test task"
    assert all(isinstance(problem, RejectedProblem) and problem.reason for problem in rejected)
    named = " ".join(problem.id for problem in rejected)
    assert len(rejected) == 8 and all(name in named for name in ("602", "603", "604", "605", "606", "line 11"))


def test_a_task_file_without_a_problem_is_refused_by_the_build_and_by_the_check(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "train.jsonl", [{"a": 1}, {"b": 2}])
    tree = write_tree(tmp_path, "good")
    source = {"kind": "leetcode", "path": str(path)}
    recipe = recipe_of(source, {"kind": "tree", "path": str(tree)}, licences={"allow_non_osi": True}, **FULL)
    with pytest.raises(UserError, match="none of the rows"):
        solved_problems(LeetCodeTrain(**source), recipe, 0)
    (problem,) = check_recipe(recipe)
    assert problem.startswith("sources.0 (leetcode): ") and "none of the rows" in problem


# ---------------------------------------------------------------- the check


def test_the_check_finds_what_the_build_would_refuse(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, "alone")
    beside = {"train": 0, "validation": 0.5, "test": 0.5}
    source = {"kind": "tree", "path": str(tree)}
    (problem,) = check_recipe(recipe_of(source, split=beside))
    assert problem.startswith("split: nothing is left to train on, since alone")
    (tmp_path / "b.jsonl").write_text("[1]\n")
    (tmp_path / "a.jsonl").write_bytes(LINE)
    several = {"kind": "jsonl", "path": str(tmp_path / "*.jsonl"), "columns": COLUMNS}
    (problem,) = check_recipe(recipe_of(source, several, **FULL))
    assert "b.jsonl" in problem and problem.startswith("sources.1 (jsonl): "), "not the first file alone"
    (tmp_path / "b.jsonl").write_bytes(b"{}\n[3]\n" + LINE)
    assert check_recipe(recipe_of(source, several, **FULL)) == [], "one odd row refuses nothing"
    forms = dict.fromkeys(recipe_of(source).forms.model_dump(), 0)
    (problem,) = check_recipe(recipe_of(source, forms=forms, **FULL))
    assert problem.startswith("forms: all of them are 0")
