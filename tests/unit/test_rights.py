"""What travels with weights: each text once with everybody whom it belongs to, a short card, the same after a copy."""

from pathlib import Path

import pytest

from app import rights
from app.errors import UserError
from app.files.json_files import write_json
from app.learnt_from import GONE, OLDER, of_adapter, of_corpus, of_problems
from app.models.adapter_ranks import truncate_command
from app.models.licences import model_notices
from app.rights import GuardedBy, Holder, Material, Notice, Rights, merged, notices_text, section, union
from app.runs import Run
from app.settings import ModelSettings
from benchmarks.random_adapters import write_adapter
from tests.unit.export.made_run import LICENCES, write_base

MIT, APACHE = "Permission is hereby granted\nto anybody.", "Apache License, Version 2.0"
SUITE = {"suite": "humaneval", "problems": 164, "sha256": "ab" * 32, "by": "text"}


def notice(who: str, *lines: str, text: str = MIT, licence: str = "MIT", version: str = "1") -> Notice:
    return Notice(licence=licence, text=text, holders=(Holder(who=who, version=version, lines=lines),))


def test_a_text_is_there_once_with_all_its_holders_whatever_its_white_space_and_their_order() -> None:
    held = [
        notice("b", "Copyright 2020 B"),
        notice("a", "Copyright 2019 Å", text=MIT.replace("\n", "  ")),
        notice("b", "Copyright 2021 C"),
        notice("c", text=APACHE, licence="Apache-2.0"),
    ]
    one, other = merged(held)
    assert (one.licence, other.licence) == ("Apache-2.0", "MIT")
    assert [(holder.who, holder.lines) for holder in other.holders] == [
        ("a", ("Copyright 2019 Å",)),
        ("b", ("Copyright 2020 B", "Copyright 2021 C")),
    ]
    text = notices_text(merged(held))
    assert text.count("Permission is hereby granted") == 1 and "b 1\n    Copyright 2020 B\n    Copyright 2021 C" in text
    assert {holder.who for holder in merged(held[::-1])[1].holders} == {"a", "b"}


def test_who_brings_no_text_is_pointed_to_the_words_or_to_where_they_are() -> None:
    held = merged([
        notice("a", "Copyright 2020 A"),
        notice("b", text=""),
        notice("c", text="", licence="ISC AND (Zlib OR 0BSD)"),
        notice("mine", text="", licence="LicenseRef-Own"),
    ])  # fmt: skip
    text = notices_text(held)
    assert "They are under MIT, whose words are those of number 1 above.\n\nb 1" in text
    assert "see https://spdx.org/licenses/ISC.html, https://spdx.org/licenses/Zlib.html" in text
    assert "LicenseRef-Own is no public licence, but what their owner states" in text


def many(number: int) -> Rights:
    """As of so many sources: two in three under a text of their own, as licence files with other line breaks are."""
    notices = [
        notice(f"pröject-{n}", f"Copyright (c) 2020 Höldér {n}", text=MIT if n % 3 else f"{MIT} {n} " * 60)
        for n in range(number)
    ]
    rows = tuple((f"LicenseRef-{n} OR MIT", 1, n, n * 1000) for n in range(number))
    table = Material(stage="sft", told="All of it.", columns=("licence", "distributions", "files", "tokens"), rows=rows)
    return Rights(learnt=(table,), guards=(GuardedBy(stage="sft", suites=(SUITE,)),), notices=merged(notices))


def test_a_card_stays_a_page_where_a_corpus_has_800_sources(tmp_path: Path) -> None:
    held = many(800)
    rights.write(tmp_path, held)
    assert rights.read(tmp_path) == held
    text = section(held, ["sft"])
    assert text.count("\n") < 60 and "and 760 more, all in the files below" in text
    notices = (tmp_path / rights.NOTICES).read_text()
    assert all(f"pröject-{n} 1\n" in notices for n in range(800))


def test_the_card_names_suites_with_number_and_hash_by_stage_and_what_was_not_guarded() -> None:
    other = SUITE | {"suite": "mbpp", "problems": 500}
    held = union(
        Rights(guards=(GuardedBy(stage="grm", suites=(SUITE, other), unguarded=("apps",)),)),
        Rights(guards=(GuardedBy(stage="evolve", suites=(SUITE,)),)),
    )
    text = section(held, [])
    assert "| humaneval | 164 | `abababababababab` | grm, evolve |\n| mbpp | 500 | `abababababababab` | grm |" in text
    assert "Not guarded against in grm: apps." in text


