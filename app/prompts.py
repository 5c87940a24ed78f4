"""Prompt protocols: how a problem becomes a prompt and a completion becomes a program.

`chat` asks an instruct model in its own template; `completion` lets a model continue the source text. The completion
prompt is stripped of its trailing newline: a prompt that ends in a newline token never meets `newline + indent` as
one token, and costs a small model every point (docs/LOG.md). Training data uses the same words, so that what is
trained is what is asked.
"""

import ast
import re
from typing import Any, Literal

from app.records import Problem, Prompt

Protocol = Literal["chat", "completion"]
STOP: dict[str, tuple[str, ...]] = {
    "chat": (),
    "completion": (
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
    ),
}
_FENCE = re.compile(r"```[ \t]*[\w+#.-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def ask(header: str) -> str:
    """The user's turn that asks for the function with this signature and docstring."""
    return (
        "Complete the following Python function. Reply with the whole function in one code block.\n"
        f"```python\n{header.rstrip()}\n```"
    )


def answer(source: str) -> str:
    """The assistant's turn that gives the function."""
    return f"```python\n{source.rstrip()}\n```"


def chat_texts(tokenizer: Any, question: str, reply: str) -> tuple[str, str]:
    """Prompt and completion of a one-turn dialogue in the model's template; joined they are the dialogue."""
    prompt = _chat_prompt(tokenizer, question)
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
    if not whole.startswith(prompt):
        raise ValueError(
            "the chat template renders an answered question unlike an open one, so its completion can't be masked"
        )
    return prompt, whole[len(prompt) :].rstrip("\n")


def begin_text(tokenizer: Any) -> str:
    """The begin-of-text token of models that were trained with one; Qwen's and SmolLM2's tokenizers add none."""
    return tokenizer.bos_token if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else ""


def render(problem: Problem, protocol: str, tokenizer: Any) -> Prompt:
    if protocol == "chat":
        return Prompt(id=problem.id, text=_chat_prompt(tokenizer, ask(problem.prompt)))
    return Prompt(id=problem.id, text=begin_text(tokenizer) + problem.prompt.rstrip())


def program(problem: Problem, protocol: str, text: str) -> str:
    """The candidate program: the problem's own imports and helpers, then what the model wrote."""
    if protocol == "completion":
        return problem.prompt.rstrip() + text
    blocks = _FENCE.findall(text) or [text]
    code = next((block for block in blocks if f"def {problem.entry_point}" in block), blocks[0])
    if f"def {problem.entry_point}" in code:
        return _preamble(problem) + code
    return problem.prompt.rstrip() + "\n" + code  # only the body came back


def _chat_prompt(tokenizer: Any, question: str) -> str:
    turn = [{"role": "user", "content": question}]
    return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)


def _preamble(problem: Problem) -> str:
    """Source of the prompt before its entry point: imports and helper functions that the answer may rely on."""
    tree = ast.parse(problem.prompt)
    entry = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == problem.entry_point)
    lines = problem.prompt.splitlines(keepends=True)[: entry.lineno - 1]
    return "".join(lines)
