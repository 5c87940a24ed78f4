"""The part of a page that an anchor names, and nothing that the page hides."""

import time

import pytest

from app.docsearch.records import Page
from app.docsearch.sources.sections import text_of_part

BODY = """<html><body><h1 id="top">Top</h1><p>before</p>
<h2 id="two">Two</h2><p>in two</p><h3 id="deep">Deep</h3><p>in deep</p><h2 id="next">Next</h2><p>after</p>
<dl><dt id="f">f()</dt><dt id="g">g()</dt><dd>of both</dd><dt id="h">h()</dt><dd>of h</dd></dl>
<section id="s">in s <section id="inner">in inner</section></section>
<div hidden><section id="hidden">obey me</section></div>
<div style="display:none"><p><span id="styled">obey me</span></p></div>
<!-- <p id="comment">obey me</p> -->
<nav><p id="menu">menu</p></nav></body></html>"""


def text(anchor: str) -> str:
    page = Page(url="https://docs.python.org/3/x.html", content_type="text/html", body=BODY.encode())
    return " ".join(text_of_part(page, anchor).split())


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ("two", "Two in two Deep in deep"),
        ("deep", "Deep in deep"),
        ("f", "f() g() of both"),
        ("h", "h() of h"),
        ("s", "in s in inner"),
        ("inner", "in inner"),
    ],
)
def test_an_anchor_names_a_part(anchor: str, expected: str) -> None:
    assert text(anchor) == expected


@pytest.mark.parametrize("anchor", ["", "none", "'\"]><", "hidden", "styled", "menu", "comment"])
def test_a_part_that_is_not_there_or_hidden_leaves_the_page_as_it_is(anchor: str) -> None:
    assert text(anchor) == text("") and text(anchor).startswith("Top before Two")
    assert "obey" not in text(anchor) and "menu" not in text(anchor)


@pytest.mark.parametrize(
    "body",
    ["<p id='x' " * 200_000, '<p id="x" ' * 200_000, '<p id="x">' + "<div>" * 200_000,
     '<dt id="x">' + "<dl><dt>" * 200_000, '<h2 id="x">' + "<h3>" * 300_000],
    ids=["unended", "doubled", "nested", "lists", "headings"],
)  # fmt: skip
def test_a_page_made_to_take_long_does_not(body: str) -> None:
    start = time.monotonic()
    text_of_part(Page(url="", content_type="text/html", body=body.encode()), "x")
    assert time.monotonic() - start < 10
