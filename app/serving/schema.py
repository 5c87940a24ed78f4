"""The fields a request may have. What isn't named here is refused: vLLM's own models take far more, among it templates
that run (chat_template), tensors (prompt_embeds) and places to fetch from (image_url).

Types and fixed ranges stand here; caps that depend on the server stand in `requests.Limits`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Tokens = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """No conversions ("5" is no number), no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class TextPart(Strict):
    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, part: Any) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind is not None and kind != "text":
            raise PydanticCustomError("text_only", 'this is a text model: only {{"type": "text"}} parts are taken')
        return part


def _text_or_list(value: Any) -> str:
    return "list" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Field(min_length=1), Tag("list")],
    Discriminator(_text_or_list),
]


class SystemMessage(Strict):
    role: Literal["system", "developer", "user"]
    content: Content
    name: str | None = Field(default=None, max_length=64)


class FunctionCall(Strict):
    name: Name
    arguments: str


class ToolCall(Strict):
    id: str = Field(max_length=256)
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None


class AssistantMessage(Strict):
    """What clients send back is what they got, so the empty fields of an answer are taken too."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = Field(default=None, max_length=64)
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=128)
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    annotations: None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise PydanticCustomError("empty_message", "an assistant's message needs content or tool_calls")
        return self


class ToolMessage(Strict):
    role: Literal["tool"]
    content: Content
    tool_call_id: str = Field(max_length=256)
    name: str | None = Field(default=None, max_length=64)


class StreamOptions(Strict):
    include_usage: bool | None = None


class Plain(Strict):
    type: Literal["text", "json_object"]


class JsonSchema(Strict):
    name: Name
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class BySchema(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class Function(Strict):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    type: Literal["function"]
    function: Function


class NamedFunction(Strict):
    name: Name


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction


class TemplateSettings(Strict):
    enable_thinking: bool


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _choice_kind(value: Any) -> str:
    return "named" if isinstance(value, dict | NamedTool) else "word"


Stop = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list)]
Bias = Annotated[float, Field(ge=-100, le=100)]
ResponseFormat = Annotated[Plain | BySchema, Field(discriminator="type")]
Message = Annotated[SystemMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")] | Annotated[NamedTool, Tag("named")],
    Discriminator(_choice_kind),
]


class Request(Strict):
    """What both kinds of request have. null is the same as leaving a field out, as OpenAI has it."""

    model: str = Field(min_length=1, max_length=256)
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    n: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logit_bias: dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Bias] | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None

    @model_validator(mode="after")
    def _usage_of_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("needs_stream", "stream_options needs stream: true")
        return self


class ChatRequest(Request):
    messages: list[Message] = Field(min_length=1)
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0)
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: TemplateSettings | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("needs_logprobs", "top_logprobs needs logprobs: true")
        names = [tool.function.name for tool in self.tools or ()]
        if self.tool_choice not in (None, "none") and not names:
            raise PydanticCustomError("needs_tools", "tool_choice needs tools to choose from")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise PydanticCustomError("unknown_tool", "tool_choice names a function that is not among the tools")
        return self


def _prompt_kind(value: Any) -> str:
    if not isinstance(value, list):
        return "text"
    return "tokens" if value and isinstance(value[0], int) else "texts"


Text = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Prompt = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[Text], Field(min_length=1, max_length=8), Tag("texts")]
    | Annotated[list[TokenId], Tag("tokens")],
    Discriminator(_prompt_kind),
]


class CompletionRequest(Request):
    prompt: Prompt
    suffix: str | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0)

    @field_validator("suffix")
    @classmethod
    def _nothing_to_fill(cls, suffix: str | None) -> str | None:
        return suffix or None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.suffix is not None and not isinstance(self.prompt, str):
            raise PydanticCustomError("one_gap", "suffix needs one text as prompt: send the gaps one by one")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise PydanticCustomError("best_of", "best_of can only be n: ask for n answers and choose")
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("no_tokens", "max_tokens 0 needs echo: true")
        return self
