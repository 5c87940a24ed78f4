"""The fields a request may have. What isn't named here is refused: vLLM's own models take far more, among it templates
that run (chat_template), tensors (prompt_embeds) and places to fetch from (image_url).

Every field that OpenAI's API has is named: taken; taken and dropped (`exclude`), since it means nothing to one local
model; or refused with the way out (`refusing`). Types and fixed ranges are here; caps that depend on the server are
in `requests.Limits`.
"""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.serving.messages import Message, Name, Strict, refusing
from app.settings import ServerToolName

Tokens = Annotated[int, Field(ge=1)]


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


def _known_tool(name: Any) -> Any:
    if name not in get_args(ServerToolName):
        known = " or ".join(map(repr, ("function", *get_args(ServerToolName))))
        raise PydanticCustomError("unknown_tool", f"a tool's type is {known}")
    return name


class ServerTool(Strict):
    """A tool that this server runs itself. It is asked for as OpenAI's built-in ones are: {"type": "search_docs"}."""

    type: Annotated[ServerToolName, BeforeValidator(_known_tool)]


class NamedFunction(Strict):
    name: Name


class NamedTool(Strict):
    type: Literal["function"]
    function: NamedFunction


class TemplateSettings(Strict):
    enable_thinking: bool


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _tool_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "function" if kind in (None, "function") else "server"


def _choice_kind(value: Any) -> str:
    return _tool_kind(value) if isinstance(value, dict | NamedTool | ServerTool) else "word"


Stop = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list)]
Bias = Annotated[float, Field(ge=-100, le=100)]
ResponseFormat = Annotated[Plain | BySchema, Field(discriminator="type")]
AnyTool = Annotated[Annotated[Tool, Tag("function")] | Annotated[ServerTool, Tag("server")], Discriminator(_tool_kind)]
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")]
    | Annotated[NamedTool, Tag("function")]
    | Annotated[ServerTool, Tag("server")],
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
    tools: list[AnyTool] | None = Field(default=None, max_length=128)
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
    audio: Annotated[Any, refusing("this is a text model: ask for text")] = Field(default=None, exclude=True)
    functions: Annotated[Any, refusing("send them in the newer form, tools")] = Field(default=None, exclude=True)
    function_call: Annotated[Any, refusing("send it in the newer form, tool_choice")] = Field(
        default=None, exclude=True
    )
    web_search_options: Annotated[
        Any, refusing('this server searches documentation only: send {"type": "search_docs"} among the tools')
    ] = Field(default=None, exclude=True)
    moderation: Annotated[Any, refusing("this server moderates nothing: check texts in your own program")] = Field(
        default=None, exclude=True
    )

    @model_validator(mode="before")
    @classmethod
    def _no_tools(cls, fields: Any) -> Any:
        """Drop an empty list of tools, and a choice among them, which leaves nothing to choose."""
        if not isinstance(fields, dict) or fields.get("tools") != []:
            return fields
        idle = {"tools"} | ({"tool_choice"} if fields.get("tool_choice") in ("none", "auto") else set())
        return {name: value for name, value in fields.items() if name not in idle}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise PydanticCustomError("needs_logprobs", "top_logprobs needs logprobs: true")
        functions = [tool.function.name for tool in self.tools or () if isinstance(tool, Tool)]
        if self.tool_choice not in (None, "none") and not self.tools:
            raise PydanticCustomError("needs_tools", "tool_choice needs tools to choose from")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in functions:
            raise PydanticCustomError("unknown_tool", "tool_choice names a function that is not among the tools")
        self._fits_server_tools(functions)
        return self

    def _fits_server_tools(self, functions: list[str]) -> None:
        """Check what goes with tools that the server runs; where nothing may be called, leave them out."""
        names = [tool.type for tool in self.tools or () if isinstance(tool, ServerTool)]
        if isinstance(self.tool_choice, ServerTool) and self.tool_choice.type not in names:
            raise PydanticCustomError("unknown_tool", "tool_choice names a tool that is not among the tools")
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError("twice", f"tools has {name!r} twice: once is enough")
            if name in functions:
                raise PydanticCustomError(
                    "same_name", f"tools has a function {name!r} beside the server's tool of that name: rename yours"
                )
        if names and self.tool_choice == "none":
            self.tools = [tool for tool in self.tools or () if isinstance(tool, Tool)] or None
            self.tool_choice = "none" if self.tools else None
            return
        if names and (self.n or 1) > 1:
            raise PydanticCustomError("one_answer", "n goes with one answer where the server runs tools: leave it out")
        if names and isinstance(self.response_format, BySchema | Plain) and self.response_format.type != "text":
            raise PydanticCustomError(
                "free_text",
                "response_format does not go with the server's tools: ask again with it, without tools, once you have "
                "the answer",
            )
        if names and self.logprobs:
            raise PydanticCustomError("no_logprobs", "logprobs do not go with the server's tools: leave them out")


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
    """The text to go on from; without one a new document begins."""
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
        """The prompts one by one, whichever form they came in."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        return [self.prompt] if isinstance(self.prompt[0], int) else self.prompt  # type: ignore[return-value]
