"""vLLM's parser of tool calls, with less white space in the calls.

Their grammar lets it stand between any two tokens of the arguments, and a small model that has begun with it goes on
until its tokens are used up: an untrained one wrote 44 empty lines. vLLM's `disable_any_whitespace` reaches answers by
a schema, not this grammar. Facts: xgrammar 0.2.8 has `max_whitespace_cnt`; an older one without it bounds nothing.
"""

from typing import Any

from pydantic import BaseModel
from vllm.tool_parsers.abstract_tool_parser import ToolParserManager
from vllm.tool_parsers.hermes_tool_parser import Hermes2ProToolParser

MAX_WHITE_SPACE = 1
"""Between two tokens of JSON: models write a blank after a comma and a colon."""


class CompactCalls(Hermes2ProToolParser):
    def adjust_request(self, request: Any) -> Any:
        """vLLM shows special tokens, in case that the tags are some; where they are none, no other is shown either. A
        small model writes one where it has learnt a tag: their rows of the output layer are alike (docs/log)."""
        request = super().adjust_request(request)
        if self.tool_call_start_token not in self.model_tokenizer.all_special_tokens:
            request.skip_special_tokens = True
        return request

    def get_structural_tag(self, *arguments: Any, **options: Any) -> Any:
        tag = super().get_structural_tag(*arguments, **options)
        _bound(tag)
        return tag


def register() -> None:
    """Take the place of vLLM's own in this process, where its app parses calls and makes their grammars."""
    ToolParserManager.register_module("hermes", module=CompactCalls)


def _bound(node: Any) -> None:
    if isinstance(node, BaseModel):
        fields = type(node).model_fields
        if "max_whitespace_cnt" in fields:
            node.max_whitespace_cnt = MAX_WHITE_SPACE  # type: ignore[attr-defined]
        for name in fields:
            _bound(getattr(node, name))
    elif isinstance(node, list | tuple):
        for entry in node:
            _bound(entry)
