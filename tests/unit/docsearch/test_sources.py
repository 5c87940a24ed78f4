"""What each source makes of the formats of its site, on made-up answers (`made_up_sites.py`), and of broken ones."""

import contextlib
import json
import zlib
from collections.abc import Callable

import pytest

from app.docsearch.found import DocsSource
from app.docsearch.gate import Allowed
from app.docsearch.records import Page, Refused
from app.docsearch.sources.fastapi import FastApiDocs
from app.docsearch.sources.python_docs import PythonDocs
from app.docsearch.sources.readthedocs import ReadTheDocs
from app.docsearch.sources.serpapi import SerpApi
from app.docsearch.sources.sphinx_index import MAX_INVENTORY_BYTES, matching, named, read_inventory, read_search_index
from app.docsearch.sources.stackoverflow import StackOverflow
from tests.costs import takes_less_than
from tests.unit.docsearch import made_up_sites as made_up

ALLOWED = Allowed(hosts=frozenset({"docs.python.org"}), wildcards={"readthedocs.io": frozenset({"requests"})})


class Got:
    """Answers by what the address holds; notes what was asked."""

    def __init__(self, **by_part: bytes | str) -> None:
        self.by_part, self.asked = by_part, list[str]()

    def __call__(self, url: str, *, is_index: bool = False) -> Page:
        self.asked.append(url)
        for part, body in self.by_part.items():
            if part in url:
                body = body.encode() if isinstance(body, str) else body
                return Page(url=url, content_type="text/html" if "html" in url else "application/json", body=body)
        raise Refused("missing", "404")


def python_site(**changed: bytes | str) -> Got:
    whole: dict[str, bytes | str] = {"objects": made_up.INVENTORY, "searchindex": made_up.SEARCH_INDEX}
    return Got(**(whole | {"json.html": made_up.JSON_PAGE, "errors.html": made_up.ERRORS_PAGE} | changed))


def test_an_inventory_tells_where_code_is_documented() -> None:
    inventory = read_inventory(made_up.INVENTORY)
    assert inventory.keys() == {"json.loads", "json.load", "itertools.batched", "pathlib.Path.glob"}
    batched = inventory["itertools.batched"]
    assert (batched.path, batched.anchor) == ("library/itertools.html", "itertools.batched")


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("itertools.batched", "itertools.batched"),
        ("what does json.loads do with NaN", "json.loads"),
        ("how to use glob() of a path", "pathlib.Path.glob"),
        ("please batch a list", ""),
    ],
)
def test_what_a_query_names_is_found_by_its_name(query: str, first: str) -> None:
    places = named(read_inventory(made_up.INVENTORY), query)
    assert (places[0].title if places else "") == first


def test_words_are_found_by_their_stems_and_titles_weigh_more() -> None:
    index = read_search_index(made_up.SEARCH_INDEX.encode())
    places = matching(index, "handling exceptions", top=2)
    assert [place.path for place in places] == ["tutorial/errors.html", "library/itertools.html"]
    assert (places[0].anchor, places[0].title) == ("handling-exceptions", "Handling Exceptions")
    assert matching(index, "quaternion", top=2) == []


