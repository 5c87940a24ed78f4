"""The model's own ordinary answers, learnt beside drafts that passed, so that it does not forget how it answers.

What is asked are the training problems in other words: a function's head with the statement as its docstring, as
HumanEval asks. Most of a training set may ask for methods of a class, and what is to be kept is how the model answers
when it is asked otherwise. The words of problems that no draft solved would not do: they are of the same form, and each
answer would be a wrong program for a prompt that is drawn again in the next round. Head and statement are there for
nearly every problem with a reference, without a corpus and without a network. Another, or one that asks so already, is
asked in its own words, and its answer is learnt only where it passes; one without tests is left out.

Answers to other words are the untouched model's greedy ones, whatever they are worth: nothing is run. To learn them
moves the model little from where it was, which is what they are for.
"""

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.corpus.draws import by_hash
from app.files.python_source import parsed
from app.models.base import ensure_model, load_tokenizer
from app.problem_sets.leetcode import statement_and_starter
from app.progress import progress, say
from app.prompting.protocols import ask
from app.records import Generator, Judge, Prompt, Sampling
from app.reward.drafts.asking import Asked, asked
from app.reward.drafts.drafting import stream_judged_drafts
from app.reward.imitation.lessons import lesson
from app.reward.imitation.selection import is_complete
from app.reward.records import JudgedDraft, Lesson, LessonKind, TrainingProblem
from app.settings import Profile

BY_HEAD = ("humaneval", "ours")
"""Suites that ask by a head and a docstring already."""


def replayed(
    path: Path,
    profile: Profile,
    problems: Sequence[Asked],
    right: Sequence[JudgedDraft],
    generator: Generator,
    judge: Judge,
    facts: Mapping[str, Any],
) -> list[Lesson]:
    """What is learnt beside right drafts: `grm.imitate.replay_share` of all. The answers lie in `path`, which is made
    unless it is there."""
    share, grm = profile.grm.imitate.replay_share, profile.grm
    tested = [one.problem for one in problems if one.problem.has_tests]
    if not share or not tested:
        return []
    questions = asked([ordinary(one) for one in tested], load_tokenizer(ensure_model(profile.model)), grm)
    sampling = Sampling(max_new_tokens=grm.max_new_tokens, temperature=0.0, seed=profile.seed)
    found = answers(path, questions, sampling, generator, judge, facts)
    prompt_ids = {one.problem.given.id: one.prompt_ids for one in questions}
    return [lesson(one, prompt_ids, LessonKind.REPLAY, 0) for one in chosen(found, share, right, profile.seed)]


def ordinary(problem: TrainingProblem) -> TrainingProblem:
    """The problem as it is asked here, under its id: without tests where it is asked in other words."""
    name = problem.given.entry_point.rpartition(".")[2]
    head = "" if problem.suite in BY_HEAD else _head(problem, name)
    if not head:
        return problem
    given = dataclasses.replace(problem.given, prompt=head, entry_point=name, tests="", prelude="", setup="")
    question = ({"role": "user", "content": ask(head)},)
    return TrainingProblem(suite="humaneval", given=given, problem=given, reference="", question=question)


def _head(problem: TrainingProblem, name: str) -> str:
    """The head of the reference's function with the statement as its docstring; empty where it has no such one."""
    tree = parsed(problem.reference)
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name] if tree else []
    if not found:
        return ""
    statement = statement_and_starter(problem.given.prompt)[0].replace("\xa0", " ")
    arguments = found[-1].args
    arguments.args = [one for one in arguments.args if one.arg != "self"]
    docstring = ast.Expr(ast.Constant(f"{statement}\n".replace("\n", "\n    ")))
    node = ast.FunctionDef(name, arguments, [docstring], [], found[-1].returns)
    return ast.unparse(ast.fix_missing_locations(node)) + "\n"


def answers(
    path: Path,
    questions: Sequence[Asked],
    sampling: Sampling,
    generator: Generator,
    judge: Judge,
    facts: Mapping[str, Any] = {},
) -> list[JudgedDraft]:
    """The untouched model's answer to each that ended by itself and defines what is asked for, and where the question
    has tests passes them; from `path`, which is made unless it is there."""
    prompts = [Prompt(id=one.problem.given.id, text=one.text) for one in questions]
    problems = [one.problem for one in questions]
    drafts = stream_judged_drafts(path, problems, prompts, sampling, generator, judge, facts=facts)
    with progress("grm: ordinary answers", len(questions), "answers") as update:
        found = [one for done, one in enumerate(drafts, 1) if update(done) is None]
    by_id = {one.given.id: one for one in problems}
    return [one for one in found if is_complete(one, by_id) or one.reward == 1]


def chosen(
    found: Sequence[JudgedDraft], share: float, right: Sequence[JudgedDraft], seed: int
) -> Sequence[JudgedDraft]:
    """So many, drawn by hash, that they are this share of all that is learnt, or all there are, which is said; none
    that gives the program of a right draft, which is learnt, of the same problem."""
    number = round(share / (1 - share) * len(right))
    known = {(one.draft.problem_id, one.shape) for one in right}
    others = [one for one in found if (one.draft.problem_id, one.shape) not in known]
    if len(others) < number:
        say(f"  there are {len(others)} ordinary answers to learn, and grm.imitate.replay_share asks for {number}")
    return sorted(others, key=lambda one: by_hash(f"{seed} {one.draft.problem_id}"))[:number]
