"""Problems as the model is asked them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import UserError
from app.reward.drafts.drafting import prompt_of
from app.reward.records import TrainingProblem
from app.stage_settings.grm import GrmSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A problem as the model is asked it. Made by `asked`."""

    problem: TrainingProblem
    text: str
    prompt_ids: tuple[int, ...]


def asked(
    problems: Sequence[TrainingProblem], tokenizer: Any, settings: GrmSettings, named_by: str = "grm.problems"
) -> list[Asked]:
    """The problems whose prompt leaves a draft its tokens in a row. named_by: the setting that they come from. Raises
    UserError where none does."""
    found = []
    for problem in problems:
        text = prompt_of(tokenizer, problem)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        if len(ids) + settings.max_new_tokens <= settings.seq_len:
            found.append(Asked(problem=problem, text=text, prompt_ids=tuple(ids)))
    if not found:
        raise UserError(
            f"none of {len(problems)} problems leaves grm.max_new_tokens={settings.max_new_tokens} in rows of "
            f"grm.seq_len={settings.seq_len}: raise grm.seq_len, or give others by {named_by}"
        )
    return found
