"""Draw the drafts of problems and judge them while others are drawn, so that a kill loses only what is in flight: at
most UNREAD_PER_WORKER drafts a judge, and those that wait in the engine's stream.

Each judged draft is appended to lines beside the Parquet file that holds them all in the end
(`app.reward.drafts.files`); called again, only what is missing is drawn. A program with the same syntax tree as one of
the same problem that was judged before takes that verdict. Runs without Ray: generator and judge are protocols of
`app.records`.

Limit: a copy waits for the next verdict before it is written.
"""

import ast
import dataclasses
import functools
import hashlib
import json
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.stored_results import VERDICTS, VERDICTS_KEY
from app.evaluation.suites.registry import get_suite
from app.files.python_source import tree_of
from app.models.adapters import CONFIG, WEIGHTS, adapter_version
from app.prompting.protocols import chat_prompt, without_thought
from app.prompting.replies import answers
from app.prompting.turn_ends import check_chat
from app.records import Draft, Generator, Judge, Problem, ProblemStyle, Prompt, Sampling, Status, Verdict
from app.reward.drafts import files as draft_files
from app.reward.drafts.files import Key, read_drafts
from app.reward.records import JudgedDraft, TrainingProblem

UNTESTED = "untested"
"""Tier of the verdict on a draft whose problem has no tests: nothing was run, and it gives no reward."""
_TOLD_BY_THE_REST = ("ctx", "kind", "type_comment")
"""Fields of nodes that say nothing of what a program does beside the others."""
_Documented = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def prompt_of(tokenizer: Any, problem: TrainingProblem) -> str:
    """The problem as the model is asked it. Raises UserError for a model that can't be asked in a dialogue."""
    check_asked(tokenizer)
    tools = json.loads(problem.given.tools) if problem.given.tools else None
    return chat_prompt(tokenizer, problem.question, tools=tools)


def check_asked(tokenizer: Any) -> None:
    """Raise UserError for a model that can't be asked in a dialogue."""
    check_chat(tokenizer, "learning from its own drafts", "take a model with one")


def program_in(problem: TrainingProblem, reply: str) -> str:
    """What is judged of a reply: the program that the problem's suite finds in it; all of it where calls of tools are
    asked for."""
    if problem.given.style == ProblemStyle.CALLS:
        return reply
    return get_suite(problem.suite).program(problem.given, "chat", reply)


def answers_question(problem: TrainingProblem, program: str) -> bool:
    """Whether a program parses and defines what was asked for, by more than a stub."""
    tree, entry_point = tree_of(program), problem.given.entry_point
    if f"def {entry_point}(" in problem.given.setup:  # what is called for a class (`app.problem_sets.own`)
        entry_point = entry_point.removeprefix("use_")
    return tree is not None and answers(tree, entry_point)


def shape_of(program: str) -> str:
    """Digest of the program's syntax tree without its docstrings; empty where it does not parse."""
    tree = tree_of(program)
    if tree is None:
        return ""
    parts: list[str] = []
    try:
        _write(tree, parts, with_docstrings="__doc__" in program)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        return ""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _write(node: ast.AST, parts: list[str], *, with_docstrings: bool) -> None:
    """What `ast.dump` tells of a tree, less what follows from the rest, in half its time."""
    parts.append(type(node).__name__)
    is_documented = (
        not with_docstrings and isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None
    )
    for name in _fields(type(node)):  # type: ignore[arg-type]  # mypy takes a class for unhashable
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            _write(value, parts, with_docstrings=with_docstrings)
        elif isinstance(value, list):
            parts.append("[")
            for one in value[1:] if is_documented and name == "body" else value:
                if isinstance(one, ast.AST):
                    _write(one, parts, with_docstrings=with_docstrings)
                else:
                    parts.append(repr(one))
            parts.append("]")
        else:
            parts.append(repr(value))


@functools.cache
def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    return tuple(name for name in kind._fields if name not in _TOLD_BY_THE_REST)


def judged_drafts(
    path: Path,
    problems: Sequence[TrainingProblem],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    generator: Generator,
    judge: Judge,
    *,
    adapter: str = "",
    drawn_by: str = "",
    facts: Mapping[str, Any] = {},
    on_drawn: Callable[[], None] = lambda: None,
) -> list[JudgedDraft]:
    """All drafts of the prompts, in their order, from the Parquet file `path`, which is made unless it is there.

    drawn_by: what the adapter is known by, where another of that name may go on with its drafts; its digest, if nothing
    is said. facts: what else decides the outcome (the model, the sandbox), as JSON. on_drawn: called when the last
    draft is drawn, in the thread in which the judge asks for its jobs.
    Raises UserError where the file or its lines were drawn under other settings, or where no draft could be judged.
    """
    drafts = stream_judged_drafts(
        path,
        problems,
        prompts,
        sampling,
        generator,
        judge,
        adapter=adapter,
        drawn_by=drawn_by,
        facts=facts,
        on_drawn=on_drawn,
    )
    deque(drafts, maxlen=0)
    return read_drafts(path)


