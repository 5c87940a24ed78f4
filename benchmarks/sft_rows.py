"""Rows for the arms of `benchmarks.sft_arms`: a built corpus in several mixes of forms, and the model's own answers.

    python -m benchmarks.sft_rows build --run RUN --set KEY=VALUE    the corpus, whose samples are kept
    python -m benchmarks.sft_rows mixes --run RUN --out FOLDER --rows 1024
    python -m benchmarks.sft_rows ordinary --run RUN --out prompts.jsonl.gz [--number 1500]
    python -m benchmarks.sft_rows own --model FOLDER --suite mbpp=FILE --prompts prompts.jsonl.gz
        --drafts drafts.jsonl.gz --verdicts verdicts.jsonl.gz --out FOLDER --rows 1024

`mixes` writes one folder a mix; `ordinary` asks for functions, docstrings and searches as the corpus does, in the form
that `benchmarks.drafts draw` reads; `own` makes rows of drafts: `own` of those that passed all tests, `own-replay`
with a quarter of ordinary greedy answers among the learnt tokens, `replay` of these alone, `unverified` of as many
drafts whatever their verdict. All folders have the same number of rows; where the material is less it is repeated, and
the line that is printed says how often. Limits: a draft is learnt by its text, whose tokens may be others than those
that were drawn.
"""

import argparse
import ast
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.corpus.draws import bits, by_hash
from app.corpus.examples.forms import document_examples
from app.corpus.examples.tool_dialogues import tool_example
from app.corpus.recipe_files import load_recipe
from app.corpus.records import FUNCTION, Document, Example, Origin
from app.corpus.rows.assemble import TRAIN_SCHEMA
from app.corpus.rows.packing import Sample, num_learnt, pack, packing_stats, too_long
from app.corpus.rows.render import tokenise_all
from app.corpus.rows.shares import choose
from app.errors import UserError
from app.files.python_source import parsed
from app.models.base import ensure_model, load_tokenizer
from app.prompting.protocols import chat_prompt
from app.reward.imitation.selection import most_learnt
from app.running.run_settings import stored_profile
from app.runs import Run
from app.settings import Profile
from benchmarks.drafts import json_rows, open_text, suites_of

BODIES = ("doc_to_code", "fill_in", "fix_bug", "multi_file", "problem", "completion", "file")
"""Forms in which code is learnt that people wrote."""
MIXES: dict[str, dict[str, float]] = {
    "default": {},
    "no-plain-text": {"completion": 0, "file": 0},
    "no-fill-in": {"fill_in": 0},
    "no-tools": {"tool_use": 0},
    "no-bodies": dict.fromkeys(BODIES, 0),
    "functions-only": dict.fromkeys((*BODIES[1:], "code_to_doc", "tool_use"), 0),
}
"""Changes of a recipe's shares."""
ORDINARY = {"doc_to_code": 0.7, "code_to_doc": 0.15, "tool_use": 0.15}
"""Parts of the ordinary questions."""
ORDINARY_SHARDS = 12
"""How many of the corpus' shards the ordinary questions come from."""
REPLAY = 0.25
"""The share of ordinary answers among the learnt tokens of `own-replay`."""
SPARE = 1.02
"""Tokens that are packed, beside those of the rows that are written."""


def build(arguments: argparse.Namespace) -> None:
    from app.cli import main as command

    settings = [word for setting in arguments.settings for word in ("--set", setting)]
    with patch("app.corpus.build.shutil", SimpleNamespace(rmtree=lambda folder: None)):
        command(["corpus", "--profile", arguments.profile, "--run", str(arguments.run), *settings])


def mixes(arguments: argparse.Namespace) -> None:
    run, profile = Run(arguments.run), _profile(arguments.run)
    shares = load_recipe(profile.corpus).forms.model_dump()
    paths = sorted((run.corpus_work / "samples").glob("*.parquet"))
    tokenizer = load_tokenizer(ensure_model(profile.model))
    for name, changes in MIXES.items():
        chosen = choose(paths, shares | changes)
        samples, forms, tokens = list[Sample](), Counter[str](), 0
        for path, rows in zip(paths, chosen.rows, strict=True):
            if tokens > SPARE * arguments.rows * profile.corpus.seq_len:
                break  # each shard is a small picture of the whole
            for row in pq.read_table(path).take(pa.array(rows, pa.int64())).to_pylist():
                forms[row["form"]] += row["learnt"]
                tokens += len(row["input_ids"])
                samples.append(Sample(input_ids=row["input_ids"], labels=row["labels"], is_whole=row["is_whole"]))
        notes = {"learnt_by_form": dict(forms.most_common())}
        write(arguments.out / name, samples, profile.corpus.seq_len, arguments.rows, tokenizer, notes)


