"""Which licence each file is taken under: nested licences, texts that contradict metadata, notices, REUSE, layouts."""

import zipfile
from pathlib import Path

import pytest

from app.corpus.clean.cleaning import clean
from app.corpus.recipes import Cleaning, Recipe
from app.corpus.records import RejectedFileError
from app.corpus.sources.agreement import contradiction
from app.corpus.sources.distributions import Distribution, read_source, under_others
from app.corpus.sources.find import find_distributions
from app.corpus.sources.headers import judge_header
from tests.unit.corpus.sources.test_find import COLUMNS, GOOD, row, write_lines
from tests.unit.corpus.sources.texts import BSD_3, COMMONS_CLAUSE, MIT, standin

EULA = "ACME END USER LICENSE AGREEMENT\n\nThis software is proprietary. You may not copy, modify or distribute it.\n"
ENTERPRISE = "The Acme Enterprise license\n\nIt may only be used in production with a valid subscription.\n"
ONE_MORE = MIT + "\nThe software may not be used for military purposes.\n"
NOTICE = "# This program is free software: you can redistribute it under the terms of the GNU General Public License.\n"
TAG = "# SPDX-License-Identifier: {}\n"
AT = "pkg/core.py"


def project(licence: str) -> dict[str, str]:
    return {"pyproject.toml": f'[project]\nname = "x"\nversion = "1.0"\nlicense = {licence}\n'}


def found_in(tmp_path: Path, files: dict[str, str | bytes]) -> Distribution:
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    recipe = Recipe.model_validate({"name": "t", "sources": [{"kind": "tree", "path": str(tmp_path / "tree")}]})
    (distribution,) = find_distributions(recipe, tmp_path)
    return distribution


def licence_of(found: Distribution, at: str) -> tuple[str, str]:
    """The licence under which a file is learnt, or nothing and the reason."""
    reasons = dict(found.rejected)
    file = next((file for file in found.files if file.path == at), None)
    if not found.verdict.approved or file is None:
        return "", reasons.get(at) or found.verdict.reason
    licence = file.licence or found.verdict.licence
    try:
        return clean(read_source(file), at, Cleaning(min_chars=10), frozenset(), licence).licence, ""
    except RejectedFileError as error:
        return "", str(error)


