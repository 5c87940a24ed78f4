"""The words in which suites ask, and training with them: APPS, MBPP, and MBPP's frame for base models.

HumanEval asks with `app.prompting.protocols.ask`, LeetCodeDataset in the words of its own rows.
"""

from app.records import Problem, ProblemStyle

MBPP_END = "[DONE]"
"""What ends a program in MBPP's frame."""


def apps_question(problem: Problem) -> str:
    """The user's turn."""
    if problem.style == ProblemStyle.STDIO:
        form = "a Python program that reads from standard input and prints its answer"
    else:
        form = f"Python code that defines {problem.entry_point}, beginning with the code given at the end"
    return f"Solve this problem with {form}. Reply with the whole program in one code block.\n\n{problem.prompt}"


def apps_frame(problem: Problem) -> str:
    """What a base model continues: the paper's frame, without an example."""
    form = "Standard Input" if problem.style == ProblemStyle.STDIO else "Call-Based"
    return f"QUESTION:\n{problem.prompt}\nUse {form} format\nANSWER:"


def mbpp_question(task: str, tests: str) -> str:
    """The user's turn, zero-shot; the assertions tell the function's name and arguments."""
    return (
        "Write a Python function for the following task. Reply with the whole function in one code block.\n"
        f"{task}\nThe function has to pass these tests:\n```python\n{tests}\n```"
    )


def mbpp_frame(task: str, tests: str) -> str:
    """What a base model continues: the paper's frame, which the program follows, and MBPP_END after it."""
    return (
        f"You are an expert Python programmer, and here is your task: {task} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]"
    )
