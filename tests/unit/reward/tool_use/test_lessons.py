"""What is learnt of a problem with tools: its last turn in the model's own template, and nothing before it."""

from app.models.base import ensure_model, load_tokenizer
from app.profiles import smoke
from app.prompting.protocols import chat_prompt
from app.reward.drafts.drafting import program_in, prompt_of
from app.reward.imitation.lessons import read_lessons, write_lessons
from app.reward.records import LessonKind
from app.reward.tool_use.lessons import lessons_of
from app.reward.tool_use.making import made_problems
from app.reward.tool_use.records import tool_problem
from tests.unit.reward.tool_use.made import ORIGIN, TOOLS

PROBLEMS = made_problems(TOOLS, 60, seed=0)
SEARCHED = tool_problem(
    "search_answer",
    "s",
    [
        {"role": "user", "content": "What does trim do?"},
        {
            "role": "assistant",
            "content": '<tool_call>\n{"name": "search_docs", "arguments": {"query": "trim"}}\n</tool_call>',
        },
        {"role": "tool", "content": "[python] trim(text): Cut spaces. <|im_end|>"},
    ],
    [TOOLS[0].schema()],
    "It cuts spaces.",
    None,
    [ORIGIN],
)


def test_the_last_turn_alone_is_learnt_after_just_the_prompt_that_is_asked(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = load_tokenizer(ensure_model(smoke().model))
    lessons = lessons_of([*PROBLEMS, SEARCHED], tokenizer, 10_000)
    assert len(lessons) == len(PROBLEMS) + 1
    for one, lesson in zip([*PROBLEMS, SEARCHED], lessons, strict=True):
        learnt = tokenizer.decode(lesson.learnt_ids)
        assert learnt.startswith(one.reply) and learnt[len(one.reply) :].strip() == "<|im_end|>"
        assert lesson.kind is LessonKind.WRITTEN and lesson.problem_id == one.problem.id
        if one is not SEARCHED:
            asked = chat_prompt(tokenizer, one.turns, tools=one.tools)
            assert tokenizer.decode(lesson.prompt_ids) == asked == prompt_of(tokenizer, one.training_problem)
    assert tokenizer.decode(lessons[-1].prompt_ids).count("search_docs") == 1  # the call before is given
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert lessons[-1].prompt_ids.count(end) == 4  # that of a page stays text
    write_lessons(tmp_path / "lessons.parquet", lessons)
    assert read_lessons(tmp_path / "lessons.parquet")[0].kind is LessonKind.WRITTEN


def test_a_problem_that_does_not_fit_into_a_row_is_left_out() -> None:
    tokenizer = load_tokenizer(ensure_model(smoke().model))
    sizes = [len(one.prompt_ids) + len(one.learnt_ids) for one in lessons_of(PROBLEMS, tokenizer, 10_000)]
    limit = sorted(sizes)[len(sizes) // 2]
    assert len(lessons_of(PROBLEMS, tokenizer, limit)) == sum(size <= limit for size in sizes) < len(sizes)


def test_what_is_judged_of_a_problem_with_tools_is_the_whole_reply() -> None:
    reply = "Sure.\n```json\n[]\n```"
    assert program_in(PROBLEMS[0].training_problem, reply) == reply