GPL = "GPL-3.0-only"
LEFT_OUT = {
    "an end user licence under an MIT expression": ({**project('"MIT"'), "LICENSE": EULA}, AT),
    "MIT with the Commons Clause": ({**project('"MIT"'), "LICENSE": COMMONS_CLAUSE + MIT}, AT),
    "MIT with one more condition": ({**project('"MIT"'), "LICENSE": ONE_MORE}, AT),
    "the GPL under an MIT expression": ({**project('"MIT"'), "LICENSE": GPL}, AT),
    "the GPL beside the MIT text": ({**project('"MIT"'), "LICENSE": MIT, "COPYING": GPL}, AT),
    "terms that take distribution away": (
        {**project('"MIT"'), "LICENSE": MIT + "\nIt is not to be distributed.\n"},
        AT,
    ),
    "a text of nobody knows what": ({**project('"MIT"'), "LICENSE": "Look at it, and be happy. " * 9}, AT),
    "a GPL folder": ({"LICENSE": MIT, "contrib/foo/COPYING": GPL}, "contrib/foo/core.py"),
    "a GPL folder by its file's ending": ({"LICENSE": MIT, "pkg/bundled/LICENSE.GPL": GPL}, "pkg/bundled/deep/core.py"),
    "an enterprise folder": ({**project('"MIT"'), "LICENSE": MIT, "ee/LICENSE": ENTERPRISE}, "ee/core.py"),
    "a folder with one more condition": ({"LICENSE": MIT, "ee/LICENSE": ONE_MORE}, "ee/core.py"),
    "an inner project": (
        {"LICENSE": MIT, "in/pyproject.toml": project('"LicenseRef-X"')["pyproject.toml"]},
        "in/core.py",
    ),
    "an inner project by setup.cfg": ({"LICENSE": MIT, "in/setup.cfg": "[metadata]\nlicense = GPLv3\n"}, "in/core.py"),
    "an inner project by setup.py": ({"LICENSE": MIT, "in/setup.py": "setup(license='Proprietary')\n"}, "in/core.py"),
    "REUSE.toml": (
        {
            "LICENSE": MIT,
            "REUSE.toml": '[[annotations]]\npath = ["pkg/**"]\nSPDX-License-Identifier = "GPL-3.0-or-later"\n',
        },
        AT,
    ),
    "dep5": (
        {"LICENSE": MIT, ".reuse/dep5": "Format: x\n\nFiles: pkg/*\nCopyright: A\nLicense: GPL-3.0-or-later\n"},
        AT,
    ),
    "FILE.license": ({"LICENSE": MIT, f"{AT}.license": "SPDX-License-Identifier: GPL-3.0-or-later\n"}, AT),
    "Poetry beside an MIT text": ({"LICENSE": MIT, "pyproject.toml": '[tool.poetry]\nlicense = "Proprietary"\n'}, AT),
    "setup.py beside an MIT text": (
        {"LICENSE": MIT, "setup.py": "from x import setup\nsetup(license='Proprietary')\n"},
        AT,
    ),
    "a notice below the imports": ({"LICENSE": MIT, AT: f"import os\nimport sys\n\n{NOTICE}\n{GOOD}"}, AT),
    "no tag where nothing else names a licence": ({"README.md": "x", "pkg/other.py": TAG.format("MIT") + GOOD}, AT),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_under_another_licence_is_left_out_with_the_reason(tmp_path: Path, case: str) -> None:
    files, at = LEFT_OUT[case]
    texts = {name: standin(GPL) if text == GPL else text for name, text in files.items()}
    licence, reason = licence_of(found_in(tmp_path, {at: GOOD, **texts}), at)
    assert not licence and len(reason.split()) > 4, reason


TAKEN = {
    "a tag in the file alone": ({"README.md": "x", AT: TAG.format("MIT") + GOOD}, "MIT"),
    "LICENSES and tags": ({"LICENSES/MIT.txt": MIT, AT: TAG.format("MIT") + GOOD}, "MIT"),
    "REUSE.toml alone": (
        {
            "REUSE.toml": 'version = 1\n[[annotations]]\npath = "**"\nSPDX-License-Identifier = "ISC"\n',
            "README.md": "x",
        },
        "ISC",
    ),
    "Poetry": ({"pyproject.toml": '[tool.poetry]\nversion = "1.0"\nlicense = "MIT"\n'}, "MIT"),
    "setup.cfg": ({"setup.cfg": "[metadata]\nlicense = MIT\n"}, "MIT"),
    "setup.py": ({"setup.py": "import setuptools\nsetuptools.setup(name='x', license='MIT')\n"}, "MIT"),
    "a named file": ({**project('{file = "legal/terms.txt"}'), "legal/terms.txt": MIT}, "MIT"),
    "named files": ({"setup.cfg": "[metadata]\nlicense_files = legal/*.txt\n", "legal/terms.txt": MIT}, "MIT"),
    "authors named as a licence file": (
        {**project('"MIT"\nlicense-files = ["LICENSE", "AUTHORS"]'), "LICENSE": MIT, "AUTHORS": "Jane Doe\n" * 9},
        "MIT",
    ),
    "a word on what a release leaves out": (
        {**project('"MIT"'), "LICENSE": MIT + "\nFiles in the sandbox are not distributed with releases.\n"},
        "MIT",
    ),
    "a byte-order mark": ({"pyproject.toml": b"\xef\xbb\xbf" + project('"MIT"')["pyproject.toml"].encode()}, "MIT"),
    "a choice with the GPL text": (
        {**project('"MIT OR GPL-3.0-only"'), "LICENSE": MIT, "COPYING": GPL},
        "GPL-3.0-only OR MIT",
    ),
    "the LGPL with the GPL that it refers to": ({**project('"LGPL-3.0-only"'), "COPYING": GPL}, "LGPL-3.0-only"),
    "a permissive folder": ({**project('"Apache-2.0"'), "pkg/LICENSE": BSD_3}, "BSD-3-Clause"),
    "a table's own licence beside it": ({"LICENSE": MIT, "pkg/table.json.license": TAG.format("CC0-1.0")}, "MIT"),
    "a copy of the whole's licence": ({"LICENSE": MIT, "pkg/LICENSE": MIT}, "MIT"),
    "inner metadata that name no licence": ({"LICENSE": MIT, "pkg/pyproject.toml": "[tool.ruff]\n"}, "MIT"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_file_is_learnt_under_the_licence_that_governs_it(tmp_path: Path, case: str) -> None:
    files, licence = TAKEN[case]
    texts = {name: standin(GPL) if text == GPL else text for name, text in files.items()}
    assert licence_of(found_in(tmp_path, {AT: GOOD, **texts}), AT) == (licence, "")


def test_a_module_named_after_licences_is_no_licence_text(tmp_path: Path) -> None:
    found = found_in(tmp_path, {"LICENSE": MIT, "pkg/licenses.py": GOOD, "pkg/license_table.json": "{}", AT: GOOD})
    assert found.verdict.approved and not found.rejected and all(not file.licence for file in found.files)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n", False),
        ("GPLv3", False),
        ("AGPL-3.0-only\r\n", False),
        ("Proprietary", False),
        ("MIT", True),
        ("BSD-3-Clause", True),
        ("see ../LICENSE", True),
        ("Copyright 2020 Ann", True),
    ],
)
def test_a_licence_file_of_a_few_words_counts_by_the_licence_that_it_names(text: str, fits: bool) -> None:
    assert (not contradiction((text,), "MIT")) == fits
    assert fits or contradiction((text,), "LicenseRef-Own")


def test_in_a_wheel_the_nearest_licence_counts_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "one-1.0-py3-none-any.whl", "w") as wheel:
        for name in ("one/a.py", "one/ee/b.py", "one/bundled/c.py", "one/other/d.py"):
            wheel.writestr(name, GOOD)
        wheel.writestr("one-1.0.dist-info/METADATA", "Name: one\nVersion: 1.0\nLicense-Expression: MIT\n")
        wheel.writestr("one-1.0.dist-info/licenses/LICENSE", MIT)
        wheel.writestr("one-1.0.dist-info/licenses/one/bundled/COPYING", standin(GPL))
        wheel.writestr("one/ee/LICENSE", ENTERPRISE)
        wheel.writestr("one/other/LICENSE.txt", BSD_3)
    recipe = Recipe.model_validate({"name": "t", "sources": [{"kind": "wheels", "path": str(tmp_path)}]})
    (one,) = find_distributions(recipe, tmp_path)
    held = {file.path: (file.licence, file.evidence) for file in one.files}
    assert held == {"one/a.py": ("", ""), "one/other/d.py": ("BSD-3-Clause", "one/other/LICENSE.txt")}
    reasons = dict(one.rejected)
    assert "GPL-3.0-only in a package under MIT" in reasons["one/bundled/c.py"]
    assert reasons["one/ee/b.py"].startswith("licence: one/ee/LICENSE: ")
    others = under_others(one)
    assert others[""] == {"one/ee/b.py", "one/bundled/c.py", "one/other/d.py"}, "not shown beside a file under MIT"


