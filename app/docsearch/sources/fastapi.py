"""fastapi.tiangolo.com, by the search index that MkDocs publishes with it, which holds the text of every section: no
page is fetched."""

import json
from urllib.parse import quote

from app.docsearch.found import Found, Get
from app.docsearch.page_text import text_of
from app.docsearch.ranking import Entry, best
from app.docsearch.records import Page, Refused

HOST = "fastapi.tiangolo.com"
ROOT = f"https://{HOST}/"
MAX_PASSAGES = 4


class FastApiDocs:
    name = "fastapi"
    hosts = (HOST,)

    def search(self, query: str, get: Get) -> list[Found]:
        page = get(f"{ROOT}search/search_index.json", is_index=True)
        return [
            Found(source="fastapi", title=title, url=ROOT + quote(place, safe="/-._~#"), text=_text(page, text))
            for _, title, text, place in best(_sections(page.body), query, top=MAX_PASSAGES)
        ]


def _sections(body: bytes) -> list[Entry]:
    """Raises Refused("format")."""
    try:
        sections = json.loads(body)["docs"]
        entries = [("fastapi", s["title"], s["text"], s["location"]) for s in sections if s["text"].strip()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("format", "no search index of MkDocs") from None
    if not all(isinstance(field, str) for entry in entries for field in entry):
        raise Refused("format", "no search index of MkDocs")
    return entries


def _text(index: Page, text: str) -> str:
    """Sections hold HTML."""
    return text_of(Page(url=index.url, content_type="text/html; charset=utf-8", body=text.encode(errors="replace")))
