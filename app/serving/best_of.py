"""The model name `NAME+tests`: an answer that was run. N drafts are drawn at once, what the question states chooses one
(`app.best_of`), and the client gets it with what it passed.

    ask the engine for N answers -> Tester (the sandbox) -> choose -> ask once more, with the failing example -> choose

It takes N places in the queue, and its usage counts the tokens of all drafts. Whole or as a stream: a stream tells what
is being done, then gives the chosen text in a few pieces. A client that leaves ends the drawing, and programs that wait
for the sandbox are not begun. Limits: only the last user's message is read for examples; a question that asks for
nothing that can be called gets one draft; where the repair finds no room in the context, or no engine, the best draft
is the answer.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

from app.best_of.choice import Choice, ChosenBy, choose, with_repaired
from app.best_of.programs import program_of
from app.best_of.repair import repair_request
from app.best_of.testing import DraftOutcome, Trial
from app.serving.engine_protocol import Head
from app.serving.errors import ApiError, invalid
from app.serving.metrics import BestOfOutcome, Metrics
from app.serving.streams import DONE, event
from app.serving.tools.rounds import summed
from app.serving.tries import Deadline, retried
from app.settings import ServingSettings

SUFFIX, CHAT = "+tests", "/v1/chat/completions"
PIECE = 400
"""Characters of a piece of a stream."""
EVENTS = Head(200, [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")])
Parts = AsyncGenerator[Head | bytes, None]
Ask = Callable[[dict[str, Any]], Parts]
"""One answer of one engine: a Head, then the body."""
logger = logging.getLogger(__name__)


class Tester(Protocol):
    """The sandbox, wherever it runs."""

    async def trial(self, question: str) -> Trial | None:
        """None for a question that asks for nothing that can be called. Raises ApiError where no program can be run."""
        ...

    async def test(self, trial: Trial, programs: Sequence[str]) -> list[DraftOutcome]:
        """What came of each program. Raises ApiError where none can be run."""
        ...


def split_name(name: str) -> tuple[str, bool]:
    """The model's own name, and whether its answers are to be tested."""
    return name.removesuffix(SUFFIX), name.endswith(SUFFIX)


def check(body: Mapping[str, Any], engine_path: str) -> None:
    """Raises ApiError for what does not go with drafts that are tested. body: a checked request."""
    name = body["model"]
    if engine_path != CHAT:
        raise invalid(f"{name!r} answers chats alone: ask {split_name(name)[0]!r} here", "model")
    for field, why in (
        ("tools", "tools are not offered to drafts"),
        ("response_format", "an answer that is tested holds code"),
        ("logprobs", "an answer is chosen among drafts"),
    ):
        held = body.get(field)
        if held and not (field == "response_format" and held.get("type") == "text"):
            raise invalid(
                f"{field} does not go with {name!r}, because {why}: leave it out, or ask the plain name", field
            )
    if body.get("n", 1) > 1:
        raise invalid(f"n is {body['n']}: {name!r} draws drafts itself and gives the best one; leave n out", "n")
    if body.get("temperature") == 0:
        message = f"temperature is 0, at which {name!r} would draw the same draft again and again: leave it out"
        raise invalid(message, "temperature")


@dataclass(slots=True)
class _Drafts:
    """What was drawn for one question."""

    answer: dict[str, Any]
    """The engine's, with all its choices."""
    choices: list[dict[str, Any]]
    usage: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        return [choice["message"].get("content") or "" for choice in self.choices]

    def add(self, other: dict[str, Any]) -> None:
        self.choices += other["choices"]
        self.usage = summed(self.usage, other["usage"])