def test_rows_of_one_repository_are_each_under_their_own_licence(tmp_path: Path) -> None:
    rows = [row(file="a.py"), row(file="b.py", licences="Apache-2.0")]
    source = {"kind": "jsonl", "path": str(write_lines(tmp_path / "t.jsonl", rows)), "columns": COLUMNS}
    (found,) = find_distributions(Recipe.model_validate({"name": "t", "sources": [source]}), tmp_path / "cache")
    assert [file.licence for file in found.files] == ["MIT", "Apache-2.0"]


REFUSED = (
    "This file is distributed under GPL-3.0.",
    "Released under GPLv3",
    "Licensed under GPLv2 or later",
    "under the terms of the GPL",
    "AGPLv3",
    "License: AGPL-3.0-or-later",
    "License: Proprietary",
    "License: ACME",
    "Licensed under SSPL",
    "Licensed under the Business Source License 1.1",
    "Licensed under the Functional Source License",
    "Licensed under the Hippocratic License",
    "Elastic License 2.0",
    "Licensed under EUPL-1.2",
    "License: Commons Clause + MIT",
    "License: MIT + Commons Clause",
    "Dual licensed under GPLv3 and a commercial license",
    "CONFIDENTIAL",
    "Internal use only",
    "For academic use only.",
    "Non-commercial use only",
    "Not for commercial use",
    "Free for personal use",
)
HARMLESS = (
    "License: MIT, see LICENSE",
    "License: BSD 3 clause",
    "Licensed under the MIT License (see foo/__init__.py for details)",
    "Use of this source code is governed by a BSD-style license that can be found in the LICENSE file.",
    "Licensed under the same terms as Python",
    "Licensed to PSF under a Contributor Agreement.",
    "The use of the private key needs Helpers under Windows.",
    "License: see LICENSE",
)
PLACES = (
    "# Copyright 2024 X\n# {}\n\nimport os\n",
    '"""Module.\n\n{}\n"""\nimport os\n',
    "import os\n\n# (c) 2024 X\n# {}\n\n",
)


