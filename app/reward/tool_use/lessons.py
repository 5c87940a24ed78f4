"""Problems with tools as samples to imitate: the model's own template, and the last turn alone to learn."""

from collections.abc import Sequence
from typing import Any

from app.corpus.records import Example
from app.corpus.rows.render import tokenise_all
from app.records import IGNORE
from app.reward.records import Lesson, LessonKind
from app.reward.tool_use.records import ToolProblem


def lessons_of(problems: Sequence[ToolProblem], tokenizer: Any, most_tokens: int) -> list[Lesson]:
    """A lesson a problem, in their order; none of one that has more tokens."""
    examples = [
        Example(
            form="tool_use",
            turns=(*one.turns, {"role": "assistant", "content": one.reply}),
            tools=tuple(one.tools),
        )
        for one in problems
    ]
    found = []
    for problem, sample in zip(problems, tokenise_all(examples, tokenizer), strict=True):
        ids, labels = list(sample.input_ids), list(sample.labels)
        border = len(labels)
        while border and labels[border - 1] != IGNORE:
            border -= 1
        if border < len(ids) <= most_tokens:
            found.append(
                Lesson(
                    kind=LessonKind.WRITTEN,
                    problem_id=problem.problem.id,
                    round=0,
                    sample=0,
                    prompt_ids=tuple(ids[:border]),
                    learnt_ids=tuple(ids[border:]),
                )
            )
    return found
