"""vLLM's parser of tool calls, as the engine registers it."""

import pytest

from app.models.base import ensure_model, load_tokenizer
from app.profiles import get_profile

pytest.importorskip("vllm", reason="vLLM is not installed")


def test_a_request_with_tools_shows_no_special_token_unless_the_tags_are_some() -> None:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    from app.serving.vllm_tool_calls import CompactCalls

    tools = [{"type": "function", "function": {"name": "open_file", "parameters": {"type": "object"}}}]
    asked = {"model": "base", "messages": [{"role": "user", "content": "Open it."}], "tools": tools}
    tokenizer = load_tokenizer(ensure_model(get_profile("laptop").model))

    def shows_special() -> bool:
        request = CompactCalls(tokenizer).adjust_request(ChatCompletionRequest.model_validate(asked))
        return not request.skip_special_tokens

    assert not shows_special()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool_call>", "</tool_call>"]})
    assert shows_special()
