"""Facts of a documented function are read in every common docstring style, and of no other function's parameters."""

import pytest

from app.corpus.draws import Draws
from app.corpus.examples.tool_facts import described
from app.corpus.records import FUNCTION, Document

STYLES = {
    "google": """
    Args:
        pieces (list[str]): The words that are put together.
        width: The number of columns of a line,
            without its end.
        stranger: Something that the signature does not have.

    Raises:
        ValueError: If the width is negative.
    """,
    "sphinx": """
    :param pieces: The words that are put together.
    :param int width: The number of columns of a line,
        without its end.
    :param stranger: Something that the signature does not have.
    :raises ValueError: If the width is negative.
    """,
    "numpydoc": """
    Parameters
    ----------
    pieces : list of str
        The words that are put together.
    width, stranger : int
        The number of columns of a line,
        without its end.

    Raises
    ------
    ValueError
        If the width is negative.
    """,
    "epydoc": """
    @param pieces: The words that are put together.
    @param width: The number of columns of a line,
        without its end.
    @raise ValueError: If the width is negative.
    """,
}


def told(rest: str) -> dict[str, str]:
    """What is said of the function's parameters and errors, by the parameter's or the error's name."""
    body = f'    """Return the given words joined into lines of a width.\n{rest}"""\n    return pieces[width:]\n'
    text = f"def fold(pieces, width=80):\n{body}"
    made = described(Document(kind=FUNCTION, name="fold", text=text, header=text), Draws("0"), is_altered=False)
    assert made is not None
    facts = [fact for fact in made.facts if fact.kind in ("argument", "error")]
    return {fact.values.get("param") or fact.values["error"]: fact.said for fact in facts}


@pytest.mark.parametrize("style", STYLES)
def test_parameters_and_errors_are_read_in_each_style(style: str) -> None:
    assert told(STYLES[style]) == {
        "pieces": "pieces: The words that are put together.",
        "width": "width: The number of columns of a line, without its end.",
        "ValueError": "Raises ValueError if the width is negative.",
    }


@pytest.mark.parametrize(
    "rest",
    [
        "\n    Args:\n        a list without any names or colons\n    ",
        "\n    : : of two columns\n    ",
    ],
    ids=["no colon", "colons alone"],
)
def test_a_malformed_docstring_tells_no_parameters(rest: str) -> None:
    assert told(rest) == {}