class BestOf:
    def __init__(self, tester: Tester, settings: ServingSettings, metrics: Metrics | None = None) -> None:
        self._tester, self._metrics = tester, metrics
        self.num_drafts = settings.best_of
        self._temperature = settings.best_of_temperature

    async def answer(self, ask: Ask, body: dict[str, Any], deadline: Deadline) -> Parts:
        """A Head, then the body. body: a chat that `check` let pass, with its suffix. Raises ApiError."""
        name, _ = split_name(body["model"])
        plain = {key: value for key, value in body.items() if key not in ("stream", "stream_options")}
        asked = {"temperature": self._temperature, **plain, "model": name}
        form = _Form(body)
        trial = await deadline.wait(self._tester.trial(question_of(body["messages"])))
        number = self.num_drafts if trial else 1
        told = {"drafts": number, "examples": trial.stated.num_examples if trial else 0}
        for part in form.tell("drafting", told):
            yield part
        first = await _whole(ask, asked | {"n": number})
        drafts = _Drafts(answer=first, choices=first["choices"], usage=first["usage"])
        choice: Choice | None = None
        if trial is not None:
            for part in form.tell("testing", told):
                yield part
            programs, choice = await self._chosen(trial, drafts, deadline)
            if choice.wants_repair and choice.failed is not None:
                for part in form.tell("repairing", told):
                    yield part
                choice = await self._repaired(ask, asked, trial, drafts, choice, deadline)
        self._count(choice, drafts)
        for part in form.end(drafts, choice, told):
            yield part

    async def _chosen(self, trial: Trial, drafts: _Drafts, deadline: Deadline) -> tuple[list[str], Choice]:
        programs = await asyncio.to_thread(_programs, drafts.texts, trial)
        different = list(dict.fromkeys(programs))
        results = await deadline.wait(self._tester.test(trial, different))
        return programs, choose(trial, programs, dict(zip(different, results, strict=True)))

    async def _repaired(
        self, ask: Ask, asked: dict[str, Any], trial: Trial, drafts: _Drafts, choice: Choice, deadline: Deadline
    ) -> Choice:
        """The choice with a repaired draft, which is added to the drafts where one was drawn."""
        assert choice.failed is not None
        turns = [
            *asked["messages"],
            {"role": "assistant", "content": drafts.texts[choice.index]},
            {"role": "user", "content": repair_request(choice.failed)},
        ]
        number = len(drafts.choices)
        try:
            drafts.add(await _whole(ask, asked | {"messages": turns, "n": 1}))
            (program,) = await asyncio.to_thread(_programs, drafts.texts[number:], trial)
            (result,) = await deadline.wait(self._tester.test(trial, [program]))
        except ApiError as error:
            logger.info("an answer is not repaired: %s", error.code)
            return choice
        return with_repaired(choice, result, number)

    def _count(self, choice: Choice | None, drafts: _Drafts) -> None:
        if self._metrics is not None:
            tokens = drafts.usage.get("completion_tokens", 0)
            self._metrics.best_of(_outcome(choice), drafts=len(drafts.choices), tokens=tokens)


def question_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last user's message; empty where there is none."""
    content = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


class _Form:
    """How the client gets its answer."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._model, self._streams = body["model"], bool(body.get("stream"))
        self._include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._chunk = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._model,
        }
        self._is_open = False

    def tell(self, stage: str, told: Mapping[str, Any]) -> list[Head | bytes]:
        """What is being done, in a stream alone."""
        if not self._streams:
            return []
        opened: list[Head | bytes] = (
            [] if self._is_open else [EVENTS, self._event({"role": "assistant", "content": ""})]
        )
        self._is_open = True
        return [*opened, self._event({"content": "", "best_of": {"stage": stage, **told}})]

    def end(self, drafts: _Drafts, choice: Choice | None, told: Mapping[str, Any]) -> list[Head | bytes]:
        chosen = drafts.choices[choice.index if choice else 0]
        outcome = report(choice, told, drafts.usage.get("completion_tokens", 0))
        if not self._streams:
            whole = drafts.answer | {"model": self._model, "choices": [chosen | {"index": 0}]}
            body = json.dumps(whole | {"usage": drafts.usage, "best_of": outcome}, ensure_ascii=False).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            return [Head(200, headers), body]
        message = chosen["message"]
        parts: list[Head | bytes] = []
        for field in ("reasoning", "content"):
            text = message.get(field) or ""
            parts += [self._event({field: text[at : at + PIECE]}) for at in range(0, len(text), PIECE)]
        parts.append(self._event({}, chosen["finish_reason"], best_of=outcome))
        if self._include_usage:
            parts.append(event({**self._chunk, "choices": [], "usage": drafts.usage}))
        return [*parts, DONE]

    def _event(self, delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**self._chunk, "choices": [choice], **more})


def report(choice: Choice | None, told: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """The field `best_of` of an answer."""
    if choice is None:
        nothing = {"passed": 0, "drafts_passed": 0, "inputs": 0, "agreeing": 1}
        return {**told, **nothing, "chosen_by": "first", "repaired": False, "failed": None, "tokens": tokens}
    failed = choice.failed and {**asdict(choice.failed), "example": choice.failed.example}
    return {
        **told,
        "passed": choice.passed,
        "drafts_passed": choice.drafts_passed,
        "inputs": choice.inputs,
        "agreeing": choice.agreeing,
        "chosen_by": str(choice.chosen_by),
        "repaired": choice.chosen_by == ChosenBy.REPAIR,
        "failed": failed,
        "tokens": tokens,
    }


def _outcome(choice: Choice | None) -> BestOfOutcome:
    if choice is None:
        return "untested"
    if not choice.examples:
        return "agreed" if choice.chosen_by == ChosenBy.AGREEMENT else "untested"
    if choice.passed < choice.examples:
        return "failed"
    return "repaired" if choice.chosen_by == ChosenBy.REPAIR else "passed"


def _programs(texts: Sequence[str], trial: Trial) -> list[str]:
    return [program_of(text, trial.stated.asked) for text in texts]


async def _whole(ask: Ask, asked: dict[str, Any]) -> dict[str, Any]:
    """An answer that is no stream, with another try where its engine was lost. Raises ApiError."""
    async with aclosing(retried(partial(ask, asked))) as parts:
        body = b"".join([part async for part in parts if isinstance(part, bytes)])
    answer: dict[str, Any] = json.loads(body)
    return answer
