"""The suites by name."""

import importlib

from app.errors import UserError, did_you_mean
from app.evaluation.suites.suite import Suite
from app.problem_sets.task import Task

_CLASSES = {
    "humaneval": "humaneval.HumanEval",
    "humaneval_plus": "evalplus.HumanEvalPlus",
    "mbpp": "mbpp.Mbpp",
    "mbpp_sanitized": "mbpp.MbppSanitized",
    "mbpp_plus": "evalplus.MbppPlus",
    "apps": "apps.Apps",
    "apps_introductory": "apps.AppsIntroductory",
    "apps_interview": "apps.AppsInterview",
    "apps_competition": "apps.AppsCompetition",
    "leetcode": "leetcode.LeetCode",
    "leetcode_examples": "leetcode.LeetCodeExamples",
    "tooluse": "tooluse.ToolUse",
    "search_docs": "search_docs.SearchDocs",
    "repo": "repo.Repo",
    "ours": "ours.Ours",
    "mbpp_validation": "validation.MbppValidation",
    "leetcode_validation": "validation.LeetCodeValidation",
    "mbpp_tuning": "validation.MbppTuning",
    "leetcode_tuning": "validation.LeetCodeTuning",
}
SUITES = tuple(_CLASSES)
NUM_PROBLEMS = {
    "humaneval": 164, "humaneval_plus": 164, "mbpp": 500, "mbpp_sanitized": 257, "mbpp_plus": 378, "apps": 5000,
    "apps_introductory": 1000, "apps_interview": 3000, "apps_competition": 1000, "leetcode": 200, "tooluse": 3703,
    "search_docs": 62, "repo": 52, "ours": 123, "mbpp_validation": 20, "leetcode_validation": 183, "mbpp_tuning": 23,
    "leetcode_tuning": 199, "leetcode_examples": 200,
}  # fmt: skip
"""As released, for plans: a suite is not loaded for one."""
ALWAYS_HERE = ("humaneval", "ours", "repo", "search_docs")
"""Suites whose problems come with the project or its packages."""
VALIDATION = ("ours", "mbpp_validation", "leetcode_validation")
"""Suites that decide what is kept, and never measure it."""
TUNING = ("mbpp_tuning", "leetcode_tuning")
"""Suites by which prompts, recipes and arms are chosen: they neither decide about what came of that nor measure it."""
PARTS = {"apps_introductory": "apps", "apps_interview": "apps", "apps_competition": "apps"}
"""Suites that are the problems of one difficulty of another."""

ASKED_OTHERWISE = {"leetcode_examples": "leetcode"}
"""Suites that are all problems of another in other words: what keeps those out of training keeps these out."""


def get_suite(name: str) -> Suite:
    """Raises UserError for a suite that does not exist."""
    if name not in _CLASSES:
        hint = did_you_mean(name, SUITES, f"there are {', '.join(SUITES)}")
        raise UserError(f"unknown suite {name!r}: {hint}")
    module, _, kind = _CLASSES[name].partition(".")
    return getattr(importlib.import_module(f"app.evaluation.suites.{module}"), kind)()


def evenly_spaced(tasks: list[Task], count: int | None) -> list[Task]:
    """`count` tasks spread over the suite, always the same; all of them for None."""
    if count is None or count >= len(tasks):
        return tasks
    return [tasks[index * len(tasks) // count] for index in range(count)]
