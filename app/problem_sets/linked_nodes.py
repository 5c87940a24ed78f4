"""Linked lists and binary trees between a program and its tests.

LeetCodeDataset's tests build ListNode and TreeNode objects and compare those that come back. Only plain data crosses
between a program and its judge, so both sides turn nodes into a list of [value, next] or [value, left, right] (places
in that list, None for none) under a key that names the kind, and back. A cycle stays a cycle. The functions go to both
sides as source.
"""

import dataclasses
import inspect
from typing import Any

from app.records import Problem


def are_used(problem: Problem) -> bool:
    return "plain_nodes" in problem.entry_point


def in_tests(problem: Problem) -> Problem:
    """The problem with its tests behind the conversion, where they build nodes; else the problem as it is."""
    if "list_node(" not in problem.tests and "tree_node(" not in problem.tests:
        return problem
    tests = f"{problem.tests.rstrip()}\n\n{_source()}\ncheck_nodes = check\n\n\n" + (
        "def check(candidate):\n"
        "    def call(*args, **kwargs):\n"
        "        given = {name: to_plain(value) for name, value in kwargs.items()}\n"
        "        return from_plain(candidate(*map(to_plain, args), **given), globals())\n"
        "    check_nodes(call)\n"
    )
    return dataclasses.replace(problem, tests=tests, entry_point=f"plain_nodes({problem.entry_point})")


def in_program(program: str) -> str:
    """The program, followed by what its entry point is called through."""
    return f"{program}\n\n\n{_source()}" + (
        "\n\ndef plain_nodes(method):\n"
        "    def call(*args, **kwargs):\n"
        "        kinds = globals()\n"
        "        given = {name: from_plain(value, kinds) for name, value in kwargs.items()}\n"
        "        return to_plain(method(*[from_plain(value, kinds) for value in args], **given))\n"
        "    return call\n"
    )


def to_plain(value: Any) -> Any:
    """Nodes, also in lists and tuples, as plain data; everything else as it is."""
    fields = {"ListNode": ("next",), "TreeNode": ("left", "right")}.get(type(value).__name__)
    if fields is None:
        return type(value)(map(to_plain, value)) if type(value) in (list, tuple) else value
    nodes, places = [value], {id(value): 0}
    for node in nodes:  # grows on the way
        for field in fields:
            child = getattr(node, field)
            if child is not None and id(child) not in places:
                places[id(child)] = len(nodes)
                nodes.append(child)
    children = [[places.get(id(getattr(node, field))) for field in fields] for node in nodes]
    return {type(value).__name__: [[node.val, *places_] for node, places_ in zip(nodes, children, strict=True)]}


def from_plain(value: Any, kinds: Any) -> Any:
    """The reverse. kinds: where the classes of the nodes are found by name."""
    if type(value) in (list, tuple):
        return type(value)(from_plain(item, kinds) for item in value)
    if type(value) is not dict or len(value) != 1 or next(iter(value)) not in ("ListNode", "TreeNode"):
        return value
    ((kind, rows),) = value.items()
    fields = ("next",) if kind == "ListNode" else ("left", "right")
    nodes = [kinds[kind](row[0]) for row in rows]
    for node, row in zip(nodes, rows, strict=True):
        for field, place in zip(fields, row[1:], strict=True):
            setattr(node, field, None if place is None else nodes[place])
    return nodes[0]


def _source() -> str:
    return "from typing import Any\n\n\n" + "\n\n".join(
        inspect.getsource(function) for function in (to_plain, from_plain)
    )
