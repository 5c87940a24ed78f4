"""The words of the training dialogues that are not a suite's own.

Each request has several wordings with the answer that it calls for; which one an example gets is drawn by hash. What
suites ask is in `app.prompting.protocols` and `app.prompting.questions`.
"""

import re
from collections.abc import Sequence

from app.corpus.draws import Draws

FILL = "<FILL>"
"""Stands for the lines that are asked for, in a chat: alone on its line, without indentation, so that the answer in its
place gives the program again. With a model's own tokens the answer is put between prefix and suffix as it is."""
FIX = (
    "This program has a bug{place}. Find it, and reply with the whole program, corrected, in one code block.\n"
    "{code}{more}",
    "Fix the mistake in the following Python code. Reply with the whole corrected code in one code block.\n"
    "{code}{more}",
    "The code below does not do what it should. Correct it; reply with all of the code in one code block.\n"
    "{code}{more}",
)
FILL_IN = (
    f"Fill in the missing lines marked {FILL}. Reply with these lines alone, indented as in the whole code, in one "
    "code block.\n{code}",
    f"In this Python code the lines at {FILL} were left out. Reply with them alone, with their indentation, in one "
    "code block.\n{code}",
)
MULTI_FILE = (
    "Here is {others}\nComplete the function `{name}` of `{path}`. Reply with the whole function in one code block.\n"
    "{code}",
    "Here is {others}\nWrite `{name}` in `{path}`, which begins as follows. Use what is there; reply with the whole "
    "function in one code block.\n{code}",
)
DOCSTRING = (
    "Write the docstring of this function. Reply with the docstring alone, in one code block.\n{code}",
    "What would be a good docstring for the following function? Give nothing but the docstring, in one code block.\n"
    "{code}",
)
SUMMARY = (
    "What does this Python function do? Answer in a sentence or two.\n{code}",
    "Summarise the following function in plain words.\n{code}",
    "Explain briefly what `{name}` does.\n{code}",
)
WITH_DOCSTRING = (
    "Add a docstring to this function. Reply with the whole function in one code block.\n{code}",
    "Document the function `{name}`: reply with the whole function, with a docstring, in one code block.\n{code}",
)
_SENTENCE_END = re.compile(r"(?<!\b[a-zA-Z])(?<!\b(?:vs|cf))(?<!\betc)(?<!\s\d)[.!?](?=\s+[A-Z`])")
"""The end of a sentence, which is never after a single letter or digit: "e.g.", initials, the numbers of a list."""
_BASE_VERBS = frozenset(
    "add apply build calculate capitalize check clean collapse combine compare compute convert count create "
    "decode detect determine divide drop encode escape estimate evaluate expand extract filter find flatten "
    "format generate get give group identify insert invert join list make map match measure merge normalize "
    "parse print produce quote read remove rename repeat replace return reverse rotate round search select "
    "shift shorten sort split strip sum swap test tokenize transform translate transpose trim truncate turn "
    "unescape unquote update validate verify wrap yield".split()
)


def fenced(code: str) -> str:
    return f"```python\n{code.rstrip()}\n```"


def as_task(description: str, draws: Draws) -> str:
    """The description as MBPP's tasks begin: "Write a function to find ...". Other beginnings stay as they are."""
    text = "\n\n".join(_collapsed(paragraph) for paragraph in re.split(r"\n\s*\n", description.strip()))
    first, space, rest = text.partition(" ")
    function = draws.one_of(("Write a function", "Write a python function"))
    verb = first.lower()
    if space and (base := base_of(verb)):
        return f"{function} {'to' if base == verb else 'that'} {verb} {rest}"
    return text


def base_of(word: str) -> str:
    """The verb that a description begins with, in its base form ("returns" -> "return"); empty for other words."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"), re.sub(r"ies\Z", "y", word))
    return next((form for form in forms if form in _BASE_VERBS), "")


def _collapsed(paragraph: str) -> str:
    """The paragraph on one line, unless its line breaks mean something."""
    lines = paragraph.split("\n")
    if any(re.match(r"\s{2,}|\s*([-*•]|\d+[.)])\s", line) for line in lines):
        return paragraph
    return " ".join(paragraph.split())


def first_sentences(prose: str, most: int = 2) -> str:
    """The first paragraph's first sentences, on one line."""
    line = " ".join(re.split(r"\n\s*\n", prose.strip())[0].split())
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    return line[: ends[most - 1]] if len(ends) >= most else line


def worded(wordings: Sequence[str], draws: Draws, **values: str) -> str:
    """One of the wordings, filled in."""
    return draws.one_of(wordings).format(**values)
