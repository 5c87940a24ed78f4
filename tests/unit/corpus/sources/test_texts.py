"""The licence texts that go with code, of whom they are, and the copyright lines of texts and of files' heads."""

import zipfile
from email.message import Message
from pathlib import Path

import pytest

from app.corpus.recipes import Recipe
from app.corpus.sources.find import find_distributions
from app.corpus.sources.headers import copyright_in
from app.corpus.sources.texts import copyright_lines, kept_texts, notices_of
from tests.unit.corpus.sources.test_find import GOOD
from tests.unit.corpus.sources.test_licences import BSD_3, MIT
from tests.unit.corpus.sources.test_rights import found_in, project


@pytest.mark.parametrize(
    "line",
    [
        "Copyright (c) 2015 Jane Doe",
        "# Copyright 2010-2020, Jane Doe",
        " * Copyright © Jane Doe",
        "(C) 2001 Jane Doe",
        "Copyright: (c) 2012, Jane Doe",
        "Copyright The Example Authors",
        "COPYRIGHT (C) 1999 BY JANE DOE",
        "SPDX-FileCopyrightText: 2020 Jane Doe",
        "copyright by Jane Doe",
    ],
)
def test_a_copyright_line_is_told(line: str) -> None:
    assert len(copyright_lines(f"Some words.\n{line}\nMore words.")) == 1


@pytest.mark.parametrize(
    "line",
    [
        "copyright notice, this list of conditions and the following disclaimer.",
        "COPYRIGHT HOLDERS OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT,",
        "Copyright License. Subject to the terms and conditions of",
        "Copyright [yyyy] [name of copyright owner]",
        "copyright owner or entity authorized by",
        "The copyright of 2020 was long ago.",
    ],
)
def test_words_of_a_licence_about_copyright_stay_in_its_text(line: str) -> None:
    assert not copyright_lines(f"Some words.\n{line}\n")


def test_texts_of_folders_without_a_kept_file_and_of_other_licences_are_left_out() -> None:
    texts = kept_texts(
        {"LICENSE": MIT, "NOTICE": "Made at Example.", "pkg/a/LICENSE": BSD_3, "pkg/b/LICENSE": "b",
         "pyproject.toml": "", "LICENSES/MIT.txt": MIT, "LICENSES/GPL-3.0-only.txt": "gpl", "EMPTY/LICENSE": "  ",
         "x-1.dist-info/licenses/pkg/c/LICENSE": "c", "x-1.dist-info/licenses/LICENSE.txt": MIT}
    )  # fmt: skip
    found = notices_of("x", "1", texts, {"pkg/a/one.py", "pkg/two.py"}, ["MIT", "BSD-3-Clause"], ["Copyright 2001 Me"])
    assert {one.text for one in found} & {"b", "c", "gpl"} == set()
    assert {one.licence for one in found} == {"MIT", "BSD-3-Clause", ""}
    assert any("Made at Example." in one.text for one in found)
    lines = {line for one in found for holder in one.holders for line in holder.lines}
    assert "Copyright (c) 2021 Jane Doe and other contributors" in lines and "Copyright 2001 Me" in lines
    assert not any("Jane Doe and other" in one.text for one in found), "stands with the holder's name, not in the text"


def test_a_text_in_the_metadata_counts_and_who_has_none_is_named_with_the_licence() -> None:
    header = Message()
    header["License"] = MIT
    assert kept_texts({}, header) == (("METADATA", MIT.strip()),)
    (found,) = notices_of("x", "1", (), {"a.py"}, ["MIT"], ["Copyright 2001 Me"])
    assert (found.text, found.licence, found.holders[0].lines) == ("", "MIT", ("Copyright 2001 Me",))


def test_trees_and_wheels_bring_their_texts(tmp_path: Path) -> None:
    tree = found_in(tmp_path, {**project('{file = "legal/terms.txt"}'), "legal/terms.txt": MIT, "pkg/a.py": GOOD})
    assert tree.texts == (("terms.txt", MIT),)
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "one-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("one/a.py", GOOD)
        wheel.writestr("one-1.0.dist-info/METADATA", "Name: one\nVersion: 1.0\nLicense-Expression: Apache-2.0\n")
        wheel.writestr("one-1.0.dist-info/NOTICE.txt", "One, made by Us.")
    recipe = Recipe.model_validate({"name": "t", "sources": [{"kind": "wheels", "path": str(tmp_path / "wheels")}]})
    (one,) = find_distributions(recipe, tmp_path)
    assert one.texts == (("one-1.0.dist-info/NOTICE.txt", "One, made by Us."),)


def test_pythons_own_licence_goes_with_its_library(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "t", "sources": [{"kind": "standard_library"}]})
    (library,) = find_distributions(recipe, tmp_path)
    assert "Python Software Foundation" in library.texts[0][1]


def test_a_heads_copyright_lines_are_kept_although_they_are_cut_off() -> None:
    text = (
        '#!/usr/bin/env python\n# Copyright 2012 Ann\n# All rights reserved.\n"""Words.\n\nCopyright (c) 2013 Bo\n"""\n'
    )
    assert copyright_in(f"{text}\n{GOOD}") == ("Copyright 2012 Ann", "Copyright (c) 2013 Bo")
    assert copyright_in(GOOD) == ()
