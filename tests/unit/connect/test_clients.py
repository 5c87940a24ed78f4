"""The settings of each client, read back by its format's own parser."""

import json
from typing import Any

import pytest
import yaml

from app.connect.clients import AGENT_TOKENS, CLIENTS, ClientSettings
from app.connect.command import NAMES
from app.connect.served import KEY_VARIABLE, Served, ServedModel
from app.connect.writing import text_of
from app.prompting.fill_in import MARKS

URL = "http://127.0.0.1:8123"
BASE, SFT = ServedModel(name="qwen2.5-coder-0.5b", max_model_len=4096), ServedModel(name="sft", max_model_len=4096)
QWEN = MARKS[0]


def served(chosen: ServedModel = BASE, marks: tuple[str, str, str] | None = QWEN) -> Served:
    return Served(url=URL, models=(BASE, SFT), chosen=chosen, marks=marks)


def read(settings: ClientSettings) -> Any:
    text = text_of(settings)
    return yaml.safe_load(text) if settings.form == "yaml" else json.loads(text)


def of(name: str, **options: Any) -> Any:
    return read(CLIENTS[name](served(**options)))


def test_the_command_offers_every_client() -> None:
    assert tuple(CLIENTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_in_its_format_and_names_the_server_and_the_model_that_was_chosen(name: str) -> None:
    settings = CLIENTS[name](served(chosen=SFT))
    text = json.dumps(read(settings))
    assert URL in text and "sft" in text
    assert KEY_VARIABLE in text + " ".join(settings.then), "where the key goes is said"


def test_claude_code_gets_the_address_without_v1_and_the_others_with_it() -> None:
    assert of("claude-code")["env"]["ANTHROPIC_BASE_URL"] == URL
    opencode = of("opencode")["provider"]["pocketcoder"]["options"]["baseURL"]
    zed = of("zed")["language_models"]["openai_compatible"]["pocketcoder"]["api_url"]
    addresses = {opencode, zed, of("aider")["openai-api-base"], of("llm")[0]["api_base"]}
    assert addresses | {model["apiBase"] for model in of("continue")["models"]} == {f"{URL}/v1"}


def test_every_model_is_offered_by_name_with_room_for_prompt_and_answer() -> None:
    zed = of("zed")["language_models"]["openai_compatible"]["pocketcoder"]["available_models"]
    assert [(model["name"], model["max_tokens"]) for model in zed] == [(BASE.name, 4096), ("sft", 4096)]
    limits = [model["limit"] for model in of("opencode")["provider"]["pocketcoder"]["models"].values()]
    chats = [model["defaultCompletionOptions"] for model in of("continue")["models"] if "chat" in model["roles"]]
    assert [limit["output"] < limit["context"] == 4096 for limit in limits] == [True, True]
    assert [chat["maxTokens"] < chat["contextLength"] == 4096 for chat in chats] == [True, True]
    assert [model["model_name"] for model in of("llm")] == [BASE.name, "sft"]


def test_a_client_starts_with_the_model_that_was_chosen() -> None:
    assert of("opencode", chosen=SFT)["model"] == "pocketcoder/sft"
    assert of("aider", chosen=SFT)["model"] == of("aider", chosen=SFT)["weak-model"] == "openai/sft"
    assert of("zed", chosen=SFT)["agent"]["default_model"] == {"provider": "pocketcoder", "model": "sft"}
    env = of("claude-code", chosen=SFT)["env"]
    assert {value for name, value in env.items() if name.endswith("_MODEL")} == {"sft"} and len(env) == 7


def autocompletes(**options: Any) -> list[dict[str, Any]]:
    return [model for model in of("continue", **options)["models"] if model["roles"] == ["autocomplete"]]


def test_continue_completes_with_the_marks_of_the_model() -> None:
    (own,) = autocompletes(chosen=SFT)
    template = own["promptTemplates"]["autocomplete"]
    assert template == "<|fim_prefix|>{{{prefix}}}<|fim_suffix|>{{{suffix}}}<|fim_middle|>"
    (known,) = autocompletes()
    assert "promptTemplates" not in known, "by this name Continue finds its own template, which shows other files too"


def test_continue_gets_no_autocomplete_of_a_model_that_fills_no_gap() -> None:
    assert autocompletes(marks=None) == []
    assert any("no autocomplete" in step for step in CLIENTS["continue"](served(marks=None)).then)


def test_an_agent_whose_instructions_do_not_fit_is_told_of_before_it_fails() -> None:
    roomy = ServedModel(name="sft", max_model_len=AGENT_TOKENS)
    for name in ("opencode", "claude-code"):
        assert any("max_model_len" in step for step in CLIENTS[name](served()).then)
        assert not any("max_model_len" in step for step in CLIENTS[name](served(chosen=roomy)).then)
    assert of("aider")["map-tokens"] == 0 and "map-tokens" not in of("aider", chosen=roomy)