def _profile(root: Path) -> Profile:
    profile = stored_profile(root)
    if profile is None:
        raise UserError(f"{root} is no run: make one with `python -m benchmarks.sft_rows build --run {root}`")
    return profile


def ordinary(arguments: argparse.Namespace) -> None:
    run, profile = Run(arguments.run), _profile(arguments.run)
    tokenizer = load_tokenizer(ensure_model(profile.model))
    examples: dict[str, dict[str, Example]] = defaultdict(dict)
    for path in sorted((run.corpus_work / "documents").glob("*.parquet"))[:ORDINARY_SHARDS]:
        for example in _questions(path, profile.seed):
            examples[example.form].setdefault(until_answer(example)[-1]["content"], example)
    with open_text(arguments.out, "wt") as out:
        for form, share in ORDINARY.items():
            chosen = sorted(examples[form], key=by_hash)[: round(share * arguments.number)]
            for question in chosen:
                turns, tools = until_answer(examples[form][question]), examples[form][question].tools
                name = f"ordinary/{form}/{bits(question):x}"
                row: dict[str, Any] = {"id": name, "suite": "ordinary", "split": "train"}
                row |= {"prompt": chat_prompt(tokenizer, turns, tools=tools), "turns": turns, "tools": tools}
                out.write(json.dumps(row) + "\n")
            print(json.dumps({"form": form, "there": len(examples[form]), "taken": len(chosen)}), flush=True)


def _questions(path: Path, seed: int) -> Iterator[Example]:
    rows = pq.read_table(path).to_pylist()
    documents = [(Origin.of(row), Document(**{name: row[name] for name in Document.__slots__})) for row in rows]
    functions = [(origin, document) for origin, document in documents if document.kind == FUNCTION]
    told = [(origin.distribution, document) for origin, document in functions]
    forms = dict.fromkeys(ORDINARY, 1.0)
    for place, (_, document) in enumerate(functions):
        yield from document_examples(document, forms, seed, fills_in=True)
        yield from tool_example(told, place, forms, seed)


