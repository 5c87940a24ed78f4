"""The records inside the corpus stage: what the sources give, what is cut out of it, and what is learnt from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.prompting.protocols import Message
from app.records import Problem

FUNCTION, FILE, PROBLEM = "function", "file", "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a piece of code comes from. Made by the sources; kept with everything that is made of it."""

    distribution: str
    version: str
    licence: str
    """SPDX expression relied on."""
    path: str
    """Inside the distribution."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Origin":
        """The origin that a row of a Parquet file holds in columns."""
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def row(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Something that is not learnt. Made by every task of the build; written to rejected.parquet."""

    origin: Origin
    """Where it comes from; the path is empty for a whole distribution, and the problem's id for one of a training
    split."""
    name: str
    """The function's or problem's name; empty for anything else."""
    what: str
    """"distribution", "file", "function", "problem", or the form of an example."""
    reason: str
    """Why, in words; the part before the first ":" is the kind."""

    @property
    def row(self) -> dict[str, str]:
        return self.origin.row | {"name": self.name, "what": self.what, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A piece of code to learn. Made by `app.corpus.clean.documents`; deduplicated, rendered and tokenised by the
    build."""

    kind: str
    """FUNCTION or FILE."""
    name: str
    """Function name; empty for a file."""
    text: str
    header: str
    """Signature and docstring of a function: what a prompt shows; empty for a file."""
    context: str = ""
    """The imports and sibling code that a function uses, as source; empty where it uses none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A small change of a solution that fails its problem's tests. Made by `app.corpus.mining.validation`."""

    program: str
    """The whole program."""
    failure: str
    """The first assertion that it fails, with a comment on what came instead; empty where that can't be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolvedProblem:
    """A problem mined from code, or taken from a training split, with a solution that passed its tests in the sandbox.

    Made by `app.corpus.mining` and `app.corpus.sources.task_files`; written to problems/*.parquet; read by the examples
    of this stage and by the stages that draw and judge.
    """

    problem: Problem
    """A mined one has the style ASSERTIONS: `tests` are assertions that call the entry point, and `prompt` has
    HumanEval's form: imports and helpers, signature, docstring. `split` is train, validation or test, the same for a
    whole distribution. `difficulty` is easy, medium or hard."""
    solution: str
    """A whole program, the prompt's imports and helpers included; it passes."""
    description: str
    """The task in prose, without code: the docstring's text before its examples, or the suite's statement."""
    bugs: tuple[Bug, ...]
    """At least one bug, once the problem is proved."""
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training example before tokenisation. Made by `app.corpus.examples.forms`; tokenised by
    `app.corpus.rows.render`.

    Either a dialogue (`turns`, of which the assistant's are learnt) or plain text (`prompt` is given, `completion`
    learnt).
    """

    form: str
    """The form, by which the manifest counts examples: "doc_to_code", "code_to_doc", "fill_in", "fix_bug",
    "multi_file", "problem", "tool_use", "completion", "file"."""
    prompt: str = ""
    completion: str = ""
    turns: tuple[Message, ...] = ()
    tools: tuple[Message, ...] = ()
    """Functions as JSON schema that the dialogue has at hand."""


class RejectedFileError(ValueError):
    """The file is not used; the text is the reason."""
