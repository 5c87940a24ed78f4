"""Halves of the problems for validation (`splits`): of MBPP, and of LeetCodeDataset's training file."""

from pathlib import Path

from app.evaluation.suites.leetcode import LeetCode
from app.evaluation.suites.mbpp import Mbpp
from app.evaluation.suites.splits import Half, chosen_half, with_leetcode_splits
from app.problem_sets import leetcode, mbpp
from app.problem_sets.task import Task


class MbppValidation(Mbpp):
    name = "mbpp_validation"
    split = "validation"
    half: Half = "validation"

    def load(self, path: Path | None) -> list[Task]:
        return chosen_half(super().load(path), self.half, self.name, str(path or mbpp.HUB), self.place)


class MbppTuning(MbppValidation):
    name = "mbpp_tuning"
    half: Half = "tuning"


class LeetCodeValidation(LeetCode):
    name = "leetcode_validation"
    file = "LeetCodeDataset-train.jsonl"
    place = f"{file} of {leetcode.HUB} on the Hub"
    half: Half = "validation"

    def load(self, path: Path | None) -> list[Task]:
        tasks = with_leetcode_splits(super().load(path))
        return chosen_half(tasks, self.half, self.name, str(path or leetcode.HUB), self.place)


class LeetCodeTuning(LeetCodeValidation):
    name = "leetcode_tuning"
    half: Half = "tuning"
