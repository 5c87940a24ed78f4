"""No word of a project without a licence that is taken reaches a training row or a question, over the whole path from
source to row: the build as it is, its jobs one after the other instead of on Ray."""

import csv
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import rights
from app.corpus import build
from app.corpus.rows.assemble import assemble_shard
from app.models.base import load_tokenizer
from app.overrides import with_overrides
from app.profiles import smoke
from app.reward.problems.find import load
from app.runs import Run
from tests.unit.corpus.sources.test_licences import BSD_3, COMMONS_CLAUSE, MIT, standin
from tests.unit.corpus.sources.test_rights import EULA, ONE_MORE

TAKEN = {"MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-only"}
"""All that a made-up project may be learnt under."""
METADATA = {
    "": None, "MIT": True, "mit": True, "Apache-2.0": True, "MIT OR LicenseRef-X": True, "MIT AND LicenseRef-X": False,
    "LicenseRef-X": False, "NOASSERTION": False, "NONE": False, "Own-1.0": False, "GPL-9.9": False, "ＭＩＴ": False,
    "   ": None, "MIT\u200b": True, "CC-BY-NC-4.0": False,
}  # fmt: skip
"""What a project says, and whether that allows it, forbids it, or says nothing."""
GPL = "GPL-3.0-only"
TEXTS: dict[str, tuple[bytes | None, bool | None]] = {
    "none": (None, None),
    "empty": (b"", None),
    "blank": (b" \n\t\n", None),
    "MIT": (MIT.encode(), True),
    "MIT in capitals": (MIT.upper().encode(), True),
    "MIT in UTF-16": (MIT.encode("utf-16"), True),
    "MIT in UTF-16 without its mark": (MIT.encode("utf-16-be"), True),
    "BSD": (BSD_3.encode(), True),
    "half of MIT": (MIT[: len(MIT) // 2].encode(), None),
    "one more condition": (ONE_MORE.encode(), False),
    "Commons Clause": ((COMMONS_CLAUSE + MIT).encode(), False),
    "EULA": (EULA.encode(), False),
    "EULA in UTF-16": (EULA.encode("utf-16"), False),
    "EULA in UTF-16 without its mark": (EULA.encode("utf-16-le"), False),
    "terms in Chinese": ("本软件为专有软件。未经书面许可,不得复制、修改、分发或以任何方式使用。".encode() * 3, False),
    "GPL": (standin(GPL).encode(), True),
}
HEADS = {
    "": None, "# SPDX-License-Identifier: MIT\n": True, "# SPDX-License-Identifier: SSPL-1.0\n": False,
    "# SPDX-License-Identifier: Own-1.0\n": False, "# CONFIDENTIAL. Internal use only.\n": False,
    "# Licensed under the Acme Enterprise License.\n": False,
}  # fmt: skip
PLACES = ("LICENSE", "license.TXT", "COPYING", "pkg/LICENSE.md")
KINDS = ("tree", "wheel", "row")


@dataclass(frozen=True)
class Project:
    kind: str
    metadata: str
    text: str
    place: str
    head: str

    @property
    def says(self) -> list[bool | None]:
        said = [METADATA[self.metadata], HEADS[self.head]]
        if self.kind != "row":  # a table has no files beside its rows
            contradicts = self.text == "GPL" and METADATA[self.metadata] is not None
            said.append(False if contradicts else TEXTS[self.text][1])
        return said

    @property
    def is_forbidden(self) -> bool:
        """Something forbids it, or nothing allows it. A row whose field names no licence is never taken."""
        return False in self.says or True not in self.says or (self.kind == "row" and METADATA[self.metadata] is None)

    @property
    def is_plain(self) -> bool:
        return (self.metadata, self.text, self.head) == ("MIT", "none", "")


PLAIN = [Project(kind, "MIT", "none", "LICENSE", "") for kind in KINDS]
"""One of each kind that has to be learnt, so that nothing passes by learning nothing."""
projects = st.builds(
    Project,
    st.sampled_from(KINDS),
    st.sampled_from(sorted(METADATA)),
    st.sampled_from(sorted(TEXTS)),
    st.sampled_from(PLACES),
    st.sampled_from(sorted(HEADS)),
)


def mark(number: int) -> str:
    return f"zq{number}zq"


def source(number: int, head: str) -> str:
    name = mark(number)
    return f'''{head}# Copyright (c) 20{number % 90 + 10} Holder {name}
"""The tools of {name}."""

SCALE_{name} = {number + 3}


def area_{name}(base, height):
    """Return the area of a triangle of {name} with this base and height.

    >>> area_{name}(2, 3)
    {2 * 3 * (number + 3)}
    """
    product = base * height
    return product * SCALE_{name}
'''


def write(root: Path, number: int, project: Project) -> None:
    """A made-up project below root/trees, root/wheels, or as a row of root/rows.jsonl."""
    name, text = f"p{mark(number)}", source(number, project.head)
    if project.kind == "row":
        row = {"text": text, "file": f"pkg/{name}.py", "licence": project.metadata, "repo": f"o/{name}"}
        with open(root / "rows.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        return
    licence, _ = TEXTS[project.text]
    files = {f"pkg/{name}.py": text.encode()}
    if project.kind == "tree":
        stated = f"license = {json.dumps(project.metadata)}\n" if project.metadata else ""
        files["pyproject.toml"] = f'[project]\nname = "{name}"\nversion = "1.0"\n{stated}'.encode()
        if licence is not None:
            files[project.place] = licence
        for place, held in files.items():
            (root / "trees" / name / place).parent.mkdir(parents=True, exist_ok=True)
            (root / "trees" / name / place).write_bytes(held)
        return
    stated = f"License-Expression: {project.metadata}\n" if project.metadata.strip() else ""
    with zipfile.ZipFile(root / "wheels" / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"pkg/{name}.py", text)
        wheel.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\n{stated}".encode())
        if licence is not None:
            wheel.writestr(project.place if "/" in project.place else f"{name}-1.0.dist-info/{project.place}", licence)


def one_after_the_other(_: str, task: Callable[[Any], Any], jobs: Sequence[Any], *__: Any, **___: Any) -> list[Any]:
    return [task(job) for job in jobs]


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch, smoke_model: Path) -> None:
    monkeypatch.setattr(build, "run_tasks", one_after_the_other)
    monkeypatch.setattr(build, "assemble_shards", lambda jobs, _: [assemble_shard(job) for job in jobs])


FORMS = ("doc_to_code", "code_to_doc", "fill_in", "tool_use", "completion", "file")


def built(root: Path, *changes: str, forms: Sequence[str] = FORMS) -> Run:
    recipe = {
        "name": "made up",
        "sources": [
            {"kind": "tree", "path": "trees"},
            {"kind": "wheels", "path": "wheels"},
            {
                "kind": "jsonl",
                "path": "rows.jsonl",
                "columns": {"content": "text", "path": "file", "licence": "licence", "repository": "repo"},
            },
        ],
        "split": {"train": 1, "validation": 0, "test": 0},
        "cleaning": {"min_chars": 10},
        "forms": dict.fromkeys(forms, 1.0),
    }
    (root / "recipe.yaml").write_text(json.dumps(recipe))
    profile = with_overrides(smoke(), [f"corpus.recipe={root}/recipe.yaml", "corpus.max_mined_files=0", *changes])
    run = Run(root / "run")
    build.build_corpus(run, profile, [])
    return run


def rows_of(run: Run) -> str:
    tokenizer = load_tokenizer(build.ensure_model(smoke().model))
    parts = [pq.read_table(path, columns=["input_ids"])["input_ids"].to_pylist() for path in run.train_shards.iterdir()]
    return "\n".join(tokenizer.decode(row) for part in parts for row in part)


def begun(root: Path, made: Sequence[Project]) -> Path:
    for folder in ("trees", "wheels"):
        (root / folder).mkdir(parents=True)
    for number, project in enumerate(made):
        write(root, number, project)
    return root


def check(run: Run, made: Sequence[Project]) -> None:
    text, table = rows_of(run), list(csv.DictReader(run.attribution.open()))
    held = rights.read(run.corpus)
    assert held is not None
    named = {holder.who for notice in held.notices for holder in notice.holders}
    for number, project in enumerate(made):
        owned = [row for row in table if f"p{mark(number)}" in row["distribution"]]
        is_learnt = mark(number) in text
        assert not (project.is_forbidden and is_learnt), project
        assert is_learnt or not project.is_plain, project
        assert is_learnt == bool(owned), f"a row traces to a record: {project}"
        for row in owned:
            licence = row["licence"].replace("(", " ").replace(")", " ").split()
            assert licence and set(licence) - {"AND", "OR"} <= TAKEN, (project, licence)
            assert row["distribution"] in named, "and what its licence asks for goes along"


@given(made=st.lists(projects, min_size=8, max_size=16))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
def test_every_training_row_traces_to_a_record_with_a_licence(
    made: list[Project], without_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = begun(tmp_path_factory.mktemp("made"), [*PLAIN, *made])
    check(built(root), [*PLAIN, *made])
    shutil.rmtree(root)


def test_a_licence_that_is_removed_halfway_takes_its_rows_with_it(
    without_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [*PLAIN, Project("tree", "MIT", "MIT", "LICENSE", ""), Project("tree", "", "MIT", "LICENSE", "")]
    begun(tmp_path, made)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(build.manifest, "write_tables", killed)
        built(tmp_path)
    assert mark(3) in rows_of(Run(tmp_path / "run")) and mark(4) in rows_of(Run(tmp_path / "run"))
    (tmp_path / "trees" / f"p{mark(3)}" / "LICENSE").write_bytes(EULA.encode("utf-16"))
    (tmp_path / "trees" / f"p{mark(4)}" / "LICENSE").write_text("")
    after = [*PLAIN, Project("tree", "MIT", "EULA", "LICENSE", ""), Project("tree", "", "empty", "LICENSE", "")]
    check(built(tmp_path), after)


def test_mined_problems_and_their_questions_are_of_projects_with_a_licence(without_ray: None, tmp_path: Path) -> None:
    made = [
        *PLAIN,
        Project("tree", "", "MIT", "LICENSE", ""),
        Project("tree", "", "none", "LICENSE", ""),
        Project("tree", "MIT", "EULA", "LICENSE", ""),
        Project("tree", "MIT", "EULA", "pkg/LICENSE.md", ""),
        Project("tree", "MIT", "none", "LICENSE", "# SPDX-License-Identifier: Own-1.0\n"),
    ]
    begun(tmp_path, made)
    tree = tmp_path / "trees" / f"p{mark(0)}"
    (tree / "pkg" / "bsd.py").write_text(f"# SPDX-License-Identifier: BSD-3-Clause\nLIMIT_{mark(90)} = 7\n# A limit.\n")
    using = (
        source(91, "")
        .replace("return product", f"product += LIMIT_{mark(90)}\n    return product")
        .replace("564", "1222")
    )
    (tree / "pkg" / "using.py").write_text(f"from pkg.bsd import LIMIT_{mark(90)}\n{using}")
    (tree / "tests").mkdir()
    test = f"from pkg.p{mark(0)} import area_{mark(0)}\n\n\ndef test_it():\n    assert area_{mark(0)}(987, 1) == 2961\n"
    (tree / "tests" / "test_it.py").write_text(f"# SPDX-License-Identifier: GPL-3.0-only\n{test}")
    run = built(tmp_path, "corpus.max_mined_files=null")
    check(run, made)
    asked = "\n".join(one.given.prompt + one.given.tests for one in load([f"mined={run.problems}"]))
    for number, project in enumerate(made):
        assert (mark(number) in asked) == (not project.is_forbidden), project
    assert f"LIMIT_{mark(90)}" not in asked, "code under one licence is not shown as another's"
    assert "987" not in asked + rows_of(run), "a test file under a licence that is not taken says nothing"


def test_a_file_that_is_shown_beside_another_is_named_with_its_copyright_lines(
    without_ray: None, tmp_path: Path
) -> None:
    begun(tmp_path, PLAIN)
    package = tmp_path / "trees" / f"p{mark(0)}" / "pkg"
    helper = f"# Copyright (c) 1999 Jane Doe\n\n\ndef twice_{mark(90)}(value):\n    return 2 * value\n"
    (package / "helper.py").write_text(helper)
    using = (
        source(91, "").replace("return product", f"return twice_{mark(90)}(product)").replace(" * SCALE", " + SCALE")
    )
    (package / "using.py").write_text(f"from pkg.helper import twice_{mark(90)}\n{using}")
    run = built(tmp_path, "corpus.seq_len=512", forms=["multi_file"])
    assert f"def twice_{mark(90)}" in rows_of(run)
    assert "pkg/helper.py" in run.attribution.read_text()
    held = rights.read(run.corpus)
    assert held is not None and "Copyright (c) 1999 Jane Doe" in rights.notices_text(held.notices)