@pytest.mark.parametrize("place", PLACES, ids=("comment", "docstring", "below the imports"))
def test_notices_name_licences_in_many_words(place: str) -> None:
    taken = [line for line in REFUSED if judge_header(place.format(line), "MIT").approved]
    left = [line for line in HARMLESS if not judge_header(place.format(line), "MIT").approved]
    assert (taken, left) == ([], [])


def test_an_owners_own_words_hold_nothing_back_but_other_peoples_licences_do() -> None:
    own = "LicenseRef-Own"
    for line in ("CONFIDENTIAL", "License: Acme internal", "SPDX-License-Identifier: LicenseRef-Own"):
        assert judge_header(f"# {line}\n", own).licence == own
    assert judge_header("# License: MIT\n", own).licence == "LicenseRef-Own AND MIT"
    for line in ("Licensed under GPLv3", "License: CC BY-NC 4.0"):
        assert not judge_header(f"# {line}\n", own).approved


@pytest.mark.parametrize(
    ("notice", "licence"),
    [
        ("GNU General Public License as published by the Free Software\n# Foundation, version 3", "GPL-3.0-only"),
        (
            "GNU Lesser General\n# Public License; either\n# version 2.1 of the License, or any later",
            "LGPL-2.1-or-later",
        ),
        ("GNU Lesser General Public License version 3 or (at your option) any later version", "LGPL-3.0-or-later"),
        ("Licensed under the LGPL: https://www.gnu.org/licenses/old-licenses/lgpl-2.1.en.html", "LGPL-2.1-only"),
        ("Licensed under the GPL", "GPL-2.0-or-later"),
    ],
)
def test_a_gnu_licence_in_a_head_has_the_version_that_the_notice_names(notice: str, licence: str) -> None:
    assert judge_header(f"# Distributed under the terms of the {notice}.\nimport os\n", "").licence == licence


def test_a_version_in_a_notice_takes_nothing_of_an_expression_away() -> None:
    notice = "# GNU General Public License, version 2\n# License: GPL-2.0-only{}\nimport os\n"
    assert judge_header(notice.format(""), "").approved
    assert not judge_header(notice.format(" AND CC-BY-NC-4.0"), "").approved
