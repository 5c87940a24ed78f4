"""How often a model's replies have which form, and what becomes of them: one JSON line.

    python -m benchmarks.replies FILE [FILE ...] [--problems mbpp=mbpp.jsonl]

FILE: samples.jsonl of an evaluation, or JSON lines (also .gz) of id, text and, for what is no HumanEval, suite.
Functions are looked for where their names are known: HumanEval's always, MBPP's with --problems, LeetCode's class
Solution. Counted are replies, and of a form each reply once; `share` is of all replies.
"""

import argparse
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.evaluation.suites import humaneval
from app.files.python_source import parsed
from app.problem_sets import mbpp
from app.problem_sets.problem_files import rows
from app.prompting.fences import fences
from app.prompting.protocols import without_thought
from app.prompting.replies import PYTHON, code_block, defines, unix

MOST_INFOS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    suite: str
    name: str
    """The entry point; empty where it is not known."""
    text: str


def replies(path: Path, names: dict[str, str]) -> Iterator[Reply]:
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line)
            row = row.get("draft", row)
            problem = row.get("problem_id", row.get("id", ""))
            suite = row.get("suite", problem.partition("/")[0].lower() if "/" in problem else "leetcode")
            name = "Solution" if suite == "leetcode" else names.get(problem, "")
            yield Reply(suite=suite, name=name, text=without_thought(row["text"], ""))


def forms(reply: Reply) -> Iterator[str]:
    """The names of the forms that the reply has."""
    text = unix(reply.text)
    blocks = fences(text)
    yield ("no block", "one block", "several blocks")[min(2, len(blocks))]
    if any(not block.is_closed for block in blocks):
        yield "a block without its end"
    if "\r" in reply.text:
        yield "carriage returns"
    if any(block.mark[0] == "~" for block in blocks):
        yield "tildes"
    if any(len(block.mark) > 3 for block in blocks):
        yield "a fence longer than three"
    if re.search(r"^[ \t>]+(`{3,}|~{3,})", text, re.M):
        yield "an indented fence"
    if re.search(r"^.*[^\s`>].*```[\w+#.-]*$", text, re.M):
        yield "a fence at the end of a line"
    if any(re.search(r"`{3}|~{3}", block.text) for block in blocks):
        yield "a fence within a block"
    if any(len(block.info.split()) > 1 or re.search(r"[^\w+#.-]", block.info) for block in blocks):
        yield "an info string that is more than a word"
    if reply.name:
        yield from _answers(reply, text, [block.text for block in blocks])


def _answers(reply: Reply, text: str, blocks: list[str]) -> Iterator[str]:
    """What the reply says of the function that was asked for."""
    name, program = reply.name, code_block(reply.text, reply.name)
    defining = [code for code in blocks if defines(code, name)]
    longer = re.compile(rf"\b(?:def|class)[ \t]+{re.escape(name)}\w")
    if len(defining) > 1:
        yield "the function in several blocks"
    if defining and any(longer.search(code) for code in blocks[: blocks.index(defining[0])]):
        yield "a longer name before it"
    if program == text:
        yield "taken: the whole reply"
    elif program in blocks:
        yield "taken: a block"
    elif any(program.endswith(code) for code in blocks if code.strip()):
        yield "taken: a block with others' definitions"
    else:
        yield "taken: otherwise than CommonMark has it"
    yield "program parses" if parsed(program) is not None else "program does not parse"
    yield "function defined" if defines(program, name) else "function not defined"


def summary(found: list[Reply]) -> dict[str, Any]:
    counts = Counter(form for reply in found for form in forms(reply))
    infos = Counter(info for reply in found for info in {block.info for block in fences(unix(reply.text))})
    python = sum(count for info, count in infos.items() if info.lower() in PYTHON)
    return {
        "benchmark": "replies",
        "replies": len(found),
        "suites": dict(Counter(reply.suite for reply in found)),
        "with_a_known_name": sum(bool(reply.name) for reply in found),
        "forms": dict(counts.most_common()),
        "share": {form: round(count / max(1, len(found)), 5) for form, count in counts.most_common()},
        "info_strings": dict(infos.most_common(MOST_INFOS)),
        "python_infos": python,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--problems", action="append", default=[], metavar="mbpp=PATH", help="MBPP's own file")
    arguments = parser.parse_args()
    tasks = humaneval.load()
    for text in arguments.problems:
        path = text.partition("=")[2] or text
        tasks += mbpp.tasks_of(rows(Path(path)), path)
    names = {task.problem.id: task.problem.entry_point for task in tasks}
    print(json.dumps(summary([reply for path in arguments.files for reply in replies(path, names)])))


if __name__ == "__main__":
    main()
