"""What the report tells of a corpus' rights: by project and evidence, bounded, whatever the tables hold."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.corpus.credits import Attributed, write_attribution
from app.corpus.manifest import NOWHERE
from app.corpus.records import Rejected
from app.corpus.shard_files import REJECTED_SCHEMA
from app.corpus.taken import FOLDERS, MAX_ROWS, in_words, taken
from app.errors import UserError
from app.rights import paths_of, read_table
from app.runs import Run


def row(name: str, evidence: str, *files: str, licence: str = "MIT") -> Attributed:
    return Attributed(name, "1", licence, evidence, "", "", 10 * len(files), files)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_each_file_counts_once_under_what_says_its_licence_and_refusals_are_told_by_project(run: Run) -> None:
    rows = [
        row("mine", "stated", "a b.py", "c.py", licence="LicenseRef-Own"),
        row("mine", "ee/LICENSE", "ee/d.py", licence="BSD-3-Clause"),
        row("mine", "stated and header", "e.py", licence="LicenseRef-Own AND MIT"),
        row("täg|s", "SPDX tag in the file", "f.py"),
    ]
    write_attribution(run.attribution, rows)
    origins = [replace(NOWHERE, distribution="mine", path=f"{n}.py") for n in range(3)]
    reasons = ["licence: GPL beside it", "licence header: confidential", "generated: by its name"]
    held = [Rejected(origin=o, name="", what="file", reason=r).row for o, r in zip(origins, reasons, strict=True)]
    pq.write_table(pa.Table.from_pylist(held, REJECTED_SCHEMA), run.rejected)
    found = taken(run)
    stated = in_words("stated")
    assert found.rows[0] == ("mine", "LicenseRef-Own", stated, 2, 20)
    assert ("mine", "BSD-3-Clause", "`ee/LICENSE`", 1, 10) in found.rows
    assert {kind: number for kind, number, _ in found.kinds} == {
        stated: 2,
        FOLDERS: 1,
        f"{stated}, with the notice at the head of the file": 1,
        "tag at the head of each file": 1,
    }
    assert {*found.refused} == {("mine", reasons[0], 1), ("mine", reasons[1], 1)}
    assert [path for one in read_table(run.attribution) for path in paths_of(one)].count("a b.py") == 1


def test_a_table_of_many_projects_is_cut_and_one_cell_may_hold_thousands_of_paths(run: Run) -> None:
    many = [f"package/folder/of/some/depth/module_{number}.py" for number in range(4000)]
    rows = [row("big", "file", *many), *(row(f"p{number}", "classifier", "a.py") for number in range(60))]
    write_attribution(run.attribution, rows)
    found = taken(run)
    assert found.rows[0][3] == 4000 and (len(found.rows), found.num_more) == (MAX_ROWS, 61 - MAX_ROWS)


def test_a_corpus_without_its_tables_or_of_an_older_version_has_nothing_to_tell(run: Run) -> None:
    assert taken(run).rows == taken(run).refused == ()
    run.corpus.mkdir()
    run.attribution.write_bytes(b"\xef\xbb\xbfdistribution,licence\r\nattrs,MIT\r\n")  # as a spreadsheet saves it
    assert taken(run).rows == (("attrs", "MIT", in_words(""), 0, 0),)
    write_attribution(run.attribution, [row("attrs", "file; file and header; ee/LICENSE", "a.py")])
    assert taken(run).rows[0][2].count("licence file at its top") == 2 and taken(run).kinds[0][1:] == (1, 1)


@pytest.mark.parametrize("held", [b"name\nattrs\n", b"distribution,licence\n\xff,MIT\n"])
def test_what_is_no_attribution_is_told_in_a_sentence(run: Run, held: bytes) -> None:
    run.corpus.mkdir()
    run.attribution.write_bytes(held)
    with pytest.raises(UserError, match=r"attribution.csv .*: restore it, or remove it"):
        taken(run)
