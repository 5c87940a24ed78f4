"""A request of Anthropic's as the chat that the edge answers: one queue, one set of limits, the same tools.

`parse_messages` and `parse_count` take the body's bytes and return a checked chat, or raise ApiError as
`app.serving.requests` does. Thinking is off unless it is asked for, as Anthropic has it.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from app.prompting.tool_schema import RUN_PYTHON_TOOL, SEARCH_DOCS_TOOL
from app.serving.anthropic.schema import (
    AssistantTurn,
    Choice,
    CountRequest,
    CustomTool,
    Message,
    MessagesRequest,
    NamedChoice,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    UserTurn,
)
from app.serving.requests import Limits, checked_chat, loaded, validated
from app.serving.schema import ServerTool

CHANGES_EACH_TIME = "x-anthropic-billing-header"
"""With it one client's first block begins. It differs in every request, and no prompt would be in the cache."""
SERVER_TOOLS = {"search_docs": SEARCH_DOCS_TOOL, "run_python": RUN_PYTHON_TOOL}
THINKS = ("enabled", "adaptive", "between_tools")


def parse_messages(body: bytes, limits: Limits) -> dict[str, Any]:
    request = validated(MessagesRequest, loaded(body, limits))
    chat = _chat(request)
    same = ("temperature", "top_p", "top_k", "stream")
    chat |= {name: value for name in same if (value := getattr(request, name)) is not None}
    if request.max_tokens < limits.max_model_len:  # a client has to name some number; more than there is means all
        chat["max_tokens"] = request.max_tokens
    if request.stop_sequences:
        chat["stop"] = request.stop_sequences
    if request.stream:
        chat["stream_options"] = {"include_usage": True}
    return checked_chat(chat, limits)


def parse_count(body: bytes, limits: Limits) -> dict[str, Any]:
    """What the engine's tokenizer is asked; tools of the server's take the room of their schemas."""
    chat = checked_chat(_chat(validated(CountRequest, loaded(body, limits))), limits)
    asked = {name: chat[name] for name in ("model", "messages", "chat_template_kwargs")}
    tools = [SERVER_TOOLS.get(tool["type"], tool) for tool in chat.get("tools", ())]
    return asked | ({"tools": tools} if tools else {})


def _chat(request: CountRequest) -> dict[str, Any]:
    chat: dict[str, Any] = {"model": request.model, "messages": list(_messages(request))}
    chat["chat_template_kwargs"] = {"enable_thinking": request.thinking is not None and request.thinking.type in THINKS}
    if request.tools:
        chat["tools"] = [_tool(tool) for tool in request.tools]
        if request.tool_choice is not None:
            chat["tool_choice"] = _choice(request.tool_choice, request.tools)
            if request.tool_choice.disable_parallel_tool_use:
                chat["parallel_tool_calls"] = False
    shape = request.output_config.format if request.output_config else None
    if shape is not None:
        schema = {"name": "answer", "schema": shape.schema_, "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    return chat


def _messages(request: CountRequest) -> Iterator[dict[str, Any]]:
    system = _joined(request.system)
    if system:
        yield {"role": "system", "content": system}
    for message in request.messages:
        yield from _of(message)


def _of(message: Message) -> Iterator[dict[str, Any]]:
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
    elif isinstance(message, UserTurn):
        yield from _users(message.content)
    elif isinstance(message, AssistantTurn):
        yield _assistants(message.content)
    else:
        yield {"role": "system", "content": _joined(message.content)}


def _users(blocks: Iterable[Text | ToolResult]) -> Iterator[dict[str, Any]]:
    """Results of tools as messages of their own, and what the user says between and after them."""
    texts: list[Text] = []
    for block in blocks:
        if isinstance(block, Text):
            texts.append(block)
            continue
        if texts:
            yield {"role": "user", "content": _joined(texts)}
            texts = []
        yield {"role": "tool", "tool_call_id": block.tool_use_id, "content": _joined(block.content)}
    if texts:
        yield {"role": "user", "content": _joined(texts)}


def _assistants(blocks: Iterable[Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    message["content"] = "".join(block.text for block in blocks if isinstance(block, Text))
    thoughts = "\n".join(block.thinking for block in blocks if isinstance(block, Thinking))
    if thoughts:
        message["reasoning"] = thoughts
    calls = [
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": json.dumps(block.input)}}
        for block in blocks
        if isinstance(block, ToolUse)
    ]
    return message | ({"tool_calls": calls} if calls else {})


def _joined(words: str | list[Text] | None) -> str:
    if words is None or isinstance(words, str):
        return words or ""
    return "\n".join(block.text for block in words if not block.text.startswith(CHANGES_EACH_TIME))


def _tool(tool: CustomTool | ServerTool) -> dict[str, Any]:
    if isinstance(tool, ServerTool):
        return {"type": tool.type}
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    for field in ("description", "strict"):
        if (value := getattr(tool, field)) is not None:
            function[field] = value
    return {"type": "function", "function": function}


def _choice(choice: Choice | NamedChoice, tools: Iterable[CustomTool | ServerTool]) -> Any:
    if isinstance(choice, Choice):
        return "required" if choice.type == "any" else choice.type
    if any(isinstance(tool, ServerTool) and tool.type == choice.name for tool in tools):
        return {"type": choice.name}
    return {"type": "function", "function": {"name": choice.name}}
