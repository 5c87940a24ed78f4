"""What a client may ask for is checked before an engine sees it, and no body makes the check itself fail."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.serving.errors import ApiError
from app.serving.requests import Limits, count_answers, parse_chat, parse_completion
from app.serving.schema import ChatRequest, CompletionRequest

LIMITS = Limits(max_model_len=4096)
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "search_docs", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "search_docs", "arguments": "{}"}}


def chat(**fields: Any) -> dict[str, Any]:
    return parse_chat(json.dumps({"model": "m", "messages": [USER], **fields}).encode(), LIMITS)


def completion(**fields: Any) -> dict[str, Any]:
    return parse_completion(json.dumps({"model": "m", "prompt": "def f(", **fields}).encode(), LIMITS)


def refusal(parse: Any, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    return caught.value


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_a_request_passes_with_the_fields_that_were_given_and_no_others() -> None:
    assert chat() == {"model": "m", "messages": [USER]}
    fields = {
        "max_completion_tokens": 4096, "temperature": 0, "top_p": 1, "top_k": -1, "min_p": 0.1, "n": 8, "seed": -1,
        "repetition_penalty": 1.1, "frequency_penalty": -2.0, "presence_penalty": 2, "stop": ["a", "b"], "stream": True,
        "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 20, "logit_bias": {"5": -100},
        "response_format": schema_format({"type": "object"}), "tools": [TOOL], "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "search_docs"}},
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert chat(**fields) == {"model": "m", "messages": [USER], **fields}
    fields = {"suffix": ")", "max_tokens": 0, "echo": True, "logprobs": 20, "stop": ["\n"], "stream": False}
    assert completion(**fields) == {"model": "m", "prompt": "def f(", **fields}


def test_one_stop_text_is_a_list_of_one() -> None:
    assert chat(stop="END")["stop"] == ["END"]


def test_a_dialogue_with_tools_can_be_sent_back_as_it_came() -> None:
    answer = {"role": "assistant", "content": None, "refusal": None, "annotations": None, "audio": None,
              "function_call": None, "tool_calls": [CALL], "reasoning": None}  # fmt: skip
    result = {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "found"}]}
    messages = chat(messages=[{"role": "developer", "content": "be brief"}, USER, answer, result])["messages"]
    assert messages[2:] == [{"role": "assistant", "tool_calls": [CALL]}, result]


@pytest.mark.parametrize(
    ("prompt", "answers"),
    [("a", 1), ("", 1), (["a", ""], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["a"] * 2048, 2048), ([0] * 4095, 1)],
    ids=["text", "nothing", "texts", "tokens", "token lists", "2048", "4095 tokens"],
)
def test_every_kind_of_prompt_passes_unchanged_and_each_counts(prompt: Any, answers: int) -> None:
    body = completion(prompt=prompt)
    assert body["prompt"] == prompt
    assert count_answers(body) == answers
    assert answers > 1024 or count_answers(completion(prompt=prompt, n=2)) == 2 * answers


def test_a_prompt_that_is_null_or_left_out_begins_a_new_document() -> None:
    for body in (b'{"model": "m"}', b'{"model": "m", "prompt": null}'):
        assert parse_completion(body, LIMITS) == {"model": "m", "prompt": ""}


def test_a_gap_may_lie_at_the_top_of_a_file_and_in_each_of_several() -> None:
    assert completion(prompt="", suffix="x")["suffix"] == "x"
    assert completion(prompt=["a", ""], suffix="x")["prompt"] == ["a", ""]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "file_url", "file_url": {"url": "http://169.254.169.254/"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
        {"type": "prompt_embeds", "data": "gASV"},
    ],
    ids=lambda part: part["type"],
)
def test_v7_no_message_makes_the_server_fetch_or_load_anything(part: dict[str, Any]) -> None:
    text = {"type": "text", "text": "what is this?"}
    error = refusal(chat, messages=[{"role": "user", "content": [text, part]}])
    assert error.status == 422 and error.param == "messages.0.content.1" and "this is a text model" in error.message
    for hidden in ({"image_url": "http://169.254.169.254/"}, {**text, "image_url": "http://169.254.169.254/"}):
        assert refusal(chat, messages=[{"role": "user", "content": [hidden]}]).status == 422
    for field in ("images", "image_url", "file_url"):
        assert refusal(chat, messages=[{**USER, field: "http://169.254.169.254/"}]).param == f"messages.0.{field}"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 10_000}, "n"),
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"max_tokens": 4097}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 10**4000}, "max_completion_tokens"),
        ({"stop": ["x"] * 10**6}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"stop": [""]}, "stop.0"),
        ({"messages": [USER] * 1025}, "messages"),
        ({"messages": []}, "messages"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 2**63}, "seed"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"stream": 1}, "stream"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "function", "function": {"name": "f", "description": "x" * 70_000}}]}, "tools"),
        ({"response_format": schema_format({"enum": ["x" * 70_000]})}, "response_format"),
        ({"response_format": schema_format(nested(60))}, "response_format"),
        ({"response_format": {"type": "structural_tag", "structures": []}}, "response_format"),
        ({"chat_template_kwargs": {"enable_thinking": True, "x": 1}}, "chat_template_kwargs.x"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages.0"),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages.0"),
        ({"messages": "hi"}, "messages"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "rm"}}}, "tool_choice"),
        ({"model": ""}, "model"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools.0.type"),
        ({"modalities": ["text", "audio"]}, "modalities.1"),
        ({"messages": [USER, {"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, "messages.1.audio"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_v6_a_chat_beyond_the_caps_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refusal(chat, **fields)
    assert (error.status, error.param) == (422, param)
    assert error.message.startswith(param) and len(error.message) < 900


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"prompt": [[1]] * 257, "n": 8}, "prompt"),
        ({"prompt": [1] * 4096}, "prompt"),
        ({"prompt": [[1], [1] * 4096]}, "prompt"),
        ({"prompt": [-1]}, "prompt.0"),
        ({"prompt": [2**40]}, "prompt.0"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": ["a", 1]}, "prompt.1"),
        ({"prompt": [[1], "a"]}, "prompt.1"),
        ({"prompt": [[1], []]}, "prompt.1"),
        ({"prompt": [True]}, "prompt.0"),
        ({"prompt": [1.0]}, "prompt.0"),
        ({"prompt": []}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"best_of": 5}, "best_of"),
        ({"n": 2, "best_of": 1}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"prompt": [1, 2], "suffix": "c"}, "suffix"),
        ({"prompt": [[1, 2]], "suffix": "c"}, "suffix"),
        ({"messages": []}, "messages"),
    ],
)
def test_v6_a_completion_beyond_the_caps_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refusal(completion, **fields)
    assert (error.status, error.param) == (422, param)


@pytest.mark.parametrize("parse", [chat, completion])
@pytest.mark.parametrize(
    "field",
    [
        "chat_template", "mm_processor_kwargs", "media_io_kwargs", "kv_transfer_params", "prompt_embeds", "documents",
        "structured_outputs", "guided_json", "priority", "vllm_xargs", "request_id", "prompt_logprobs", "cache_salt",
        "use_beam_search", "echo_", "__class__", "allowed_token_ids", "truncate_prompt_tokens",
    ],
)  # fmt: skip
def test_what_vllm_would_take_but_nobody_checked_is_refused(parse: Any, field: str) -> None:
    error = refusal(parse, **{field: {}})
    assert (error.status, error.param) == (422, field) and "leave it out" in error.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b'{"temperature": NaN}', "NaN is no JSON"),
        (b'{"temperature": -Infinity}', "-Infinity is no JSON"),
        (b'{"temperature": 1e999}', "1e999 is too large"),
        (b"[" * 10**6, "nested too deep"),
        (b'{"a":' * 10**5, "nested too deep"),
        (b'{"n": ' + b"9" * 5000 + b"}", "a number that is too long"),
        (b"\xff\xfe", "no UTF-8"),
        ('{"model": "m"}'.encode("utf-16"), "no UTF-8"),
    ],
    ids=range(10),
)
def test_a_body_that_is_no_json_is_a_400_that_says_why(body: bytes, message: str) -> None:
    for parse in (parse_chat, parse_completion):
        with pytest.raises(ApiError, match=message) as caught:
            parse(body, LIMITS)
        assert caught.value.status == 400


def test_half_a_surrogate_pair_is_refused_wherever_it_stands() -> None:
    for fields in (
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"response_format": schema_format({"\udc00": 1})},
        {"\ud800": 1},
    ):
        error = refusal(chat, **fields)
        assert error.status == 422 and "no Unicode" in error.message and error.message.encode()
    assert chat(messages=[{"role": "user", "content": "😀"}])["messages"][0]["content"] == "😀"


def test_a_message_shows_the_value_shortened() -> None:
    error = refusal(chat, temperature="x" * 10**5)
    assert "xxx" in error.message and len(error.message) < 300


def test_deep_but_allowed_nesting_passes_and_a_level_more_does_not() -> None:
    assert chat(response_format=schema_format(nested(28)))
    assert "nested more than 32 deep" in refusal(chat, response_format=schema_format(nested(31))).message


SEARCH, RUN = {"type": "search_docs"}, {"type": "run_python"}
WITH_TOOLS = Limits(max_model_len=4096, tools=("search_docs",))


def with_tools(**fields: Any) -> dict[str, Any]:
    return parse_chat(json.dumps({"model": "m", "messages": [USER], "tools": [SEARCH], **fields}).encode(), WITH_TOOLS)


def test_tools_of_the_server_are_asked_for_by_their_type() -> None:
    other = {"type": "function", "function": {"name": "f"}}
    for fields in ({}, {"tool_choice": SEARCH}, {"tools": [other, SEARCH], "tool_choice": "required"}):
        body = {"model": "m", "messages": [USER], "tools": [SEARCH], **fields}
        assert with_tools(**fields) == body
    neutral = {"n": 1, "response_format": {"type": "text"}, "logprobs": False}
    assert with_tools(**neutral) == {"model": "m", "messages": [USER], "tools": [SEARCH], **neutral}
    assert with_tools(tool_choice="none") == chat(), "nothing is left to be called"
    assert with_tools(tools=[other, SEARCH], tool_choice="none") == chat(tools=[other], tool_choice="none")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": [SEARCH, SEARCH]}, "tools has 'search_docs' twice: once is enough"),
        ({"tools": [SEARCH, TOOL]}, "tools has a function 'search_docs' beside the server's tool of that name: rename"),
        ({"tools": [SEARCH, RUN]}, "tools.1.type is 'run_python': this server runs 'search_docs'; leave it out, or"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type is 'web_search': .* 'function' or 'search_docs' or 'run_"),
        ({"tools": [{"type": ["search_docs"]}]}, "tools.0.type is "),
        ({"tools": [{**SEARCH, "searches": 99}]}, "tools.0.searches is not supported here: leave it out"),
        ({"tool_choice": RUN}, "tool_choice names a tool that is not among the tools"),
        ({"tool_choice": {"type": "function", "function": {"name": "search_docs"}}}, "tool_choice names a function"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type is 'allowed_tools': "),
        ({"n": 2}, "n goes with one answer where the server runs tools: leave it out"),
        ({"response_format": {"type": "json_object"}}, "response_format does not go .* ask again with it"),
        ({"response_format": schema_format({})}, "response_format does not go .* ask again with it"),
        ({"logprobs": True}, "logprobs do not go with the server's tools: leave them out"),
        ({"web_search_options": {"search_context_size": "low"}}, 'search_options is .* send {"type": "search_docs"} a'),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:60],
)
def test_what_does_not_go_with_tools_of_the_server_is_refused_with_the_way_out(
    fields: dict[str, Any], message: str
) -> None:
    error = refusal(with_tools, **fields)
    assert error.status == 422 and re.search(message, error.message), error.message
    assert error.param and error.message.startswith(error.param.split(".")[0])


def test_a_server_without_tools_says_so() -> None:
    assert "'search_docs': this server runs none; leave it out" in refusal(chat, tools=[SEARCH]).message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["user", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls", "tool_call_id", "reasoning"]), JSON),
    max_size=2,
)
FIELDS = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields})


@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=150, deadline=None)
def test_any_body_is_answered_by_a_refusal_and_never_by_a_crash(body: bytes) -> None:
    for parse in (parse_chat, parse_completion):
        with pytest.raises(ApiError):  # none of these has a model and messages or a prompt
            parse(body, LIMITS)


@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), messages=MESSAGES | st.just([USER]))
@settings(max_examples=250, deadline=None)
def test_any_value_of_any_field_is_passed_on_as_json_or_refused(fields: dict[str, Any], messages: Any) -> None:
    for parse, needed in ((parse_chat, {"messages": messages}), (parse_completion, {"prompt": "x"})):
        body = json.dumps({"model": "m", **needed, **fields}).encode()
        try:
            passed = parse(body, LIMITS)
        except ApiError as error:
            assert error.status in (400, 422) and error.message.encode()
        else:
            assert json.loads(json.dumps(passed, allow_nan=False)) == passed
