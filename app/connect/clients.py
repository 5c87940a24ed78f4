"""The settings of each client: which file it reads, what stands in it, where the key goes.

None of them holds the key: each names the environment variable POCKETCODER_API_KEY, or a place that the client fills
from it. Forms are those of the clients' own documentation: Continue's config.yaml reference, Zed's "LLM Providers",
aider's "OpenAI compatible APIs", opencode's "Providers", llm's "OpenAI-compatible models", Claude Code's "LLM gateway".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.connect.served import KEY_VARIABLE, Served, ServedModel

OWN = "pocketcoder"
"""What every entry of ours is named by, or begins with."""
NOT_RUN = "not run"
SMALL_CONTEXT = 8192
"""Tokens, under which a map of the repository leaves too little room for the files."""
AGENT_TOKENS = 10_000
"""What an agent of this kind wants: opencode 1.18's instructions and tools alone took 7,200 tokens of a Qwen model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What one client is told. Made by the functions in CLIENTS; read by the command and by `writing`."""

    title: str
    file: str
    """Where the client reads it, from the home directory or the present one."""
    form: Literal["json", "yaml"]
    content: Mapping[str, Any] | list[Mapping[str, Any]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Written only where the file says nothing of its own."""
    is_ours: bool = False
    """Whether the file is made for this server alone, so that its values may be replaced."""
    then: tuple[str, ...]
    """What is left to be done, a sentence or a command each: the key, how to start."""
    ran: str
    """What was tried with this server; NOT_RUN where nothing was."""


def answer_tokens(model: ServedModel) -> int:
    """Tokens that a client may reserve for an answer: a quarter, as much as leaves room for files in the prompt."""
    return max(64, min(4096, model.max_model_len // 4))


def continue_dev(served: Served) -> ClientSettings:
    """Through the provider `openai`: with `vllm` Continue would put its own chat template around the prompt."""
    models = [_continue_model(served, model) for model in served.models]
    if served.marks is not None:
        models.append(_continue_autocomplete(served, served.chosen, served.marks))
    fills = () if served.marks else (f"{served.chosen.name} has no fill-in tokens, so there is no autocomplete",)
    return ClientSettings(
        title="Continue",
        file="~/.continue/config.yaml",
        form="yaml",
        content={"models": models},
        defaults={"name": OWN, "version": "1.0.0", "schema": "v1"},
        then=(
            f"put {KEY_VARIABLE}=<your key> into ~/.continue/.env: an editor has no shell's variables",
            *fills,
        ),
        ran="its requests were replayed (chat, tools, fill-in); the extension itself was not run",
    )


def _continue_model(served: Served, model: ServedModel) -> dict[str, Any]:
    options = {"contextLength": model.max_model_len, "maxTokens": answer_tokens(model)}
    return _continue_entry(served, model, f"{OWN}: {model.name}") | {
        "roles": ["chat", "edit", "apply"],
        "defaultCompletionOptions": options,
    }


def _continue_autocomplete(served: Served, model: ServedModel, marks: tuple[str, str, str]) -> dict[str, Any]:
    entry = _continue_entry(served, model, f"{OWN}: {model.name} (autocomplete)") | {
        "roles": ["autocomplete"],
        "defaultCompletionOptions": {
            "contextLength": model.max_model_len,
            "maxTokens": min(256, answer_tokens(model)),
            "temperature": 0.0,
        },
    }
    name = model.name.lower()
    if not ("qwen" in name and "coder" in name):
        # Continue chooses a template by the model's name. It has its own for these, with other files in it; to an
        # adapter's name, and to Qwen3's, it would give one with marks of other models.
        before, between, after = marks
        template = before + "{{{prefix}}}" + between + "{{{suffix}}}" + after
        entry["promptTemplates"] = {"autocomplete": template}
    return entry


def _continue_entry(served: Served, model: ServedModel, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "provider": "openai",
        "model": model.name,
        "apiBase": served.api,
        "apiKey": "${{ secrets." + KEY_VARIABLE + " }}",
    }


def zed(served: Served) -> ClientSettings:
    models = [
        {
            "name": model.name,
            "display_name": f"{model.name} ({OWN})",
            "max_tokens": model.max_model_len,
            "max_output_tokens": answer_tokens(model),
            "capabilities": {"tools": True, "images": False, "parallel_tool_calls": False, "prompt_cache_key": False},
        }
        for model in served.models
    ]
    own = {OWN: {"api_url": served.api, "available_models": models}}
    return ClientSettings(
        title="Zed",
        file="~/.config/zed/settings.json",
        form="json",
        content={"language_models": {"openai_compatible": own}},
        defaults={"agent": {"default_model": {"provider": OWN, "model": served.chosen.name}}},
        then=(f"start Zed where {KEY_VARIABLE} is set, or give it the key in its settings of the provider {OWN!r}",),
        ran=NOT_RUN,
    )


def aider(served: Served) -> ClientSettings:
    name = f"openai/{served.chosen.name}"
    content: dict[str, Any] = {
        "model": name,
        "weak-model": name,
        "openai-api-base": served.api,
        "edit-format": "whole",  # small models write no diff that applies
        "show-model-warnings": False,
    }
    if served.chosen.max_model_len < SMALL_CONTEXT:
        content["map-tokens"] = 0
    file = f".aider.{OWN}.yml"
    return ClientSettings(
        title="aider",
        file=file,
        form="yaml",
        content=content,
        is_ours=True,
        then=(f'OPENAI_API_KEY="${KEY_VARIABLE}" aider --config {file}',),
        ran="0.86 changed a file",
    )


def opencode(served: Served) -> ClientSettings:
    models = {
        model.name: {
            "name": f"{model.name} ({OWN})",
            "tool_call": True,
            "limit": {"context": model.max_model_len, "output": answer_tokens(model)},
        }
        for model in served.models
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": OWN,
        "options": {"baseURL": served.api, "apiKey": "{env:" + KEY_VARIABLE + "}"},
        "models": models,
    }
    return ClientSettings(
        title="opencode",
        file="opencode.json",
        form="json",
        content={"provider": {OWN: provider}},
        defaults={"$schema": "https://opencode.ai/config.json", "model": f"{OWN}/{served.chosen.name}"},
        then=(f"start it where {KEY_VARIABLE} is set: opencode", *_room(served, "opencode")),
        ran="1.18 answered a question about a file",
    )


def _room(served: Served, who: str) -> tuple[str, ...]:
    room = served.chosen.max_model_len
    if room >= AGENT_TOKENS:
        return ()
    return (
        f"{who} wants about {AGENT_TOKENS:,} tokens of context and the server has {room:,}: start it with --set "
        "serving.max_model_len=16384",
    )


def llm(served: Served) -> ClientSettings:
    content: list[Mapping[str, Any]] = [
        {
            "model_id": f"{OWN}/{model.name}",
            "model_name": model.name,
            "api_base": served.api,
            "api_key_name": OWN,
            "supports_tools": True,
            "supports_schema": True,
        }
        for model in served.models
    ]
    return ClientSettings(
        title="llm",
        file="~/.config/io.datasette.llm/extra-openai-models.yaml",
        form="yaml",
        content=content,
        then=(
            f'llm -m {OWN}/{served.chosen.name} --key "${KEY_VARIABLE}" "..."',
            f"or keep the key with llm: `llm keys set {OWN}`",
        ),
        ran="0.36 asked, with and without a schema",
    )


def claude_code(served: Served) -> ClientSettings:
    name = served.chosen.name
    env = {
        "ANTHROPIC_BASE_URL": served.url,
        "ANTHROPIC_MODEL": name,
        **{f"ANTHROPIC_DEFAULT_{tier}_MODEL": name for tier in ("OPUS", "SONNET", "HAIKU")},
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(answer_tokens(served.chosen)),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    file = f".claude/{OWN}.json"
    return ClientSettings(
        title="Claude Code",
        file=file,
        form="json",
        content={"apiKeyHelper": f"printenv {KEY_VARIABLE}", "env": env},
        is_ours=True,
        then=(
            f"start it where {KEY_VARIABLE} is set: claude --settings {file}",
            *_room(served, "such an agent"),
        ),
        ran=NOT_RUN,
    )


CLIENTS: Mapping[str, Callable[[Served], ClientSettings]] = {
    "continue": continue_dev,
    "zed": zed,
    "aider": aider,
    "opencode": opencode,
    "llm": llm,
    "claude-code": claude_code,
}
