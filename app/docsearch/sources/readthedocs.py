"""Projects of readthedocs.io, by Read the Docs' search under the project's own host; its answers hold the text.

A query is sent to the projects of the list that it names, two at most: a project that is not asked learns nothing of
it. A query that names none is refused, and the refusal says so. Format: Read the Docs' documentation, "Server side
search API".
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from app.docsearch.found import Found, Get
from app.docsearch.ranking import words_in
from app.docsearch.records import Refused

DOMAIN = "readthedocs.io"
MAX_PROJECTS = 2
MAX_PASSAGES = 4
_ALIASES = {"fsspec": "filesystem-spec", "jwt": "pyjwt", "pil": "pillow", "zmq": "pyzmq", "xdist": "pytest-xdist"}
_PREFIXES, _SUFFIXES = ("python-", "py-"), ("-python", "-docs", "-parser")


class ReadTheDocs:
    name = "readthedocs"

    def __init__(self, projects: Sequence[str]) -> None:
        self._projects = frozenset(projects)
        self.hosts = tuple(f"{project}.{DOMAIN}" for project in projects)

    def named(self, query: str) -> list[str]:
        """Projects of the list that the query names, in its order."""
        asked = "-".join(words_in(query))
        found = {_ALIASES.get(word, "") for word in words_in(query)} & self._projects
        found |= {project for project in self._projects if f"-{_called(project)}-" in f"-{asked}-"}
        return sorted(found, key=lambda project: (asked.find(_called(project)) % (len(asked) + 1), project))

    def search(self, query: str, get: Get) -> list[Found]:
        projects = self.named(query)[:MAX_PROJECTS]
        if not projects:
            raise Refused("project", "the query names no project of the list docsearch.readthedocs")
        found: list[Found] = []
        for project in projects:
            asked = urlencode({"q": f"project:{project} {query}"}, quote_via=quote)
            page = get(f"https://{project}.{DOMAIN}/_/api/v3/search/?{asked}")
            found += _passages(page.body)[: MAX_PASSAGES // len(projects)]
        return found


def _called(project: str) -> str:
    """What people call it: python-jsonschema is jsonschema."""
    for prefix in _PREFIXES:
        project = project.removeprefix(prefix)
    for suffix in _SUFFIXES:
        project = project.removesuffix(suffix)
    return project


def _passages(body: bytes) -> list[Found]:
    """One for each page with a block that holds text. Raises Refused("format")."""
    try:
        results = json.loads(body)["results"]
        return [passage for result in results if (passage := _passage(result))]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("format", "no answer of Read the Docs' search") from None


def _passage(result: dict[str, Any]) -> Found | None:
    blocks = [block for block in result["blocks"] if block.get("content")]
    if not blocks:
        return None
    first = blocks[0]
    title = first.get("title") or first.get("name") or result["title"]
    url = f"{result['domain']}{result['path']}"  # checked against the list before anybody sees it
    anchor = f"#{quote(str(first['id']), safe='-._~')}" if first.get("id") else ""
    text = "\n".join(f"{block.get('title') or block.get('name') or ''}: {block['content']}" for block in blocks[:2])
    return Found(source="readthedocs", title=f"{result['project']['slug']}: {title}", url=url + anchor, text=text)
