"""A corpus recipe: the sources, which licences are taken, how it is split, cleaned and shown to the model.

A recipe is a YAML file (datasets/recipes/*.yaml) or a folder of one's own code, read by `app.corpus.recipe_files`;
`app.corpus.recipe_check` tells what is wrong with one before anything is built. docs/corpus.md explains every key.
"""

import fnmatch
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from app.corpus.draws import uniform
from app.errors import did_you_mean
from app.problem_sets.credits import CREDITS
from app.stage_settings.base import Settings

SPLITS = ("train", "validation", "test")


class RecipePart(Settings):
    """Settings that a person writes by hand: an unknown key is answered with the nearest known one."""

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                hint = did_you_mean(str(key), cls.model_fields, f"known here are {', '.join(cls.model_fields)}")
                raise ValueError(f"unknown key {key!r}: {hint}")
        return data


class Selection(RecipePart):
    """What is taken from a source. Patterns are the shell's (`*`, `?`, `[...]`)."""

    kind: str
    include: tuple[str, ...] = ()
    """Names of distributions, repositories or problems; empty: all. Case and `_` for `-` don't matter."""
    exclude: tuple[str, ...] = ()
    """Names to leave out of those."""

    def takes(self, name: str) -> bool:
        return (not self.include or matches(name, self.include)) and not matches(name, self.exclude)


class CodeSource(Selection):
    """A source of files."""

    weight: float = Field(default=1.0, gt=0, le=1000)
    """How likely a file is to be drawn beside the others where max_files bounds the corpus (`find.draw_files`)."""
    include_paths: tuple[str, ...] = ()
    """Paths inside a distribution; empty: all."""
    exclude_paths: tuple[str, ...] = ()

    def takes_path(self, path: str) -> bool:
        included = not self.include_paths or paths_match(path, self.include_paths)
        return included and not paths_match(path, self.exclude_paths)


class InstalledPython(CodeSource):
    """Every distribution in the environment that runs the build."""

    kind: Literal["installed_python"]


class StandardLibrary(CodeSource):
    """The library of the Python that runs the build, as one distribution `python`; without its tests and IDLE."""

    kind: Literal["standard_library"]


class Wheels(CodeSource):
    """The .whl files directly in a folder, each a distribution."""

    kind: Literal["wheels"]
    path: str


class Tree(CodeSource):
    """A source tree, or a folder whose sub-folders are source trees (`sources.packages.is_tree` tells them apart)."""

    kind: Literal["tree"]
    path: str
    licence: str = ""
    """What its owner states for whatever in it names no licence: an SPDX expression, LicenseRef-NAME for rights of
    one's own (`sources.licences.judge_stated`)."""


class Columns(RecipePart):
    """Names of a table's fields. A row without one of the first four is rejected."""

    content: str
    path: str
    licence: str
    """The field of an SPDX expression or the name of a licence, or of a list of them, which then all apply."""
    repository: str
    """The rows of one repository are one distribution."""
    revision: str = ""
    author: str = ""


class JsonLines(CodeSource):
    """Files of JSON lines (.jsonl, .jsonl.gz), each line a source file."""

    kind: Literal["jsonl"]
    path: str
    """A file, or a pattern for several."""
    columns: Columns


class ParquetTable(CodeSource):
    """Parquet files, each row a source file."""

    kind: Literal["parquet"]
    path: str
    """A file, or a pattern for several."""
    columns: Columns


class TheStackV2(CodeSource):
    """BigCode's The Stack v2 from the Hugging Face Hub, contents from Software Heritage
    (`app.corpus.sources.the_stack`)."""

    kind: Literal["the_stack_v2"]
    dataset: Literal["bigcode/the-stack-v2-dedup", "bigcode/the-stack-v2-train-smol-ids"] = "bigcode/the-stack-v2-dedup"
    language: Literal["Python"] = "Python"
    max_files: int = Field(default=50_000, ge=1)
    """Files fetched; the corpus's own max_files draws from them."""
    max_bytes: int = Field(default=400_000, ge=100)
    """Larger files are not fetched."""
    min_stars: int = Field(default=0, ge=0)
    """Stars of the repository, as the data set has counted them."""
    credentials: Literal["aws", "anonymous"] = "aws"
    """How contents are asked for: signed with the AWS credentials of the environment, or unsigned."""
    num_connections: int = Field(default=16, ge=1, le=256)


class TaskSource(Selection):
    """Problems with tests, from the training split of a benchmark's data (`app.corpus.sources.task_files`)."""

    path: str = ""
    """The file; empty: from the Hugging Face Hub."""
    licence: ClassVar[str]
    """SPDX expression of the data set."""
    terms: ClassVar[str] = ""
    """Further terms, which no SPDX licence covers."""

    @property
    def non_osi(self) -> str:
        """Why its terms are not open source, in words."""
        return f"{self.licence}; {self.terms}" if self.terms else self.licence


