"""What a server can do, asked with the `openai` package: true, or what came instead."""

import json
from collections.abc import Callable
from typing import Any

import openai

from benchmarks.servers import Server

QUESTION: Any = [{"role": "user", "content": "Write a Python function that adds two numbers."}]
WEATHER: Any = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": CITY}}]
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}


def features(server: Server, model: str) -> dict[str, Any]:
    client = openai.OpenAI(base_url=server.url, api_key=server.key, max_retries=0, timeout=120)
    stranger = openai.OpenAI(base_url=server.url, api_key="pk-nobody", max_retries=0, timeout=30)

    create: Any = client.chat.completions.create

    def chat(messages: Any = QUESTION, **more: Any) -> Any:
        return create(messages=messages, **({"model": model, "max_tokens": 96, "temperature": 0} | more))

    def alternatives() -> int:
        return len(chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content[0].top_logprobs)

    def called(choice: str) -> bool:
        calls = chat(WEATHER, tools=TOOLS, tool_choice=choice).choices[0].message.tool_calls
        return bool(calls) and isinstance(json.loads(calls[0].function.arguments)["city"], str)

    def echoed() -> bool:
        answer = client.completions.create(model=model, prompt="a = b", max_tokens=1, echo=True, logprobs=1)
        found = answer.choices[0].logprobs
        return bool(found and found.token_logprobs and len(found.token_logprobs) > 2)

    def filled() -> bool:
        prompt, rest = "def add(a, b):\n    ", "\n\nprint(add(1, 2))\n"
        answer = client.completions.create(model=model, prompt=prompt, suffix=rest, max_tokens=24, temperature=0)
        return "return a + b" in answer.choices[0].text

    def status(ask: Callable[[], Any]) -> int:
        try:
            ask()
        except openai.APIStatusError as error:
            return error.status_code
        return 200

    checks: dict[str, Callable[[], Any]] = {
        "stream": lambda: len(list(chat(stream=True))) > 4,
        "two answers": lambda: len(chat(n=2, temperature=0.8).choices) == 2,
        "top_logprobs": lambda: alternatives() == 3,
        "echo with logprobs": echoed,
        "JSON schema": lambda: list(json.loads(chat(response_format=SCHEMA).choices[0].message.content)) == ["city"],
        "tool, required": lambda: called("required"),
        "tool, auto": lambda: called("auto"),
        "fill in the middle": filled,
        "no such model is 404": lambda: status(lambda: chat(model="nobody")) == 404,
        "no key is 401": lambda: status(lambda: stranger.models.list()) == 401,
        "min_p": lambda: status(lambda: chat(extra_body={"min_p": 0.1})),
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name, check in checks.items():
        try:
            found[name] = check()
        except Exception as error:  # a feature that fails must not hide the others
            found[name] = f"{type(error).__name__}: {error}"[:200]
    return found
