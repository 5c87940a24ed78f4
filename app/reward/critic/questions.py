"""What a critic is asked of a program, as tokens: whether it solves a problem, Yes or No (GenRM, arXiv 2408.15240).

The words are plain text and in no chat template, so that any causal language model can be asked them.
"""

from typing import Any

from app.errors import UserError
from app.reward.records import JudgedDraft, TrainingProblem

PROBLEM, PROGRAM = "Problem:\n", "\n\nProgram:\n"
QUESTION = "\n\nQuestion: Does this program solve the problem? Answer Yes or No.\nAnswer:"
YES, NO = " Yes", " No"
STATEMENT_SHARE = 0.5
"""Of a row's tokens that the statement of a problem may take where there is not room for all."""
Claim = tuple[str, str]
"""The statement of a problem, and a program that is said to solve it."""


def claim_of(problem: TrainingProblem, judged: JudgedDraft) -> Claim:
    """The question that the model was asked, and the program that it wrote; all of its reply where that holds none."""
    asked = "\n".join(str(turn["content"]) for turn in problem.question)
    return asked, judged.program or judged.draft.text


class Questions:
    """Claims as the tokens of a question, and the tokens of its two answers."""

    def __init__(self, tokenizer: Any, seq_len: int) -> None:
        """seq_len: tokens of a question and its answer at most.

        Raises UserError for a tokenizer whose answers begin alike, and for rows that only hold the words between."""
        self._tokenizer = tokenizer
        self._problem, self._program = self._ids(PROBLEM), self._ids(PROGRAM)
        both = self._ids(QUESTION + YES), self._ids(QUESTION + NO)
        alike = next((n for n, (one, other) in enumerate(zip(*both, strict=False)) if one != other), 0)
        if not alike:
            raise UserError(
                f"a critic can't answer with this tokenizer ({tokenizer.name_or_path}): {YES.strip()} and "
                f"{NO.strip()} begin with the same token; take another grm.critic.model"
            )
        self._question = both[0][:alike]
        self.yes, self.no = both[0][alike], both[1][alike]
        self._room = seq_len - len(self._problem) - len(self._program) - len(self._question) - 1
        if self._room < 2:
            raise UserError(f"grm.critic.seq_len={seq_len} leaves no room for a problem and its program: raise it")

    def ids(self, claim: Claim) -> list[int]:
        """The question about a claim, open for its answer. What there is no room for is left out at the ends of the
        statement and of the program."""
        statement, program = (self._ids(text) for text in claim)
        least = int(self._room * STATEMENT_SHARE)
        statement = statement[: max(least, self._room - len(program))]
        program = program[: self._room - len(statement)]
        return [*self._problem, *statement, *self._program, *program, *self._question]

    def answered(self, claim: Claim, *, is_right: bool) -> list[int]:
        """The question with its answer, which is the last token."""
        return [*self.ids(claim), self.yes if is_right else self.no]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)
