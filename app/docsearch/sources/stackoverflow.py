"""Stack Overflow, by Stack Exchange's API: questions that fit, and the best answer of each.

What comes is under CC BY-SA, so each passage names its author, its licence and its address. The API says when a method
wants to be left alone (`backoff`), and when nothing is left of the day's quota; until then it is not asked. Without a
key 300 requests a day are answered; a search makes two. Format: https://api.stackexchange.com/docs.
"""

import html
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from app.docsearch.found import Found, Get
from app.docsearch.page_text import text_of
from app.docsearch.records import Page, Refused

HOST = "api.stackexchange.com"
SHOWN_HOST = "stackoverflow.com"
_ROOT = f"https://{HOST}/2.3"
_QUESTIONS, _ANSWERS = "search/advanced", "questions/{ids}/answers"
MAX_QUESTIONS = 3
EMPTY_QUOTA_SECONDS = 3600.0


class StackOverflow:
    name = "stackoverflow"
    hosts = (HOST,)

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._silent_until: dict[str, float] = {}
        """By method."""

    def search(self, query: str, get: Get) -> list[Found]:
        asked = {"order": "desc", "sort": "relevance", "accepted": "True", "q": query, "pagesize": MAX_QUESTIONS}
        questions = {item["question_id"]: item for item in self._items(_QUESTIONS, _QUESTIONS, asked, get)}
        if not questions:
            return []
        ids = ";".join(str(number) for number in questions)
        asked = {"order": "desc", "sort": "votes", "filter": "withbody", "pagesize": 30}
        best: dict[int, dict[str, Any]] = {}
        for item in self._items(_ANSWERS, _ANSWERS.format(ids=ids), asked, get):
            best.setdefault(item["question_id"], item)
        return [_passage(question, best[number]) for number, question in questions.items() if number in best]

    def _items(self, method: str, place: str, asked: dict[str, Any], get: Get) -> list[dict[str, Any]]:
        """Raises Refused: `backoff` while the API wants to be left alone, `format` for what is no answer of it."""
        if (left := self._silent_until.get(method, 0.0) - self._clock()) > 0:
            raise Refused("backoff", f"Stack Exchange asks to wait {left:.0f} s more")
        page = get(f"{_ROOT}/{place}?{urlencode(asked | {'site': 'stackoverflow'}, quote_via=quote)}")
        try:
            answer = json.loads(page.body)
            waits = {method: float(answer.get("backoff", 0))}
            if answer.get("quota_remaining") == 0:
                waits = dict.fromkeys((_QUESTIONS, _ANSWERS), EMPTY_QUOTA_SECONDS)
            items = [item for item in answer["items"] if type(item["question_id"]) is int]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Refused("format", "no answer of Stack Exchange's API") from None
        self._silent_until |= {waiting: self._clock() + seconds for waiting, seconds in waits.items() if seconds > 0}
        return items


def _passage(question: dict[str, Any], answer: dict[str, Any]) -> Found:
    try:
        number = int(answer["answer_id"])
        body = Page(url=f"https://{HOST}/", content_type="text/html; charset=utf-8", body=answer["body"].encode())
        return Found(
            source="stackoverflow",
            title=html.unescape(question["title"]),
            url=f"https://{SHOWN_HOST}/a/{number}",
            text=text_of(body),
            licence=str(answer.get("content_license", "CC BY-SA")),
            author=html.unescape(str(answer.get("owner", {}).get("display_name", "unknown"))),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused("format", "no answer of Stack Exchange's API") from None
