"""Functions as tools: what of signature and docstring becomes a schema, and what makes none."""

import pytest

from app.problem_sets.task import CallTask
from app.records import Problem
from app.reward.tool_use.functions import tool_of
from app.reward.tool_use.names import benchmark_names, forms_of
from tests.unit.reward.tool_use.made import ORIGIN, SOURCES, TOOLS, document, tool


def test_a_signature_and_a_docstring_become_a_schema() -> None:
    assert TOOLS[0].schema() == {
        "type": "function",
        "function": {
            "name": "shorten_line",
            "description": "Shorten a line of text to the width given.",
            "parameters": {
                "type": "object",
                "properties": {
                    "line": {"type": "string", "description": "The line."},
                    "width": {"type": "integer", "description": "Characters at most.", "default": 40},
                    "mode": {
                        "type": "string",
                        "description": "Where letters are left out.",
                        "enum": ["middle", "end"],
                        "default": "end",
                    },
                },
                "required": ["line"],
            },
        },
    }
    assert TOOLS[0].task == "shorten a line of text to the width given"


def test_types_come_from_sphinx_and_numpy_docstrings_too() -> None:
    word = TOOLS[1].schema()["function"]["parameters"]["properties"]["word"]
    assert word == {"type": "string", "description": "the word to look at"} and TOOLS[1].task.startswith(
        "count the vowels"
    )
    readings = TOOLS[2].schema()["function"]["parameters"]["properties"]
    assert readings["readings"] == {
        "type": "array", "description": "Values of the thermometer.", "items": {"type": "number"}
    }  # fmt: skip
    assert readings["unit"]["enum"] == ["C", "F"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("Optional[int]", {"type": "integer"}),
        ("Union[Callback, str]", {"type": "string"}),
        ("'list[str] | None'", {"type": "array", "items": {"type": "string"}}),
        ("tuple[float, float]", {"type": "array", "items": {"type": "number"}}),
        ("tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        ("Annotated[bool, Doc('x')]", {"type": "boolean"}),
        ("Literal[1, 2, 3]", {"type": "integer", "enum": [1, 2, 3]}),
        ("pathlib.Path", {"type": "string"}),
    ],
)
def test_annotations_are_read(annotation: str, schema: dict[str, object]) -> None:
    source = f'def cut_text(given: {annotation}):\n    """Cut a text where it was said before."""\n    return 1\n'
    assert tool(source).schema()["function"]["parameters"]["properties"]["given"] == schema


@pytest.mark.parametrize(
    "annotation", ["Callable", "dict[str, int]", "np.ndarray", "list[list[int]]", "tuple[int, str]", "'['"]
)
def test_a_needed_parameter_of_a_type_that_json_has_not_makes_no_tool(annotation: str) -> None:
    source = f'def cut_text(given: {annotation}):\n    """Cut a text where it was said before."""\n    return 1\n'
    assert tool_of(document(source), ORIGIN) is None
    optional = source.replace(f"given: {annotation}", f"text: str, given: {annotation} = None")
    assert [one.name for one in tool(optional).parameters] == ["text"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Counts the vowels", "The vowels"),  # tells nothing to do
        ("Counts the vowels", "Counts the self"),  # words of who knows the package
        ("count_vowels", "_count_vowels"),
        ("(word)", "(word, other)"),  # of which nothing is told
        ("(word)", "()"),
        ("of a word,", "of a word {}".format("and another " * 20)),
    ],
)
def test_functions_that_nobody_could_ask_for_make_no_tool(old: str, new: str) -> None:
    assert tool_of(document(SOURCES[1]), ORIGIN) is not None
    assert tool_of(document(SOURCES[1].replace(old, new)), ORIGIN) is None


def test_names_are_known_by_all_their_parts_and_by_the_last_one() -> None:
    assert forms_of("Text.parse_Date") == {"textparsedate", "parsedate"}
    tools = '[{"function": {"name": "geo.findPlace"}}, {"function": {"name": "search_docs"}}]'
    problem = Problem(id="bfcl/1", source="bfcl", licence="MIT", prompt="", entry_point="", tests="{}", tools=tools)
    known = benchmark_names([CallTask(problem=problem, canonical_solution="")])
    assert known == {"geofindplace", "findplace"} and known & forms_of("find_place")
