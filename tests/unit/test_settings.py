"""Settings refuse what they don't know, and say in one sentence what is wrong and what is allowed."""

import json
from pathlib import Path

import pytest

from app.corpus.recipe_files import load_recipe
from app.errors import UserError
from app.overrides import differences, with_overrides
from app.profiles import PROFILES, get_profile
from app.runs import REPOSITORY
from app.settings import Profile


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_survives_the_way_through_json(name: str) -> None:
    profile = get_profile(name)
    assert profile.name == name
    assert Profile.model_validate(json.loads(profile.model_dump_json())) == profile


@pytest.mark.parametrize(("sandbox", "grm", "left"), [(5.0, 1.0, 1.0), (0.5, 1.0, 0.5)])
def test_drafts_have_the_shorter_of_two_limits_and_nothing_else_changes(
    sandbox: float, grm: float, left: float
) -> None:
    profile = with_overrides(get_profile("laptop"), [f"sandbox.timeout_s={sandbox}", f"grm.timeout_s={grm}"])
    assert profile.for_drafts() == with_overrides(profile, [f"sandbox.timeout_s={left}"])
    assert profile.for_drafts().sandbox.timeout_s == left


@pytest.mark.parametrize("path", sorted((REPOSITORY / "datasets/recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_parses(path: Path) -> None:
    assert load_recipe(str(path)).sources


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_names_a_recipe_that_exists(name: str) -> None:
    load_recipe(get_profile(name).corpus)


LOOKS_LIKE_ANOTHER_TYPE = (
    "1234567",
    "0123",
    "1e5",
    "1.10",
    "true",
    "no",
    "2024-01-01",
    "1:30",
    "[a]",
    "{a: 1}",
    "0x1f",
)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("sft.max_steps=21", ("sft", "max_steps"), 21),
        ("sft.max_steps=null", ("sft", "max_steps"), None),
        ("sft.learning_rate=1e-5", ("sft", "learning_rate"), 1e-5),
        ("sft.gradient_checkpointing=true", ("sft", "gradient_checkpointing"), True),
        ("model.name=some/model", ("model", "name"), "some/model"),
        ("evaluation.protocols=[chat, completion]", ("evaluation", "protocols"), ("chat", "completion")),
        ("seed=7", ("seed",), 7),
        *((f"model.name={text}", ("model", "name"), text) for text in LOOKS_LIKE_ANOTHER_TYPE),
        *((f"model.revision={text}", ("model", "revision"), text) for text in LOOKS_LIKE_ANOTHER_TYPE),
        *((f"corpus.recipe={text}", ("corpus", "recipe"), text) for text in LOOKS_LIKE_ANOTHER_TYPE),
        (
            "evaluation.problems=[1e5, null, 007, 2024-01-01]",
            ("evaluation", "problems"),
            ("1e5", "null", "007", "2024-01-01"),
        ),
        ("model.name='a b'", ("model", "name"), "a b"),
        ("sft.max_steps=010", ("sft", "max_steps"), 10),
        ("sft.nested_ranks=[4, 8]", ("sft", "nested_ranks"), (4, 8)),
    ],
)
def test_overrides_change_exactly_one_value(override: str, key: tuple[str, ...], value: object) -> None:
    before = get_profile("laptop")
    after = with_overrides(before, [override])
    changed: object = after
    for part in key:
        changed = getattr(changed, part)
    assert changed == value
    assert [line.partition(":")[0] for line in differences(after.model_dump(), before.model_dump())] == [".".join(key)]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sft.learning_rte=1", ["learning_rte", "did you mean 'learning_rate'"]),
        ("sgt.lora_r=1", ["sgt", "did you mean 'sft'"]),
        ("sft.lora_r=0", ["sft.lora_r=0", ">= 1 and <= 256"]),
        ("sft.lora_r=many", ["sft.lora_r=many", "a whole number"]),
        ("sft.max_steps=1.5", ["sft.max_steps=1.5", "a whole number or null"]),
        ("sft.learning_rate=-1", ["sft.learning_rate=-1", "> 0 and <= 0.1"]),
        ("model.dtype=int3", ["model.dtype=int3", "'float32', 'bfloat16'"]),
        ("evaluation.protocols=[sing]", ["'chat', 'thinking', 'evalplus', 'completion'"]),
        ("sft=3", ["names a group", "learning_rate"]),
        ("sft.max_steps=true", ["sft.max_steps=true", "a whole number or null"]),
        ("sft.max_grad_norm=.inf", ["sft.max_grad_norm=.inf", "a number > 0"]),
        ("model.dtype=[a", ["model.dtype=[a", "'float32'"]),
        ("sft.lora_r.x=3", ["'lora_r' is a value"]),
        ("sft.lora_r", ["has no '='"]),
    ],
)
def test_a_bad_override_names_key_value_and_what_is_allowed(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        with_overrides(get_profile("laptop"), [override])
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_mistyped_profile_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="'labtop': did you mean 'laptop'"):
        get_profile("labtop")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nsources: [{kind: installed_python}]\nsauces: 1\n", "sauces"),
        ("name: x\nsources: [{kind: telepathy}]\n", "telepathy"),
        ("name: x\nsources: []\n", "sources"),
        ("name: [unclosed\n", "can't be read"),
        ("", "holds no keys"),
    ],
)
def test_an_unreadable_recipe_gives_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_recipe(str(path))
    assert words in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_text_of_a_file_that_yaml_takes_for_another_type_is_told_to_need_quotes(tmp_path: Path) -> None:
    for text in ("12", "1.5", "2024-01-01", "yes"):
        (tmp_path / "r.yaml").write_text(f"name: {text}\nsources: [{{kind: installed_python}}]\n")
        with pytest.raises(UserError, match="needs quotes"):
            load_recipe(str(tmp_path / "r.yaml"))


def test_a_missing_recipe_lists_those_that_exist() -> None:
    with pytest.raises(UserError, match=r"nowhere.yaml.*installed_python.yaml"):
        load_recipe("datasets/recipes/nowhere.yaml")


@pytest.mark.parametrize(
    ("profile", "overrides", "said"),
    [
        ("smoke", ["sft.parallelism=fsdp", "sft.offload=true"], "both say where weights lie: take one of them"),
        ("smoke", ["sft.optimiser=paged_adamw_8bit", "sft.parallelism=fsdp"], "can't cut: take sft.optimiser=adamw or"),
        ("rtx3070", ["sft.offload=true"], "sft.offload=true moves 16-bit weights.*set model.quantization=none"),
        ("rtx3070", ["sft.parallelism=fsdp"], "sft.parallelism=fsdp moves 16-bit weights"),
    ],
)
def test_ways_of_training_that_exclude_each_other_are_refused(profile: str, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        with_overrides(get_profile(profile), overrides)
    with_overrides(get_profile(profile), [*overrides, "model.quantization=none", "sft.parallelism=ddp"])
