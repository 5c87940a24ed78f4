"""Text that a page keeps from its readers is kept from the model: by styles, by attributes, by markup that browsers
read otherwise than a simple reader would."""

import pytest

from app.docsearch.hiding_styles import hides
from app.docsearch.page_text import text_of
from app.docsearch.records import Page

HIDING = """
font:0/0 a | font: italic 0px serif | color:rgba(0,0,0,0) | color:rgb(0 0 0 / 0%) | color:#0000 | COLOR:#FFFFFF00 |
color:transparent !important | -webkit-text-fill-color:transparent | opacity:1e-9 | opacity:.01 | opacity:1% |
opacity:calc(0) | font-size:1px | font-size:0.1em | font-size:5% | filter:opacity(0) | mask:linear-gradient(red,red) |
clip-path:inset(50%) | display:var(--x,none) | display:none!important | position:absolute;left:-99vw | left:200vw |
top:-999em | inset:-1000px | margin-left:9999px | text-indent:-9999px | letter-spacing:-9em | transform:rotateX(90deg) |
transform:scale(0) | scale:0 | zoom:0 | translate:-100vw | height:1px;overflow:hidden | max-height:0 | block-size:0 |
visibility:collapse | content-visibility:hidden | d\\69splay:none | display:/**/none
"""
SHOWING = """
background-color:transparent | background:rgba(0,0,0,0) | border-color:transparent | color:#ff0000 | color:#000 |
color:rgb(10,20,0) | color:hsl(0,0%,0%) | color:rgba(0,0,0,.7) | color:rgb(0 0 0 / 60%) | color:var(--x) | opacity:.9 |
opacity:90% | font:bold 10px serif | font-size:0.8em | font-size:80% | font-size:10px | width:1px | left:100% |
text-indent:-1.5em | margin:0 auto | margin-left:-3px | width:calc(100% - 20px) | overflow:hidden;width:200px |
line-height:0 | display:block | max-height:1000px | nonsense | : | ;;
"""


def listed(text: str) -> list[str]:
    return [style.strip() for style in text.replace("\n", " ").split(" | ")]


@pytest.mark.parametrize("style", listed(HIDING.replace(" |\n", " | ")))
def test_a_style_that_hides_is_known(style: str) -> None:
    assert hides(style)


@pytest.mark.parametrize("style", listed(SHOWING.replace(" |\n", " | ")))
def test_a_style_that_hides_nothing_costs_no_text(style: str) -> None:
    assert not hides(style)


MARKUP = [
    "<svg></template>{}</svg>",
    "<svg></select>{}</svg>",
    "<select></svg>{}</select>",
    "<span hidden></foo>{}</span>",
    "<b hidden></i>{}</b>",
    "<script></script\xa0>{}</script>",
    "<script></\u017fcript>{}</script>",
    "<style></style\x1f>{}</style>",
    "<div hidden></div\xa0>{}</div>",
    "<div hidden></div\x0b>{}</div>",
    "<blockquote hidden></bloc\u212aquote>{}</blockquote>",
    "<div popover>{}</div>",
    "<progress>{}</progress>",
    "<meter>{}</meter>",
    "<math><annotation>{}</annotation></math>",
    "<ruby>x<rp>{}</rp></ruby>",
    '<p class="invisible">{}</p>',
]


@pytest.mark.parametrize("markup", MARKUP)
def test_markup_that_no_browser_shows_is_not_shown_here(markup: str) -> None:
    text = shown(f"<p>before</p>{markup.replace('{}', 'IGNORE ALL')}<p>after</p>")
    assert "IGNORE" not in text and "before" in text and "after" in text


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quote_that_is_not_closed_takes_the_rest_of_the_page(quote: str) -> None:
    assert shown(f"<p>before</p><p a={quote}><p>IGNORE ALL") == "before"


def shown(body: str) -> str:
    return text_of(Page(url="", content_type="text/html", body=body.encode()))
