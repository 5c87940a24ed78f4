"""What a base model continues when tools are at hand: plain text, with two worked examples before the question.

Its reply begins after `Calls:` with a JSON list of calls, empty when it needs none, and then an `Answer:`; results of
calls come back as `Results:`. Both tool suites ask in these words.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

STOP = ("\n\n", "\nFunctions:", "\nQuestion:", "\nResults:", "\nCalls:")
"""Where a turn ends."""
_INTRODUCTION = (
    "Each question comes with functions, described in JSON. Answer with the calls that the question needs, as a JSON "
    'list of {"name", "arguments"}; the list is empty when no function fits.'
)
_LABELS = {"system": "System", "user": "Question", "assistant": "Answer", "tool": "Results"}
_EXAMPLE_TOOLS = [
    {
        "function": {
            "name": "convert_currency",
            "description": "Convert an amount of money.",
            "parameters": {
                "type": "object",
                "properties": {
                    "amount": {"type": "number"},
                    "source": {"type": "string", "description": "ISO 4217 code"},
                    "target": {"type": "string", "description": "ISO 4217 code"},
                },
                "required": ["amount", "source", "target"],
            },
        }
    }
]
_CALL = [{"name": "convert_currency", "arguments": {"amount": 250, "source": "CHF", "target": "NOK"}}]


def calls_prompt(tools: Sequence[Mapping[str, Any]], turns: Sequence[Mapping[str, str]], *, begun: str = "") -> str:
    """The text up to the model's calls. begun: calls and results that the question has had already."""
    examples = [
        f"{_functions(_EXAMPLE_TOOLS)}\nQuestion: How many Norwegian kroner are 250 Swiss francs?\n"
        f"Calls: {json.dumps(_CALL)}\nResults: 2914.50 NOK\nCalls: []\nAnswer: They are 2914.50 kroner.",
        f"{_functions(_EXAMPLE_TOOLS)}\nQuestion: Which river flows through Vienna?\nCalls: []\nAnswer: The Danube.",
    ]
    lines = "\n".join(f"{_LABELS.get(turn['role'], 'Question')}: {turn['content']}" for turn in turns)
    return "\n\n".join([_INTRODUCTION, *examples, f"{_functions(tools)}\n{lines}\n{begun}Calls:"])


def _functions(tools: Sequence[Mapping[str, Any]]) -> str:
    return "Functions: " + json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