class LeetCodeTrain(TaskSource):
    kind: Literal["leetcode"]
    licence = "MIT"
    terms = CREDITS["leetcode"].terms


class MbppTrain(TaskSource):
    kind: Literal["mbpp_train"]
    licence = "CC-BY-4.0"


class AppsTrain(TaskSource):
    kind: Literal["apps"]
    licence = "MIT"
    terms = CREDITS["apps"].terms


Source = Annotated[
    InstalledPython
    | StandardLibrary
    | Wheels
    | Tree
    | JsonLines
    | ParquetTable
    | TheStackV2
    | LeetCodeTrain
    | MbppTrain
    | AppsTrain,
    Field(discriminator="kind"),
]


class LicencePolicy(RecipePart):
    """Which licences are taken. The OSI's list always is (`app.corpus.sources.licences`)."""

    also_allow: tuple[str, ...] = ()
    """SPDX ids to accept although the OSI has not approved them, for example CC0-1.0."""
    allow_non_osi: bool = False
    """Take the task sources whose terms are no open-source licence; without it they are for evaluation only."""


class Split(RecipePart):
    """Shares of the distributions, drawn by hash of their names: no distribution is on two sides."""

    train: float = Field(default=0.9, ge=0, le=1)
    validation: float = Field(default=0.05, ge=0, le=1)
    test: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _shares_add_up(self) -> "Split":
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train, validation and test have to add up to 1")
        return self


class Cleaning(RecipePart):
    """Thresholds after StarCoder (arXiv 2305.06161, section 3.1)."""

    max_bytes: int = Field(default=400_000, ge=100)
    min_chars: int = Field(default=100, ge=0)
    max_line_chars: int = Field(default=1000, ge=80)
    max_mean_line_chars: int = Field(default=100, ge=20)
    min_alphanumeric: float = Field(default=0.25, ge=0, le=1)
    min_docstring_chars: int = Field(default=20, ge=0)


Share = Annotated[float, Field(ge=0, le=1)]


class Forms(RecipePart):
    """Share of each form in all learnt tokens (`app.corpus.rows.shares`): 1 is everything that can be shown in it, less
    is at most that share, 0 is nothing. Names as in `app.corpus.records.Example`.

    Plain text (completion, file) is kept small: SmolLM2-135M-Instruct, tuned on documented functions and files alone,
    forgot how to follow an instruction (MBPP fell from 22 to 1 of 500).
    """

    doc_to_code: Share = 1.0
    """Signature and docstring, to the function."""
    code_to_doc: Share = 0.2
    fill_in: Share = 0.15
    """What comes before and after a piece of code, to the piece."""
    fix_bug: Share = 1.0
    """A program with a bug and its failing test, to the right program."""
    multi_file: Share = 1.0
    """A function with the sibling code that it uses; there are few."""
    problem: Share = 1.0
    """A problem to its solution."""
    tool_use: Share = 0.1
    """A dialogue in which documentation is searched."""
    completion: Share = 0.05
    """The body of a function, from its header as plain text."""
    file: Share = 0.02
    """A whole file as plain text."""


class Recipe(RecipePart):
    """A corpus: its sources, licence policy, split, thresholds and forms. Read by `app.corpus.recipe_files`."""

    name: str = Field(min_length=1)
    sources: tuple[Source, ...] = Field(min_length=1)
    licences: LicencePolicy = LicencePolicy()
    split: Split = Split()
    cleaning: Cleaning = Cleaning()
    forms: Forms = Forms()


def split_of(name: str, seed: int, recipe: Recipe) -> str:
    """The side of a distribution, or of a problem that belongs to none: "train", "validation" or "test". Projects of
    one name, which `sources.find` tells apart by their folders, are on one side."""
    draw = uniform(f"{seed}:split:{canonical(name).partition(' (')[0]}")
    if draw < recipe.split.train:
        return "train"
    return "validation" if draw < recipe.split.train + recipe.split.validation else "test"


def canonical(name: str) -> str:
    """A distribution's name without what package indexes ignore in it."""
    return name.lower().replace("_", "-")


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(canonical(name), canonical(pattern)) for pattern in patterns)


def paths_match(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def non_osi_sources(recipe: Recipe) -> list[str]:
    """The sources whose terms no open-source licence covers, each with those terms. For the manifest."""
    return [f"{source.kind}: {source.non_osi}" for source in recipe.sources if isinstance(source, TaskSource)]
