"""The fields that a request of Anthropic's Messages API may have, as `app.serving.schema` has them of OpenAI's: taken;
taken and dropped (`exclude`), since they mean nothing to one local model; or refused with the way out.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.serving.messages import Name, Strict, refusing
from app.serving.schema import ServerTool

Dropped = Annotated[Any, Field(default=None, exclude=True)]
BLOCKS = ("text", "thinking", "redacted_thinking", "tool_use", "tool_result")


def _known_block(block: Any) -> Any:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind is not None and kind not in BLOCKS:
        raise PydanticCustomError("text_only", f"this is a text model: blocks may be {', '.join(BLOCKS)}")
    return block


class Block(Strict):
    cache_control: Dropped
    """Prompts are cached whether it is asked for or not."""


class Text(Block):
    type: Literal["text"]
    text: str
    citations: Dropped


class Thinking(Strict):
    type: Literal["thinking"]
    thinking: str
    signature: Dropped


class RedactedThinking(Strict):
    type: Literal["redacted_thinking"]
    data: Dropped


class ToolUse(Block):
    type: Literal["tool_use"]
    id: str = Field(min_length=1, max_length=256)
    name: Name
    input: dict[str, Any]
    caller: Dropped
    toolset_name: Dropped


TextBlock = Annotated[Text, BeforeValidator(_known_block)]


def _text_or_list(value: Any) -> str:
    return "list" if isinstance(value, list) else "text"


Words = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextBlock], Tag("list")],
    Discriminator(_text_or_list),
]


class ToolResult(Block):
    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1, max_length=256)
    content: Words | None = None
    is_error: bool | None = None
    toolset_name: Dropped


UserBlock = Annotated[Annotated[Text | ToolResult, Field(discriminator="type")], BeforeValidator(_known_block)]
AssistantBlock = Annotated[
    Annotated[Text | Thinking | RedactedThinking | ToolUse, Field(discriminator="type")], BeforeValidator(_known_block)
]


class UserTurn(Strict):
    role: Literal["user"]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[UserBlock], Field(min_length=1), Tag("list")],
        Discriminator(_text_or_list),
    ]


class AssistantTurn(Strict):
    role: Literal["assistant"]
    content: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[AssistantBlock], Tag("list")],
        Discriminator(_text_or_list),
    ]


class SystemTurn(Strict):
    role: Literal["system"]
    content: Words


Message = Annotated[UserTurn | AssistantTurn | SystemTurn, Field(discriminator="role")]


class CustomTool(Block):
    type: Literal["custom"] | None = None
    name: Name
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    allowed_callers: Dropped
    defer_loading: Dropped
    eager_input_streaming: Dropped
    input_examples: Dropped


def _tool_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "client" if kind in (None, "custom") else "server"


AnyTool = Annotated[
    Annotated[CustomTool, Tag("client")] | Annotated[ServerTool, Tag("server")], Discriminator(_tool_kind)
]


class Choice(Strict):
    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool | None = None


class NamedChoice(Strict):
    type: Literal["tool"]
    name: Name
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(Strict):
    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    budget_tokens: Dropped
    display: Dropped


class JsonFormat(Strict):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Strict):
    effort: Dropped
    format: JsonFormat | None = None
    task_budget: Dropped


class CountRequest(Strict):
    """What is asked of `/v1/messages/count_tokens`, and what an answer is asked for with."""

    model: str = Field(min_length=1, max_length=256)
    messages: list[Message] = Field(min_length=1)
    system: Words | None = None
    tools: list[AnyTool] | None = Field(default=None, max_length=128)
    tool_choice: Annotated[Choice | NamedChoice, Field(discriminator="type")] | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    cache_control: Dropped
    context_management: Dropped
    speed: Dropped
    user_profile_id: Dropped
    workspace_id: Dropped
    mcp_servers: Annotated[Any, refusing("this server connects to no others: name tools in tools")] = Field(
        default=None, exclude=True
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if isinstance(self.messages[-1], AssistantTurn):
            raise PydanticCustomError(
                "prefill", "messages end with the assistant's: end with the user's, a given answer is not gone on with"
            )
        names = [tool.name if isinstance(tool, CustomTool) else tool.type for tool in self.tools or ()]
        if isinstance(self.tool_choice, NamedChoice) and self.tool_choice.name not in names:
            raise PydanticCustomError("unknown_tool", "tool_choice names a tool that is not among the tools")
        if self.tool_choice is not None and self.tool_choice.type == "any" and not names:
            raise PydanticCustomError("needs_tools", "tool_choice needs tools to choose from")
        return self


class MessagesRequest(CountRequest):
    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    stop_sequences: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        default=None, max_length=16
    )
    temperature: float | None = Field(default=None, ge=0, le=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    metadata: Dropped
    service_tier: Dropped
    inference_geo: Dropped
    diagnostics: Dropped
    fallbacks: Dropped
    container: Annotated[Any, refusing("this server has no containers: run_python is its sandbox")] = Field(
        default=None, exclude=True
    )
