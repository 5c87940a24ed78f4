"""What the running server offers, asked over HTTP as any client would.

The key is the caller's: the server keeps hashes only, so there is none to look up. Proxies of the environment are left
aside, since the server is on this machine or named by the user.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from app.errors import UserError
from app.prompting.fill_in import MARKS

KEY_VARIABLE = "POCKETCODER_API_KEY"
TIMEOUT_S = 30.0
MAX_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A line of `/v1/models`. Example: ServedModel(name="sft", max_model_len=4096)."""

    name: str
    max_model_len: int
    """Tokens of a prompt and its answer together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that answers. Made by `ask`; read by the settings of each client."""

    url: str
    """Without /v1 and without a slash at the end."""
    models: tuple[ServedModel, ...]
    chosen: ServedModel
    """The one that a client takes when nobody chooses."""
    marks: tuple[str, str, str] | None
    """What stands before the prefix, the suffix and the middle of a gap; None: it fills none, or was not asked."""

    @property
    def api(self) -> str:
        return f"{self.url}/v1"


class Server:
    def __init__(self, url: str, key: str | None) -> None:
        """Name the server. url: with or without /v1. Raises UserError for what is no http address, and for a key that
        no server could have made: it would not fit into a header."""
        if not _is_address(url):
            raise UserError(f"--url {url!r} is no address of a server: give one such as http://127.0.0.1:8000")
        self.url = url.rstrip("/").removesuffix("/v1").rstrip("/")
        self._key = key.strip() if key else None
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise UserError(f"what {KEY_VARIABLE} holds is no key: set it to what `python -m app keys add NAME` prints")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, model: str | None, *, fills: bool) -> Served:
        """What is served there. model: to be chosen, if not the first. fills: whether its fill-in marks are asked for.

        Raises UserError when nothing answers, or not as this server does.
        """
        status, answer = self._call("/v1/models")
        if status != 200:
            raise self._refused(status, answer)
        models = self._models(answer)
        names = [one.name for one in models]
        if model is not None and model not in names:
            raise UserError(f"model {model[:200]!r} is not served at {self.url}: there are {', '.join(names)}")
        chosen = models[names.index(model)] if model is not None else models[0]
        marks = self._marks(chosen.name) if fills else None
        return Served(url=self.url, models=models, chosen=chosen, marks=marks)

    def speaks_messages(self) -> bool:
        """Whether Anthropic's `/v1/messages` is there: an empty request is refused, but not as an unknown path."""
        return self._call("/v1/messages", {})[0] not in (404, 405)

    def _marks(self, model: str) -> tuple[str, str, str] | None:
        """The fill-in marks that are a token each to this model. One token is drawn for each question."""
        for marks in MARKS:
            status, answer = self._call("/v1/completions", {"model": model, "prompt": "".join(marks), "max_tokens": 1})
            usage = answer.get("usage") if status == 200 else None
            if isinstance(usage, Mapping) and usage.get("prompt_tokens") == len(marks):
                return marks
        return None

    def _models(self, answer: Mapping[str, Any]) -> tuple[ServedModel, ...]:
        try:
            cards = [(str(card["id"]), int(card["max_model_len"])) for card in answer["data"]]
        except (KeyError, TypeError, ValueError):
            cards = []
        if not cards:
            raise UserError(f"what answers at {self.url} is not this project's server: give its address as --url")
        return tuple(ServedModel(name=name, max_model_len=room) for name, room in cards)

    def _refused(self, status: int, answer: Mapping[str, Any]) -> UserError:
        if status == 401:
            has = f"the key in {KEY_VARIABLE} is not known there" if self._key else f"{KEY_VARIABLE} is not set"
            return UserError(
                f"the server at {self.url} wants a key and {has}: set it to the one that `python -m app keys add NAME` "
                "prints"
            )
        error = answer.get("error")
        said = error.get("message") if isinstance(error, Mapping) else None
        return UserError(f"the server at {self.url} answered with status {status}: {said or 'look at its log'}")

    def _call(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Mapping[str, Any]]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self.url + path, data, headers)
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return response.status, _json(response.read(MAX_ANSWER))
        except urllib.error.HTTPError as error:
            return error.code, _json(error.read(MAX_ANSWER))
        except (OSError, ValueError, HTTPException) as error:  # refused, no such name, no HTTP
            reason = getattr(error, "reason", error)
            raise UserError(
                f"no server answers at {self.url} ({reason}): start it by `python -m app serve`, or give its address "
                "as --url"
            ) from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is no number, half of an IPv6 bracket
        return False
    whole = parts.scheme in ("http", "https") and parts.hostname and port != 0
    return bool(whole) and not (parts.query or parts.fragment or parts.username)


def _json(text: bytes) -> Mapping[str, Any]:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}
