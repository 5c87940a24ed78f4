"""The fields a request may have. What isn't named here is refused: vLLM's own models take far more, among it templates
that run (chat_template), tensors (prompt_embeds) and places to fetch from (image_url).

Every field that OpenAI's API has is named: taken; taken and dropped (`exclude`), since it means nothing to one local
model; or refused with the way out (`NotHere`). Types and fixed ranges stand here; caps that depend on the server stand
in `requests.Limits`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Tokens = Annotated[int, Field(ge=1)]


def _refusing(sentence: str) -> Any:
    """A field that OpenAI has and this server has not. Empty values ask for nothing, so they pass and are dropped."""

    def refuse(value: Any) -> None:
        if value not in ([], {}):
            raise PydanticCustomError("not_here", sentence)

    return BeforeValidator(refuse)


class Strict(BaseModel):
    """No conversions ("5" is no number), no unknown fields. null is the same as leaving a field out, whatever its
    name, as OpenAI has it: clients send back whole objects. JSON schemas are no objects of this kind and keep theirs.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


class TextPart(Strict):
    type: Literal["text"]
    text: str
    prompt_cache_breakpoint: dict[str, Any] | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _text_only(cls, part: Any) -> Any:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind is not None and kind != "text":
            raise PydanticCustomError("text_only", 'this is a text model: only {"type": "text"} parts are taken')
        return part


def _text_or_list(value: Any) -> str:
    return "list" if isinstance(value, list) else "text"


Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Field(min_length=1), Tag("list")],
    Discriminator(_text_or_list),
]


def _as_system(role: str) -> str:
    """OpenAI's newer name for the system's role: chat templates of open models leave a developer's message out."""
    return "system" if role == "developer" else role


class AnyMessage(Strict):
    name: str | None = Field(default=None, max_length=64)
    type: Literal["text", "message"] | None = Field(default=None, exclude=True)
    """Not OpenAI's: lm-evaluation-harness sent it for years."""


class SystemMessage(AnyMessage):
    role: Annotated[Literal["system", "developer", "user"], AfterValidator(_as_system)]
    content: Content


class FunctionCall(Strict):
    name: Name
    arguments: str


class ToolCall(Strict):
    id: str = Field(max_length=256)
    type: Literal["function"]
    function: FunctionCall
    index: int | None = None


class AssistantMessage(AnyMessage):
    """What clients send back is what they got, so everything that an answer may hold is taken, empty or not."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=128)
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = Field(default=None, exclude=True)
    annotations: list[Any] | None = Field(default=None, exclude=True)
    audio: Annotated[Any, _refusing("this is a text model: send the words as content")] = Field(
        default=None, exclude=True
    )
    function_call: Annotated[Any, _refusing("send it in the newer form, tool_calls")] = Field(
        default=None, exclude=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refusal_as_content(cls, message: Any) -> Any:
        """To a template a refusal is what the model said."""
        if not isinstance(message, dict):
            return message
        content, refusal = message.get("content"), message.get("refusal")
        if isinstance(content, list):
            content = [_refusal_as_text(part) for part in content]
        return {**message, "content": refusal if content is None or content == [] else content}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise PydanticCustomError("empty_message", "an assistant's message needs content or tool_calls")
        return self


def _refusal_as_text(part: Any) -> Any:
    if isinstance(part, dict) and part.get("type") == "refusal" and isinstance(part.get("refusal"), str):
        return {"type": "text", "text": part["refusal"]}
    return part


class ToolMessage(AnyMessage):
    role: Literal["tool"]
    content: Content
    tool_call_id: str = Field(max_length=256)


class StreamOptions(Strict):
    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(default=None, exclude=True)
    """Padding against listeners that read a stream's sizes. TLS before this server is where that would be done."""


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
    """What both kinds of request have."""

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
    user: str | None = Field(default=None, exclude=True)

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
    metadata: dict[str, Any] | None = Field(default=None, exclude=True)
    store: bool | None = Field(default=None, exclude=True)
    service_tier: str | None = Field(default=None, exclude=True)
    reasoning_effort: str | None = Field(default=None, exclude=True)
    safety_identifier: str | None = Field(default=None, exclude=True)
    prompt_cache_key: str | None = Field(default=None, exclude=True)
    prompt_cache_options: dict[str, Any] | None = Field(default=None, exclude=True)
    prompt_cache_retention: str | None = Field(default=None, exclude=True)
    prediction: dict[str, Any] | None = Field(default=None, exclude=True)
    """A guess at the answer that makes it faster; here n-gram speculation guesses from the prompt."""
    verbosity: str | None = Field(default=None, exclude=True)
    modalities: list[Literal["text"]] | None = Field(default=None, exclude=True)
    audio: Annotated[Any, _refusing("this is a text model: ask for text")] = Field(default=None, exclude=True)
    functions: Annotated[Any, _refusing("send them in the newer form, tools")] = Field(default=None, exclude=True)
    function_call: Annotated[Any, _refusing("send it in the newer form, tool_choice")] = Field(
        default=None, exclude=True
    )
    web_search_options: Annotated[Any, _refusing("this server searches nothing: send what it should know")] = Field(
        default=None, exclude=True
    )
    moderation: Annotated[Any, _refusing("this server moderates nothing: check texts in your own program")] = Field(
        default=None, exclude=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_tools(cls, fields: Any) -> Any:
        """An empty list of tools is none, and leaves nothing to choose."""
        if not isinstance(fields, dict) or fields.get("tools") != []:
            return fields
        idle = {"tools"} | ({"tool_choice"} if fields.get("tool_choice") in ("none", "auto") else set())
        return {name: value for name, value in fields.items() if name not in idle}

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
    if not isinstance(value, list) or not value:
        return "texts" if isinstance(value, list) else "text"
    return "tokens" if isinstance(value[0], int) else "token_lists" if isinstance(value[0], list) else "texts"


TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenList = Annotated[list[TokenId], Field(min_length=1)]
Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[str], Field(min_length=1), Tag("texts")]
    | Annotated[TokenList, Tag("tokens")]
    | Annotated[list[TokenList], Tag("token_lists")],
    Discriminator(_prompt_kind),
]


class CompletionRequest(Request):
    prompt: Prompt = ""
    """Nothing begins a new document."""
    suffix: str | None = None
    best_of: int | None = Field(default=None, exclude=True)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0)

    @field_validator("suffix")
    @classmethod
    def _nothing_to_fill(cls, suffix: str | None) -> str | None:
        return suffix or None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.suffix is not None and not all(isinstance(prompt, str) for prompt in self.prompts()):
            raise PydanticCustomError("text_gap", "suffix needs its prompt as text: decode the tokens")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise PydanticCustomError("best_of", "best_of can only be n: ask for n answers and choose")
        if self.max_tokens == 0 and not self.echo:
            raise PydanticCustomError("no_tokens", "max_tokens 0 needs echo: true")
        return self

    def prompts(self) -> list[str | list[int]]:
        """One by one, whichever form they came in."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt  # type: ignore[return-value]