def stream_judged_drafts(
    path: Path,
    problems: Sequence[TrainingProblem],
    prompts: Sequence[Prompt],
    sampling: Sampling,
    generator: Generator,
    judge: Judge,
    *,
    adapter: str = "",
    drawn_by: str = "",
    facts: Mapping[str, Any] = {},
    on_drawn: Callable[[], None] = lambda: None,
) -> Iterator[JudgedDraft]:
    """The same, each draft when it is judged, in any order, those first that are there; the file is made at the end."""
    asked = {prompt.id: prompt for prompt in prompts}
    by_id = {problem.given.id: problem for problem in problems if problem.given.id in asked}
    assert len(asked) == len(prompts) and by_id.keys() == asked.keys(), "each prompt asks a problem of its own"
    digest = adapter_digest(adapter)
    known_by = {"drawn_by": drawn_by} if drawn_by else {"adapter_sha256": digest}
    settings = _settings(by_id, prompts, sampling, {**facts, **known_by})
    lines = draft_files.lines_beside(path)
    if draft_files.is_whole(path, settings):
        lines.unlink(missing_ok=True)
        yield from read_drafts(path)
        return
    held = draft_files.begin_lines(lines, settings)
    kept = [judged for judged in held.values() if not _has_failed(judged)]
    yield from kept

    def read(drafts: Iterable[Draft]) -> Iterator[JudgedDraft]:
        for draft in drafts:
            assert len(draft.token_ids) == draft.num_tokens, "what is learnt are the tokens that the engine drew"
            reply = without_thought(draft.text, asked[draft.problem_id].text)
            yield _unjudged(draft, program_in(by_id[draft.problem_id], reply))

    def drawn(*, is_tested: bool) -> Iterator[JudgedDraft]:
        wanted = [prompt for prompt in _missing(prompts, held) if is_tested == by_id[prompt.id].has_tests]
        return read(generator.stream(wanted, sampling, adapter=adapter) if wanted else ())

    def to_judge() -> Iterator[JudgedDraft]:
        yield from read(judged.draft for judged in held.values() if _has_failed(judged))
        yield from drawn(is_tested=True)
        on_drawn()

    tested = {name: problem.problem for name, problem in by_id.items()}
    any_judged = any(map(_has_verdict, kept)) or not any(by_id[prompt.id].has_tests for prompt in prompts)
    for judged in chain(drawn(is_tested=False), _judged(to_judge(), tested, judge, kept)):
        draft_files.append(lines, judged, digest)
        any_judged |= _has_verdict(judged)
        yield judged
    if not any_judged:
        raise UserError(
            f"no draft could be judged in the sandbox: see the details in {lines}, and whether this machine can "
            "confine programs (docs/security.md)"
        )
    draft_files.finish(path, settings, [(prompt.id, sample) for prompt in prompts for sample in prompt.samples])


def adapter_digest(adapter: str) -> str:
    """SHA-256 over the adapter's two files; empty for the base model."""
    return _digest_of(adapter_version(adapter)) if adapter else ""


@functools.lru_cache(maxsize=8)
def _digest_of(version: tuple[str, tuple[int, ...]]) -> str:
    """Read once for as long as the files stay as they are: a step draws several waves with one adapter."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with Path(version[0], name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def problems_sha256(problems: Iterable[TrainingProblem]) -> str:
    """Digest of all of the problems that decides a verdict."""
    return _sha256(sorted((one.suite, astuple(one.given), astuple(one.problem)) for one in problems))


def _settings(
    problems: Mapping[str, TrainingProblem], prompts: Sequence[Prompt], sampling: Sampling, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides the drafts and their verdicts, as JSON has it."""
    ours = {
        "sampling": dataclasses.asdict(sampling),
        "prompts_sha256": _sha256([astuple(prompt) for prompt in prompts]),
        "problems_sha256": problems_sha256(problems.values()),
        VERDICTS_KEY: VERDICTS,
    }
    return json.loads(json.dumps({**facts, **ours}))


def _sha256(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()


def _has_failed(judged: JudgedDraft) -> bool:
    """Whether the sandbox failed on it, so that it is to be judged again."""
    return judged.verdict.status == Status.INFRA and judged.verdict.tier != UNTESTED


def _has_verdict(judged: JudgedDraft) -> bool:
    return judged.verdict.status != Status.INFRA


def _missing(prompts: Iterable[Prompt], there: Container[Key]) -> list[Prompt]:
    """The prompts with the samples that are still to be drawn."""
    left = ((prompt, tuple(n for n in prompt.samples if (prompt.id, n) not in there)) for prompt in prompts)
    return [dataclasses.replace(prompt, samples=samples) for prompt, samples in left if samples]


def _unjudged(draft: Draft, program: str) -> JudgedDraft:
    verdict = Verdict(problem_id=draft.problem_id, status=Status.INFRA, detail="it has no tests", tier=UNTESTED)
    return JudgedDraft(draft=draft, program=program, shape=shape_of(program), verdict=verdict)


def _judged(
    drawn: Iterable[JudgedDraft], problems: Mapping[str, Problem], judge: Judge, before: Iterable[JudgedDraft]
) -> Iterator[JudgedDraft]:
    """Each with its verdict, in their order; judging goes on while the next ones are drawn.

    before: judged drafts, whose copies are not judged again.
    """
    verdicts = {_copies(judged): judged.verdict for judged in before}
    seen, sent, jobs = {*verdicts}, deque[JudgedDraft](), deque[tuple[str, str]]()

    def new() -> Iterator[tuple[Problem, Sequence[str]]]:
        """What has to be judged. It runs in the judge's own thread."""
        for judged in drawn:
            sent.append(judged)
            if (key := _copies(judged)) not in seen:
                seen.add(key)
                jobs.append(key)
                yield problems[judged.draft.problem_id], [judged.program]

    def ready() -> Iterator[JudgedDraft]:
        while sent and (verdict := verdicts.get(_copies(sent[0]))):
            yield dataclasses.replace(sent.popleft(), verdict=verdict)

    for (verdict,) in judge.judge_all(new()):
        verdicts[jobs.popleft()] = verdict
        yield from ready()
    yield from ready()


def _copies(judged: JudgedDraft) -> tuple[str, str]:
    """What a draft has in common with those that are programs of the same problem and shape."""
    return judged.draft.problem_id, judged.shape or judged.program
