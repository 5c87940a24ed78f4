"""Which functions of a file that touches a benchmark are left out.

A solution may be spread over several functions, of which none touches the benchmark by itself, or only one. So a
function goes where it touches one with the code that is shown with it, and where only those use it that go. Where no
statement of the file is enough by itself, those go without which the file would not touch a benchmark.
"""

import ast
from collections.abc import Sequence

from app.corpus.clean.decontamination import Decontaminator, defined_names
from app.corpus.records import Document
from app.files.python_source import parsed


def touched(
    guard: Decontaminator, text: str, tree: ast.Module, documents: Sequence[Document], reason: str
) -> list[str]:
    """Why each of the documents is left out; empty for those that stay. reason: why the file is."""
    of_documents = [guard.hit(f"{document.context}\n{document.text}", names_in(document)) for document in documents]
    lines = text.split("\n")
    reasons: dict[str, str] = {}
    users: dict[str, set[str]] = {}
    for number, node in enumerate(tree.body):
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else f"statement {number}"
        source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        names = defined_names(ast.Module(body=[node], type_ignores=[]))
        reasons[name] = reasons.get(name) or guard.hit(source, names)  # a name may be defined twice
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id != name:
                users.setdefault(part.id, set()).add(name)
    if not any(reasons.values()) and not any(of_documents):
        return _together(guard, text, documents, reason)
    reasons |= {document.name: own for document, own in zip(documents, of_documents, strict=True) if own}
    while True:
        helpers = [
            (name, by)
            for name, own in reasons.items()
            if not own and (by := users.get(name)) and all(reasons.get(user) for user in by)
        ]
        if not helpers:
            return [reasons[document.name] for document in documents]
        reasons |= {name: reasons[min(by)] for name, by in helpers}


def _together(guard: Decontaminator, text: str, documents: Sequence[Document], reason: str) -> list[str]:
    """The same where functions touch a benchmark only together. Where none of them can be spared, all go."""

    def touches(without: Sequence[Document]) -> bool:
        rest = text
        for document in without:
            rest = rest.replace(document.text, "\n", 1)
        return bool(guard.hit(rest, defined_names(parsed(rest) or ast.Module(body=[], type_ignores=[]))))

    if touches(documents):
        return [""] * len(documents)
    needed = [not touches([document]) for document in documents]
    return [reason if is_needed or not any(needed) else "" for is_needed in needed]


def names_in(document: Document) -> list[str]:
    """Names that a function and the code shown with it define."""
    context = parsed(document.context)
    return [document.name, *(defined_names(context) if context else ())]