def test_a_union_holds_each_thing_of_each_once() -> None:
    one = union(of_problems("grm", {("mbpp", "CC-BY-4.0"): 4}), Rights(notices=(notice("a"),), remarks=("x",)))
    other = union(
        of_problems("evolve", {("user", "LicenseRef-Own"): 2}), Rights(notices=(notice("b"),), remarks=("x",))
    )
    both = union(one, other)
    assert [material.stage for material in both.learnt] == ["grm", "evolve"] and both.remarks.count("x") == 1
    assert [holder.who for holder in both.notices[0].holders] == ["a", "b"]
    assert "no public licence (LicenseRef-Own): whoever passes this on needs its owner's leave" in section(both, [])
    assert union(both, one) == both


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose SFT is complete, by a version that kept nothing beside its weights."""
    run = Run(tmp_path / "run")
    for folder in (run.sft_adapter, run.corpus):
        folder.mkdir(parents=True)
    write_json(run.sft_meta, {})
    manifest = {"tokens": 5, "documents": 2, "licences": LICENCES, "non_osi_sources": []}
    write_json(run.corpus_manifest, manifest)
    run.attribution.write_text("distribution\nattrs\n")
    return run


def test_an_older_adapter_tells_what_the_run_still_holds_and_one_whose_corpus_is_gone_says_so(run: Run) -> None:
    held, tables = of_adapter(run, "sft")
    assert held.remarks == (OLDER,) and held.learnt[0].rows[0] == ("MIT", 2, 7, 900) and list(tables) == ["sft"]
    run.corpus_manifest.unlink()
    run.attribution.unlink()
    held, tables = of_adapter(run, "sft")
    assert held == Rights(remarks=(GONE.format(stage="sft", place="corpus/manifest.json"),)) and not tables


def test_an_adapter_tells_whose_it_is_when_its_corpus_is_gone(run: Run) -> None:
    own = union(of_corpus({"tokens": 5, "documents": 2, "licences": LICENCES}), Rights(notices=(notice("a"),)))
    rights.write(run.sft_adapter, own, {"sft": run.attribution})
    for path in (run.corpus_manifest, run.attribution):
        path.unlink()
    held, tables = of_adapter(run, "sft")
    assert held == own and tables["sft"].read_text() == "distribution\nattrs\n"


def test_evolution_that_began_with_self_reward_tells_of_both_also_where_only_one_kept_its_rights(run: Run) -> None:
    for folder in (run.grm_adapter, run.evolve_adapter):
        folder.mkdir(parents=True)
    rights.write(run.grm_adapter, union(of_problems("grm", {("mined", "MIT"): 3}), Rights(notices=(notice("a"),))))
    write_json(run.grm_meta, {"problems": []})
    row = {"source": "ours", "licence": "MIT", "learnt": 7}
    write_json(run.evolve_meta, {"start": "self-reward", "problems": [row]})
    held, _ = of_adapter(run, "evolve")
    assert [one.stage for one in held.learnt] == ["grm", "evolve"] and held.notices[0].holders[0].who == "a"
    assert held.remarks == (OLDER,)


def test_what_travels_with_an_adapter_is_there_after_it_is_cut(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "qwen2")
    write_adapter(base, tmp_path / "adapter", seed=0, rank=4, share=1.0)
    (tmp_path / "sft.csv").write_text("distribution\nattrs\n")
    rights.write(tmp_path / "adapter", many(2), {"sft": tmp_path / "sft.csv"})
    (tmp_path / "adapter" / "README.md").write_text("# Adapter\n\nA LoRA adapter, r=4.\n")
    truncate_command(tmp_path / "adapter", 2, tmp_path / "cut")
    assert rights.read(tmp_path / "cut") == many(2) and list(rights.tables(tmp_path / "cut")) == ["sft"]
    assert (tmp_path / "cut" / "README.md").read_text().endswith("This copy was taken from rank 4 to rank 2.\n")


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("license: mit", "mit"),
        ("license:\n- apache-2.0\ntags:\n- code", "apache-2.0"),
        ("license:\nlibrary_name: peft", ""),
        ("license: other\nlicense_name: own-terms", "own-terms"),
    ],
)
def test_what_a_base_calls_its_licence_is_read_in_every_form_of_a_cards_head(
    head: str, licence: str, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_bytes(f"---\n{head}\n---\n".replace("\n", "\r\n").encode())
    (notice,) = model_notices(ModelSettings(source="path", name=str(tmp_path)))
    assert notice.licence == licence


def test_a_broken_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    write_json(tmp_path / rights.FACTS, {"learnt": [{"stage": "sft"}]})
    with pytest.raises(UserError, match="rights.json holds what no run of this version holds"):
        rights.read(tmp_path)
