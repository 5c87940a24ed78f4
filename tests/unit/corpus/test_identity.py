"""What decides a corpus' bytes is in its identity, what does not is not, and a corpus of another one is told."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.corpus.build import _plan, _with_files_to_mine
from app.corpus.clean.guard import guard_of
from app.corpus.identity import check_complete, identify, of_mined, of_shard, source_digests, tokenizer_sha256
from app.corpus.jobs import Job, discard_others
from app.corpus.mining import find_candidates
from app.corpus.mining.storage import CANDIDATE_SCHEMA
from app.corpus.recipe_files import load_recipe
from app.corpus.recipes import Cleaning, Recipe
from app.corpus.shard_files import IDENTITY, is_made, part, write_rows
from app.corpus.sources.distributions import read_source
from app.corpus.sources.find import find_distributions
from app.errors import UserError
from app.files.json_files import write_json
from app.overrides import with_overrides
from app.profiles import smoke
from app.records import BenchmarkText
from app.runs import Run, open_run
from app.settings import Profile
from tests.unit.corpus.builds import build_in

CODE = '''def halves(numbers):
    """Return half of each number of a list, in the order of the list.

    >>> halves([2, 4])
    [1.0, 2.0]
    """
    found = []
    for number in numbers:
        found.append(number / 2)
    return found
'''
OTHER_GUARD = guard_of({"made": [BenchmarkText(problem_id="1", entry_point="f", text="def f(): pass")]})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "pyproject.toml").write_text('[project]\nname = "tree"\nversion = "1"\nlicense = "MIT"\n')
    (folder / "shapes.py").write_text(CODE)
    return folder


@pytest.fixture
def write(tmp_path: Path, tree: Path) -> Callable[..., Profile]:
    """Writes the recipe with some keys changed; gives a profile that names it."""

    def written(*changes: str, **keys: Any) -> Profile:
        path = tmp_path / "recipe.yaml"
        path.write_text(
            yaml.safe_dump(
                {"name": "mine", "sources": [{"kind": "tree", "path": str(tree)}], "forms": {"file": 1.0}}
                | {"split": {"train": 1.0, "validation": 0.0, "test": 0.0}}
                | keys
            )
        )
        return with_overrides(smoke(), [f"corpus.recipe={path}", *changes])

    return written


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


def complete(run: Run, profile: Profile, model: Path) -> None:
    identity = identify(profile, load_recipe(profile.corpus), model, guard_of({}), sources_of(run, profile))
    write_json(run.corpus_manifest, {"identity": identity.facts()})


def sources_of(run: Run, profile: Profile) -> dict[str, str]:
    return _plan(run, profile).sources


def refusal(run: Run, profile: Profile, model: Path, **more: Any) -> str:
    try:
        check_complete(run, profile, model, guard_of({}), **more)
    except UserError as error:
        return str(error)
    return ""


DECIDING = ("corpus.seq_len", "corpus.max_files", "corpus.max_mined_files", "corpus.files_per_shard")
DECIDING += ("sandbox.timeout_s", "sandbox.memory_bytes")


def test_the_settings_of_an_identity_are_tried_below(write: Callable[..., Profile], model: Path) -> None:
    settings = identify(write(), load_recipe(write().corpus), model, None).settings
    assert {*settings} == {key.removeprefix("corpus.") for key in DECIDING}


@pytest.mark.parametrize("key", DECIDING)
def test_a_setting_that_a_complete_corpus_was_built_with_is_refused_before_the_run_takes_it(
    write: Callable[..., Profile], model: Path, tmp_path: Path, key: str
) -> None:
    """Once it stood in run.json, the run could not be resumed under its old settings either."""
    other = write(f"{key}={1 << 29 if key == 'sandbox.memory_bytes' else 77}")
    with open_run(tmp_path / "run", write(), resume=False) as run:
        complete(run, write(), model)
    held = run.info.read_bytes()
    assert key.removeprefix("corpus.") in refusal(run, other, model)
    with pytest.raises(UserError, match=f"holds another run .{key}"), open_run(run.root, other, resume=True):
        pass
    assert run.info.read_bytes() == held
    with open_run(run.root, write(), resume=True):
        assert refusal(run, write(), model) == ""


def test_a_recipe_edited_after_the_plan_is_planned_anew(run: Run, write: Callable[..., Profile]) -> None:
    assert _plan(run, write()).recipe.forms.file == 1.0
    assert _plan(run, write(forms={"file": 0.25})).recipe.forms.file == 0.25


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"forms": {"file": 0.25}}, "recipe.forms.file: 1.0 -> 0.25"),
        ({"cleaning": {"max_bytes": 1000}}, "recipe.cleaning.max_bytes"),
        ({"split": {"train": 0.5, "validation": 0.5, "test": 0.0}}, "recipe.split.train"),
        ({"licences": {"also_allow": ["CC0-1.0"]}}, "recipe.licences.also_allow"),
        ({"sources": [{"kind": "standard_library"}]}, "recipe.sources.0.kind"),
    ],
)
def test_a_complete_corpus_of_another_recipe_is_refused_and_what_changed_is_named(
    run: Run, write: Callable[..., Profile], model: Path, keys: dict[str, Any], named: str
) -> None:
    complete(run, write(), model)
    assert refusal(run, write(), model) == ""
    told = refusal(run, write(**keys), model)
    assert named in told and "choose another --run" in told and str(run.corpus) in told


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("corpus.seq_len=64", "settings.seq_len: 128 -> 64"),
        ("corpus.max_files=7", "settings.max_files"),
        ("corpus.max_mined_files=7", "settings.max_mined_files"),
        ("corpus.files_per_shard=7", "settings.files_per_shard"),
        ("seed=7", "seed: 0 -> 7"),
        ("sandbox.timeout_s=7", "settings.sandbox.timeout_s"),
        ("corpus.num_workers=7", ""),
        ("cluster.dashboard=true", ""),
        ("cluster.object_store_bytes=100000000", ""),
        ("sandbox.num_workers=7", ""),
        ("sft.max_steps=7", ""),
    ],
)
def test_settings_that_decide_bytes_are_told_and_the_others_are_not(
    run: Run, write: Callable[..., Profile], model: Path, change: str, named: str
) -> None:
    complete(run, write(), model)
    told = refusal(run, write(change), model)
    assert named in told and bool(told) == bool(named)


def test_another_tokenizer_or_template_is_another_corpus_and_other_weights_are_not(
    run: Run, write: Callable[..., Profile], model: Path
) -> None:
    complete(run, write(), model)
    (model / "model.safetensors").write_bytes(b"others")
    (model / "generation_config.json").write_text("{}")
    assert refusal(run, write(), model) == ""
    (model / "chat_template.jinja").write_text("{{ message }}")
    assert "tokenizer changed" in refusal(run, write(), model)
    before = tokenizer_sha256(model)
    (model / "tokenizer.json").write_text("[]")
    assert tokenizer_sha256(model) != before


def test_a_template_in_a_folder_of_its_own_decides_the_corpus_too(model: Path) -> None:
    before = tokenizer_sha256(model)
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates/tool_use.jinja").write_text("{{ tools }}")
    assert tokenizer_sha256(model) != before


def test_a_large_file_that_the_recipe_takes_is_told_from_another_of_its_size(
    run: Run, write: Callable[..., Profile], tree: Path
) -> None:
    profile = write(cleaning={"max_bytes": 5_000_000})
    (tree / "large.py").write_text(CODE + "# 1" * 500_000)
    before = sources_of(run, profile)
    (tree / "large.py").write_text(CODE + "# 2" * 500_000)
    assert sources_of(run, profile) != before


@pytest.mark.parametrize("left", [b"", b"PAR1", b"PAR1" + bytes(50) + b"\x10\0\0\0PAR1"])
def test_a_part_that_is_damaged_is_made_anew(tmp_path: Path, left: bytes) -> None:
    for index in range(2):
        write_rows(part(tmp_path, "p", index), [], CANDIDATE_SCHEMA.with_metadata({IDENTITY: "one"}))
    part(tmp_path, "p", 1).write_bytes(left)
    assert is_made(part(tmp_path, "p", 0), "one") and not is_made(part(tmp_path, "p", 1), "one")
    discard_others(tmp_path / "p", jobs_of(tmp_path, "one", "one"))
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["part-00000.parquet"]


def test_a_source_edited_in_place_is_noticed_whatever_its_size_and_time(
    run: Run, write: Callable[..., Profile], model: Path, tree: Path
) -> None:
    complete(run, write(), model)
    assert refusal(run, write(), model, sources=sources_of(run, write())) == ""
    state = (tree / "shapes.py").stat()
    (tree / "shapes.py").write_text(CODE.replace("halves", "thirds"))
    os.utime(tree / "shapes.py", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "sources.tree changed" in refusal(run, write(), model, sources=sources_of(run, write()))
    assert refusal(run, write(), model) == "", "a run that only goes on keeps the corpus that it has"


def test_a_file_of_training_problems_is_one_of_the_sources(
    run: Run, write: Callable[..., Profile], tree: Path, tmp_path: Path
) -> None:
    problems = tmp_path / "problems.jsonl"
    sources = [{"kind": "tree", "path": str(tree)}, {"kind": "mbpp_train", "path": str(problems)}]
    profile = write(sources=sources, licences={"allow_non_osi": True})
    row = {"task_id": 601, "text": "Double a number.", "code": "def f(x): return 2 * x", "test_setup_code": ""}
    row |= {"test_list": ["assert f(1) == 2"], "challenge_test_list": []}
    problems.write_text(json.dumps(row) + "\n")
    before = sources_of(run, profile)
    problems.write_text(json.dumps(row) + "\n\n")
    after = sources_of(run, profile)
    assert {name for name in before if before[name] != after[name]} == {"problems of mbpp_train"}


def test_a_guard_that_drifts_is_said_and_refused_where_a_corpus_is_asked_for(
    run: Run, write: Callable[..., Profile], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(run, write(), model)
    check_complete(run, write(), model, OTHER_GUARD)
    assert "guard.made changed" in capsys.readouterr().err
    with pytest.raises(UserError, match="guard.made changed"):
        check_complete(run, write(), model, OTHER_GUARD, sources_of(run, write()))


def test_a_manifest_of_an_older_version_is_compared_by_what_it_holds(
    run: Run, write: Callable[..., Profile], model: Path
) -> None:
    profile = write()
    recipe = load_recipe(profile.corpus).model_dump(mode="json")
    write_json(run.corpus_manifest, {"settings": profile.corpus.model_dump(), "recipe": recipe, "seed": 0})
    assert refusal(run, profile, model) == ""
    assert "recipe.forms.file" in refusal(run, write(forms={"file": 0.5}), model)
    assert "settings.seq_len" in refusal(run, write("corpus.seq_len=64"), model)
    assert "older version" in refusal(run, write(), model, sources=sources_of(run, write()))
    write_json(run.corpus_manifest, {"rows": 3})
    assert refusal(run, profile, model) == ""


def jobs_of(folder: Path, *identities: str) -> list[Job]:
    build = build_in(folder)
    return [Job(index=index, identity=identity, build=build) for index, identity in enumerate(identities)]


def test_parts_of_another_identity_are_removed_with_what_lies_beside_them(tmp_path: Path) -> None:
    for index, identity in enumerate(("a", "b", "c", "d")):
        schema = CANDIDATE_SCHEMA.with_metadata({IDENTITY: identity})
        write_rows(part(tmp_path, "train", index), [], schema)
        write_rows(part(tmp_path, "left_out", index), [], schema)
    write_rows(part(tmp_path, "train", 4), [], CANDIDATE_SCHEMA)
    discard_others(tmp_path / "train", jobs_of(tmp_path, "a", "changed", "c"), tmp_path / "left_out")
    assert [path.name for path in sorted((tmp_path / "train").iterdir())] == [
        "part-00000.parquet",
        "part-00002.parquet",
    ]
    assert [path.name for path in sorted((tmp_path / "left_out").iterdir())] == [
        "part-00000.parquet",
        "part-00002.parquet",
    ]
    assert is_made(part(tmp_path, "train", 0), "a") and not is_made(part(tmp_path, "train", 0), "")


def test_a_part_s_identity_is_all_that_decides_it_and_no_more(
    run: Run, write: Callable[..., Profile], tree: Path, tmp_path: Path
) -> None:
    def parts(profile: Profile, guard: str = "g") -> tuple[str, str]:
        plan = _plan(run, profile)
        (mined,) = plan.mined
        return (
            of_shard(plan.shards[0], plan.recipe, plan.sources, guard),
            of_mined(mined, "train", plan.recipe, plan.sources, guard),
        )

    first = parts(write())
    assert parts(write()) == first
    assert parts(write(forms={"file": 0.1})) == first, "shown otherwise, read alike"
    assert all(a != b for a, b in zip(parts(write(cleaning={"max_bytes": 999})), first, strict=True))
    assert all(a != b for a, b in zip(parts(write(), "another"), first, strict=True))
    moved = tmp_path / "elsewhere"
    tree.rename(moved)
    assert parts(write(sources=[{"kind": "tree", "path": str(moved)}])) == first, "where files lie decides nothing"
    (moved / "shapes.py").write_text(CODE + "\n")
    assert all(a != b for a, b in zip(parts(write(sources=[{"kind": "tree", "path": str(moved)}])), first, strict=True))


def test_a_licence_text_decides_what_travels_and_so_the_identity(write: Callable[..., Profile], tree: Path) -> None:
    def digests() -> dict[str, str]:
        return source_digests(find_distributions(load_recipe(write().corpus), tree.parent / "cache"), ["tree"])

    first = digests()
    (tree / "NOTICE").write_text("Copyright 2020 Jane Doe\n")
    assert digests() != first


def test_a_pipe_among_the_sources_does_not_hold_up_the_plan(write: Callable[..., Profile], tree: Path) -> None:
    os.mkfifo(tree / "pipe.py")
    distributions = find_distributions(load_recipe(write().corpus), tree.parent / "cache")
    assert source_digests(distributions, ["tree"]).keys() == {"tree"}


def test_mining_goes_by_the_recipe_s_cleaning(tree: Path, write: Callable[..., Profile]) -> None:
    (distribution,) = find_distributions(load_recipe(write().corpus), tree.parent / "cache")

    def names(rules: Cleaning) -> list[str]:
        mined = find_candidates(distribution, read_source, "train", rules=rules)
        return [candidate.entry_point for candidate in mined.candidates]

    assert names(Cleaning()) == ["halves"]
    assert names(Cleaning(max_bytes=100)) == [], "refused as a document, so no problem either"
    assert names(Cleaning(min_docstring_chars=1000)) == []


def test_mining_looks_only_at_the_paths_that_a_source_takes(write: Callable[..., Profile], tmp_path: Path) -> None:
    def mined(**keys: Any) -> list[str]:
        data = {"name": "library", "sources": [{"kind": "standard_library"} | keys]}
        recipe = Recipe.model_validate(data | {"licences": {"also_allow": ["PSF-2.0"]}})
        profile = with_overrides(smoke(), ["corpus.max_mined_files=null"])
        found = _with_files_to_mine(find_distributions(recipe, tmp_path), recipe, profile)
        return [file.path for distribution in found for file in distribution.files]

    taken = ["bisect.py", "heapq.py", "test/test_bisect.py"]
    assert mined(include_paths=taken) == taken, "tests too, where they are named"
    left = mined(exclude_paths=["test/*", "a*"])
    assert left and not any(path.startswith(("test/", "a")) for path in left)