@pytest.mark.parametrize("line", [b"a" + b" " * 1_000_000, b"a" + b" " * 1990, b"a " * 990, b"a py:f 1 " * 200])
def test_lines_made_to_take_long_do_not(line: bytes) -> None:
    head = made_up.INVENTORY[: made_up.INVENTORY.index(b"zlib.\n") + 6]
    with takes_less_than(3):
        read_inventory(head + zlib.compress((line + b"\n") * (2_000_000 // len(line))))


def test_a_bomb_for_an_inventory_is_refused() -> None:
    head = made_up.INVENTORY[: made_up.INVENTORY.index(b"zlib.\n") + 6]
    with pytest.raises(Refused) as refused:
        read_inventory(head + zlib.compress(b"a" * (MAX_INVENTORY_BYTES + 1)))
    assert refused.value.reason == "too_large"


def test_python_answers_with_the_part_of_the_page_that_is_named() -> None:
    (found, *_) = PythonDocs().search("json.loads", python_site())
    assert found.url == "https://docs.python.org/3/library/json.html#json.loads"
    assert "Deserialize a made-up document" in found.text and "json.loads(s, *, cls=None)" in found.text
    assert "menu" not in found.text and "IGNORE ALL" not in found.text
    assert "Deserialize a file" not in found.text


def test_python_answers_with_the_section_whose_title_fits() -> None:
    (found, *_) = PythonDocs().search("handling exceptions", python_site())
    assert found.url.endswith("tutorial/errors.html#handling-exceptions")
    assert "handles exceptions by try" in found.text and "Other text" not in found.text


def test_a_page_that_is_gone_leaves_the_others() -> None:
    site = python_site()
    del site.by_part["json.html"]
    found = PythonDocs().search("json.loads handling exceptions", site)
    assert [passage.title for passage in found] == ["Handling Exceptions"]


def test_fastapi_answers_out_of_its_index_alone() -> None:
    site = Got(search_index=made_up.FASTAPI_INDEX)
    (found, *_) = FastApiDocs().search("types of path parameters", site)
    assert found.url == "https://fastapi.tiangolo.com/tutorial/path-params/#path-parameters-with-types"
    assert found.text.startswith("Declare the type of a path parameter") and "<" not in found.text
    assert len(site.asked) == 1


def test_read_the_docs_is_asked_at_the_hosts_that_the_query_names() -> None:
    site = Got(requests=made_up.readthedocs_answer(made_up.readthedocs_result()))
    (found,) = ReadTheDocs(("requests", "rich")).search("requests timeout & more", site)
    assert site.asked == [
        "https://requests.readthedocs.io/_/api/v3/search/?q=project%3Arequests%20requests%20timeout%20%26%20more"
    ]
    assert found.url == "https://requests.readthedocs.io/en/latest/user/quickstart.html#timeouts"
    assert "Stop waiting" in found.text and found.title == "requests: Timeouts"


@pytest.mark.parametrize(
    ("query", "projects"),
    [
        ("validate with jsonschema", ["python-jsonschema"]),
        ("more itertools chunked", ["more-itertools"]),
        ("rich tables and Requests sessions", ["rich", "requests"]),
        ("fsspec open", ["filesystem-spec"]),
        ("enrich a request", []),
    ],
)
def test_projects_are_known_by_the_names_that_people_use(query: str, projects: list[str]) -> None:
    listed = ("python-jsonschema", "more-itertools", "rich", "requests", "filesystem-spec")
    assert ReadTheDocs(listed).named(query) == projects


def test_read_the_docs_asks_nobody_when_no_project_is_named() -> None:
    site = Got()
    with pytest.raises(Refused) as refused:
        ReadTheDocs(("requests",)).search("how do I sort a list", site)
    assert refused.value.reason == "project" and site.asked == []


def stack_overflow(**more: object) -> Got:
    questions = made_up.stack_exchange(made_up.QUESTIONS, **more)
    return Got(**{"/answers": made_up.stack_exchange(made_up.ANSWERS), "search/advanced": questions})


def test_stack_overflow_comes_with_author_licence_and_address() -> None:
    site = stack_overflow()
    (found,) = StackOverflow().search("sort dict by value", site)
    assert (found.author, found.licence) == ("Ann O'Nymous", "CC BY-SA 4.0")
    assert found.url == "https://stackoverflow.com/a/202" and found.title == "How do I sort a dict by value & keep it?"
    assert "sorted(d.items()" in found.text and "Worse" not in found.text
    assert all(url.startswith("https://api.stackexchange.com/2.3/") for url in site.asked)


@pytest.mark.parametrize(("more", "seconds", "asked"), [({"backoff": 10}, 10, 2), ({"quota_remaining": 0}, 3600, 1)])
def test_stack_overflow_is_left_alone_as_long_as_it_asks(more: dict[str, object], seconds: float, asked: int) -> None:
    """`backoff` is of a method: the answers to what was found may still be asked for."""
    now = [1000.0]
    source, site = StackOverflow(clock=lambda: now[0]), stack_overflow(**more)
    with contextlib.suppress(Refused):
        source.search("sort", site)
    assert len(site.asked) == asked
    now[0] += seconds - 0.1
    with pytest.raises(Refused) as refused:
        source.search("sort", site)
    assert refused.value.reason == "backoff" and len(site.asked) == asked
    now[0] += 0.2
    site.by_part["search/advanced"] = made_up.stack_exchange(made_up.QUESTIONS)
    assert len(source.search("sort", site)) == 1


def serp(*links: str) -> str:
    return json.dumps({"organic_results": [{"title": "json", "link": link, "snippet": "..."} for link in links]})


def test_serpapi_fetches_what_is_on_the_list_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "s3cret")
    links = ("https://evil.example/json.html", "http://docs.python.org/x", "https://serpapi.com/account.html",
             "https://docs.python.org/3/library/json.html#json.loads", "https://made-up.readthedocs.io/")  # fmt: skip
    site = Got(**{"serpapi.com": serp(*links), "json.html": made_up.JSON_PAGE})
    (found,) = SerpApi("KEY_OF_TESTS", ("docs.python.org",), ALLOWED).search("json loads", site)
    assert site.asked[1:] == ["https://docs.python.org/3/library/json.html"]
    assert "site%3Adocs.python.org" in site.asked[0] and "s3cret" in site.asked[0]
    assert found.source == "python" and "Deserialize a made-up document" in found.text


def test_serpapi_tells_nobody_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "s3cret")

    def get(url: str, *, is_index: bool = False) -> Page:
        raise Refused("unavailable", f"{url} answered 500", retry_after=7)

    with pytest.raises(Refused) as refused:
        SerpApi("KEY_OF_TESTS", ("docs.python.org",), ALLOWED).search("json", get)
    assert "s3cret" not in str(refused.value) and refused.value.retry_after == 7


def test_serpapi_shows_nothing_once_the_mode_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_TESTS", "s3cret")
    links = ("https://docs.python.org/3/a.html", "https://docs.python.org/3/b.html")
    site = Got(**{"serpapi.com": serp(*links), "a.html": made_up.JSON_PAGE})

    def get(url: str, *, is_index: bool = False) -> Page:
        if url.endswith("b.html"):
            raise Refused("offline")
        return site(url, is_index=is_index)

    with pytest.raises(Refused, match="offline"):
        SerpApi("KEY_OF_TESTS", ("docs.python.org",), ALLOWED).search("json", get)


def test_serpapi_without_its_key_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEY_OF_TESTS", raising=False)
    site = Got()
    with pytest.raises(Refused) as refused:
        SerpApi("KEY_OF_TESTS", ("docs.python.org",), ALLOWED).search("json", site)
    assert refused.value.reason == "key" and site.asked == []


MAKERS: list[tuple[Callable[[], DocsSource], str]] = [
    (PythonDocs, "json.loads"),
    (FastApiDocs, "path"),
    (lambda: ReadTheDocs(("requests",)), "requests timeout"),
    (StackOverflow, "sort"),
]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"items": 5}', b"<html>503</html>", b'{"results": [1]}',
                                  b'{"docs": [{}]}', b"\xff\xfe", b'{"items": [{}]}', b"[" * 200_000])  # fmt: skip
@pytest.mark.parametrize(("make", "query"), MAKERS, ids=["python", "fastapi", "readthedocs", "stackoverflow"])
def test_an_answer_of_another_form_is_refused(make: Callable[[], DocsSource], query: str, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        make().search(query, Got(**{"https": body}))
    assert refused.value.reason == "format"
