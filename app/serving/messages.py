"""The messages of a chat, and what holds for every object of a request (`Strict`). `schema` has the requests."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


def refusing(sentence: str) -> Any:
    """A field that OpenAI has and this server has not. Empty values ask for nothing, so they pass and are dropped."""

    def refuse(value: Any) -> None:
        if value not in ([], {}):
            raise PydanticCustomError("not_here", sentence)

    return BeforeValidator(refuse)


class Strict(BaseModel):
    """No conversions ("5" is not a number), no unknown fields. null is the same as leaving a field out, whatever its
    name, as OpenAI has it: clients send back whole objects. JSON schemas are not objects of this kind and keep theirs.
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
    """The system's role for OpenAI's newer name of it: chat templates of open models leave a developer's message
    out."""
    return "system" if role == "developer" else role


class AnyMessage(Strict):
    name: str | None = Field(default=None, max_length=64)
    type: Literal["text", "message"] | None = Field(default=None, exclude=True)
    """A field that OpenAI has not: lm-evaluation-harness sent it for years."""


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
    """A message of the model's. What clients send back is what they got, so everything that an answer may hold is
    taken, empty or not."""

    role: Literal["assistant"]
    content: Content | None = None
    tool_calls: list[ToolCall] | None = Field(default=None, max_length=128)
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = Field(default=None, exclude=True)
    annotations: list[Any] | None = Field(default=None, exclude=True)
    tool_events: list[Any] | None = Field(default=None, exclude=True)
    """What this server's own tools did for the answer (`app.serving.tools`)."""
    audio: Annotated[Any, refusing("this is a text model: send the words as content")] = Field(
        default=None, exclude=True
    )
    function_call: Annotated[Any, refusing("send it in the newer form, tool_calls")] = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _refusal_as_content(cls, message: Any) -> Any:
        """Put a refusal into the content: to a template it is what the model said."""
        if not isinstance(message, dict):
            return message
        content, refusal = message.get("content"), message.get("refusal")
        if isinstance(content, list):
            content = [_refusal_as_text(part) for part in content]
        return {**message, "content": refusal if content is None or content == [] else content}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and (self.reasoning or self.reasoning_content):
            self.content = ""  # the answer was cut off within its thought
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


Message = Annotated[SystemMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