def until_answer(example: Example) -> list[dict[str, Any]]:
    """The dialogue before the first turn of the assistant."""
    roles = [turn["role"] for turn in example.turns]
    return list(example.turns[: roles.index("assistant")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A draft of a problem. `shape`: its program's syntax tree, by which copies are told; empty where it has none."""

    example: Example
    passed: bool
    shape: str
    order: bytes


def own(arguments: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(Path(arguments.model))
    solved = _answers(arguments)
    verified = [answer.example for answers in solved for answer in kept(answers)]
    unverified = [answer.example for answers in solved for answer in answers[: len(kept(answers))]]
    replay = list(_replayed(arguments))
    notes = {"problems": len(solved), "solved": sum(any(a.passed for a in answers) for answers in solved)}
    own_samples, replayed = _fitting(verified, tokenizer, arguments), _fitting(replay, tokenizer, arguments)
    learnt = sum(num_learnt(sample.labels, arguments.seq_len) for sample in own_samples)
    share = first_samples(replayed, learnt * REPLAY / (1 - REPLAY), arguments.seq_len)
    for name, samples in {
        "own": own_samples,
        "own-replay": own_samples + share,
        "replay": replayed,
        "unverified": _fitting(unverified, tokenizer, arguments),
    }.items():
        write(arguments.out / name, samples, arguments.seq_len, arguments.rows, tokenizer, notes)


def _answers(arguments: argparse.Namespace) -> list[list[Answer]]:
    """The drafts of each problem that ended by themselves, in an order drawn by hash; greedy ones are left out."""
    problems = {task.problem.id: (suite, task.problem) for suite, tasks in suites_of(arguments.suite) for task in tasks}
    verdicts = {
        (row["id"], row["sample"], row["temperature"]): row["status"] == "passed" and row["tier"] != "in_process"
        for row in json_rows(arguments.verdicts)
    }
    found: dict[str, list[Answer]] = defaultdict(list)
    for row in json_rows(arguments.drafts):
        key = row["id"], row["sample"], row["temperature"]
        if row["temperature"] == 0 or key not in verdicts or row["finish_reason"] != "stop":
            continue
        suite, problem = problems[row["id"]]
        tree = parsed(suite.program(problem, "chat", row["text"]))
        turns = (*suite.chat(problem, ()), {"role": "assistant", "content": row["text"]})
        shape = ast.dump(tree) if tree else ""
        example, order = Example(form="problem", turns=turns), by_hash(json.dumps(key))
        found[row["id"]].append(Answer(example=example, passed=verdicts[key], shape=shape, order=order))
    return [sorted(answers, key=lambda answer: answer.order) for _, answers in sorted(found.items())]


def kept(answers: Sequence[Answer]) -> list[Answer]:
    """What is learnt of a problem: passed and all different, more of them the harder it is."""
    rate = sum(answer.passed for answer in answers) / len(answers)
    different = {answer.shape: answer for answer in reversed(answers) if answer.passed}
    return sorted(different.values(), key=lambda answer: answer.order)[: most_learnt(rate)]


def _replayed(arguments: argparse.Namespace) -> Iterator[Example]:
    """The greedy answers to ordinary questions that ended by themselves, in an order drawn by hash."""
    asked = {row["id"]: row for row in json_rows(arguments.prompts) if "turns" in row}
    rows = [row for row in json_rows(arguments.drafts) if row["id"] in asked and row["finish_reason"] == "stop"]
    for row in sorted(rows, key=lambda row: by_hash(row["id"])):
        turns = (*asked[row["id"]]["turns"], {"role": "assistant", "content": row["text"]})
        yield Example(form="replay", turns=turns, tools=tuple(asked[row["id"]]["tools"]))


def _fitting(examples: Sequence[Example], tokenizer: Any, arguments: argparse.Namespace) -> list[Sample]:
    return [s for s in tokenise_all(examples, tokenizer) if not too_long(s, arguments.seq_len)]


def first_samples(samples: Iterable[Sample], tokens: float, seq_len: int) -> list[Sample]:
    """As many of the first samples as have this many learnt tokens."""
    taken: list[Sample] = []
    for sample in samples:
        if tokens <= 0:
            break
        taken.append(sample)
        tokens -= num_learnt(sample.labels, seq_len)
    return taken


def write(
    folder: Path, samples: Sequence[Sample], seq_len: int, rows: int, tokenizer: Any, notes: dict[str, Any]
) -> None:
    """Pack samples drawn by hash into this many rows of `folder`/rows.parquet; fewer samples are repeated."""
    order = sorted(samples, key=lambda sample: by_hash(np.array(sample.input_ids, np.int32).tobytes()))
    ends = np.cumsum([len(sample.input_ids) for sample in order])
    taken = order[: int(np.searchsorted(ends, SPARE * rows * seq_len)) + 1]
    packed = pack(taken, seq_len, tokenizer.pad_token_id or 0)
    packed.sort(key=lambda row: by_hash(row.input_ids.tobytes()))
    written = [packed[number % len(packed)] for number in range(rows)]
    columns = {
        name: pa.FixedSizeListArray.from_arrays(np.concatenate([getattr(row, name) for row in written]), seq_len)
        for name in TRAIN_SCHEMA.names
    }
    table = pa.table({name: column.cast(TRAIN_SCHEMA.field(name).type) for name, column in columns.items()})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.parquet"
    pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=False)
    tokens = packing_stats(written).tokens
    facts = {"mix": folder.name, "samples": len(samples), "rows": rows, "epochs": round(tokens / ends[-1], 2)}
    facts |= {"tokens": tokens, "learnt": sum(int((row.labels >= 0).sum()) for row in written)}
    print(json.dumps(facts | notes | {"bytes": path.stat().st_size}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    one = steps.add_parser("build")
    one.add_argument("--profile", default="laptop")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    one.set_defaults(step=build)
    for name, step in {"mixes": mixes, "ordinary": ordinary}.items():
        steps.add_parser(name).set_defaults(step=step)
    for name in ("build", "mixes", "ordinary"):
        steps.choices[name].add_argument("--run", type=Path, required=True)
    one = steps.choices["ordinary"]
    one.add_argument("--number", type=int, default=1500)
    one.add_argument("--out", required=True)
    one = steps.add_parser("own")
    one.add_argument("--model", required=True, metavar="FOLDER")
    one.add_argument("--suite", action="append", required=True, metavar="NAME[=FILE]")
    for name in ("prompts", "drafts", "verdicts"):
        one.add_argument(f"--{name}", nargs="+", required=True)
    one.add_argument("--seq-len", type=int, default=1024)
    one.set_defaults(step=own)
    for name in ("mixes", "own"):
        steps.choices[name].add_argument("--out", type=Path, required=True)
        steps.choices[name].add_argument("--rows", type=int, default=1024)
    arguments = parser.parse_args()
    arguments.step(arguments)


if __name__ == "__main__":
    main()
