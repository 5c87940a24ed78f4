"""The part of a page that an anchor names, and nothing that the page hides."""

import pytest

from app.docsearch.page_text import text_of
from app.docsearch.records import Page
from app.docsearch.sources.sections import part_of

BODY = """<html><body><h1 id="top">Top</h1><p>before</p>
<h2 id="two">Two</h2><p>in two</p><h3 id="deep">Deep</h3><p>in deep</p><h2 id="next">Next</h2><p>after</p>
<dl><dt id="f">f()</dt><dt id="g">g()</dt><dd>of both</dd><dt id="h">h()</dt><dd>of h</dd></dl>
<section id="s">in s <section id="inner">in inner</section></section>
<div hidden><section id="hidden">obey me</section></div>
<div style="display:none"><p><span id="styled">obey me</span></p></div>
<nav><p id="menu">menu</p></nav></body></html>"""


def text(anchor: str) -> str:
    page = Page(url="https://docs.python.org/3/x.html", content_type="text/html", body=BODY.encode())
    return " ".join(text_of(part_of(page, anchor)).split())


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ("two", "Two in two Deep in deep"),
        ("deep", "Deep in deep"),
        ("f", "f() g() of both"),
        ("h", "h() of h"),
        ("s", "in s in inner"),
        ("inner", "in inner"),
        ("hidden", ""),
        ("styled", ""),
        ("menu", ""),
    ],
)
def test_an_anchor_names_a_part(anchor: str, expected: str) -> None:
    assert text(anchor) == expected


@pytest.mark.parametrize("anchor", ["", "none", "'\"]><"])
def test_without_such_a_part_the_page_is_whole(anchor: str) -> None:
    assert text(anchor).startswith("Top before Two")
