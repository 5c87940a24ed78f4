"""YAML that is read and written again without a change of what it says, by the rules of version 1.1 or 1.2.

Readers differ: Continue takes 1.2, llm and aider 1.1, PyYAML 1.1. To these `yes`, `010`, `1e3` and `12:30` are words to
one and truths or numbers to the other. So what was in quotes stays in quotes, and such a word is written as it was.
"""

import re
from typing import Any

import yaml

PLAIN = re.compile(r"true|false|null|~|[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)
"""Words that both versions take for the same."""
TAG = "tag:yaml.org,2002:"


class Kept(str):
    """A scalar of a file with the way it was written."""

    node: yaml.ScalarNode


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


def load(text: str) -> Any:
    """Raises yaml.YAMLError, ValueError and RecursionError for what is none."""
    return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader


def dump(content: Any) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    kind = node.tag.removeprefix(TAG)
    if node.style is None and (kind == "str" or PLAIN.fullmatch(node.value)):
        return getattr(yaml.SafeLoader, f"construct_yaml_{kind}")(loader, node)
    kept = Kept(node.value)
    kept.node = node
    return kept


def _written(dumper: _Dumper, kept: Kept) -> yaml.ScalarNode:
    return dumper.represent_scalar(kept.node.tag, str(kept), style=kept.node.style)


for _kind in ("str", "bool", "int", "float", "timestamp"):
    _Loader.add_constructor(f"{TAG}{_kind}", _scalar)
_Dumper.add_representer(Kept, _written)
