"""What enters the corpus: clean, licensed, decontaminated code, and nothing twice."""

import ast

from app.corpus.clean import documents

GOOD = '''"""Tools for triangles."""


def area(base, height):
    """Return the area of a triangle with this base and height."""
    return base * height / 2
'''


def function_names(text: str) -> list[str]:
    return [document.name for document in documents.functions(text, ast.parse(text), min_docstring_chars=10)]


def test_documented_functions_are_cut_out_whole() -> None:
    (document,) = documents.functions(GOOD, ast.parse(GOOD), min_docstring_chars=10)
    assert document.text.startswith("def area") and document.text.endswith("/ 2\n")
    assert document.header.endswith('height."""\n') and document.text.startswith(document.header)


def test_stubs_methods_and_undocumented_functions_are_left_out() -> None:
    text = '''
class Box:
    def volume(self):
        """Return the volume of this box in litres."""
        return self.x

def undocumented():
    return 1

def stub():
    """Return something, some day, perhaps."""

def passing():
    """Return something, some day, perhaps."""
    pass

def abstract():
    """Return something, some day, perhaps."""
    raise NotImplementedError("later")

@decorated
def real(x):
    """Return something that is worth a line of code."""
    return x
'''
    assert function_names(text) == ["real"]
