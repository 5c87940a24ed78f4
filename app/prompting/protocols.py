"""Prompt protocols: how a question becomes a prompt. The program in what comes back is found by
`app.prompting.replies`.

`chat` asks an instruct model in its own template, `thinking` does so with the template's thinking switched on (Qwen3),
`evalplus` asks as EvalPlus does (arXiv 2305.01210), whose words and prefilled answer are behind most published scores,
`completion` lets a model continue a text. A completion prompt is stripped of its trailing newline: a prompt that ends
in a newline token never meets `newline + indent` as one token, and costs a small model every point (docs/log).
Training data uses the same words, so that what is trained is what is asked. What a suite asks stands in
`app.evaluation`.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from app.errors import UserError
from app.prompting.fences import fenced

Message = dict[str, Any]
"""A turn of a dialogue: role, content."""
SOURCE_STOP = (
    "\nclass ",
    "\ndef ",
    "\n#",
    "\nif ",
    "\nprint",
    "\nassert ",
    "\n@",
    "\nimport ",
    "\nfrom ",
    "\n```",
)
"""Where the continuation of a Python function ends."""
EVALPLUS_FENCE = "```python\n"
EVALPLUS_BEGINNING = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    f"{EVALPLUS_FENCE}"
)
"""What an answer to `evalplus_prompt` begins with."""
EVALPLUS_STOP = ("\nif __name__", "\ndef main(", "\nprint(", "\n```\n")
"""Where an answer to `evalplus_prompt` ends, after evalplus 0.3.1 (`evalplus/provider/utility.py`)."""
THINK, END_THINK = "<think>", "</think>"


def ask(header: str, kind: str = "function") -> str:
    """The user's turn that asks for the function, or the class, with this signature and docstring."""
    return f"Complete the following Python {kind}. Reply with the whole {kind} in one code block.\n{fenced(header)}"


def answer(source: str) -> str:
    """The assistant's turn that gives the function."""
    return fenced(source)


def evalplus_prompt(tokenizer: Any, problem: str) -> str:
    """The problem (a function's head and docstring, or a docstring) as EvalPlus asks an instruct model, with the answer
    begun up to its code block. A reply goes on in that block: `evalplus_reply` gives it whole."""
    question = (
        "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
        f"```\n{problem.strip()}\n```\n"
    )
    return chat_prompt(tokenizer, [{"role": "user", "content": question}]) + EVALPLUS_BEGINNING


def evalplus_reply(text: str) -> str:
    return EVALPLUS_FENCE + text


def begin_text(tokenizer: Any) -> str:
    """The begin-of-text token of models that were trained with one; Qwen's and SmolLM2's tokenizers add none."""
    return tokenizer.bos_token if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else ""


def chat_prompt(
    tokenizer: Any, messages: Sequence[Message], *, tools: Sequence[Message] | None = None, thinking: bool = False
) -> str:
    """The dialogue so far in the model's own template, open for the assistant's next turn.

    tools: functions as JSON schema. A template that knows no tools gets them as a system turn, after Qwen3's wording.
    Raises UserError for a template that refuses the dialogue, and without one.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise UserError("the model has no chat template, so it can't be asked in a dialogue: take an instruct model")
    try:
        return _rendered(tokenizer, messages, tools, thinking)
    except (TemplateError, ValueError) as error:  # ValueError: several named templates and no default one
        roles = ", ".join(dict.fromkeys(message["role"] for message in messages)) + (" with tools" if tools else "")
        raise UserError(
            f"the model's chat template refuses a dialogue of {roles} ({error}): take the completion protocol"
        ) from None


def _rendered(tokenizer: Any, messages: Sequence[Message], tools: Sequence[Message] | None, thinking: bool) -> str:
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": thinking}
    plain = tokenizer.apply_chat_template(list(messages), **options)
    if not tools:
        return plain
    with_tools = tokenizer.apply_chat_template(list(messages), tools=list(tools), **options)
    if with_tools != plain:
        return with_tools
    first = [m["content"] for m in messages[:1] if m["role"] == "system"]
    system = {"role": "system", "content": "\n\n".join([*first, tools_text(tools)])}
    return tokenizer.apply_chat_template([system, *messages[len(first) :]], **options)


def tools_text(tools: Sequence[Message]) -> str:
    """What a model without a tool template is told of its tools."""
    lines = "\n".join(json.dumps(tool) for tool in tools)
    return (
        "You may call one or more functions to assist with the user query.\n\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{lines}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> "
        'XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def template_hash(tokenizer: Any) -> str:
    """SHA-256 of the chat template, which decides tens of points; empty for a model without one."""
    template = tokenizer.chat_template
    return hashlib.sha256(json.dumps(template).encode()).hexdigest() if template else ""


def without_thought(reply: str, prompt: str) -> str:
    """The reply without the thought it begins with, or that the prompt's end has opened for it; a thought that never
    ended leaves nothing."""
    if not (reply.lstrip().startswith(THINK) or prompt.rstrip().endswith(THINK)):
        return reply
    return reply.partition(END_THINK)[2].lstrip()
