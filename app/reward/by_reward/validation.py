"""Checkpoints measured during a training, on problems that it does not learn from.

    FOLDER/validation.jsonl                  a line a checkpoint: the share of drafts that passed, by problem, and
                                             a digest of the problems and their tests
    FOLDER/drafts/validation-00005.parquet   its drafts and verdicts (`app.reward.drafts.drafting`)

All checkpoints are asked alike, with the same random numbers, so that they differ by what they learnt alone. A draft
passes where it passes all of `TrainingProblem.problem`'s tests, hardened ones where the stage made some.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.files.json_files import append_json_line, read_json_lines, write_json_lines
from app.records import Generator, Judge, Prompt, Sampling
from app.reward.by_reward.watch import Validation
from app.reward.drafts.asking import Asked
from app.reward.drafts.drafting import judged_drafts, problems_sha256
from app.reward.drafts.solve_rates import rates
from app.reward.records import TrainingProblem
from app.stage_settings.grm import GrmSettings

DIGEST = "problems_sha256"


class ValidationFile:
    """validation.jsonl of a training that validates by these problems."""

    def __init__(self, path: Path, problems: Sequence[TrainingProblem]) -> None:
        self._path, self._sha256 = path, problems_sha256(problems)

    def read(self) -> list[Validation]:
        """Raises UserError for lines that were measured by others: what differs then is not what was learnt."""
        if any(row.get(DIGEST) != self._sha256 for row in read_json_lines(self._path)):
            raise UserError(
                f"{self._path} was measured on other problems, or by other tests of them, than this training has now: "
                "choose another --run, or remove the run's grm/arms and grm/work to learn anew"
            )
        return read_validations(self._path)

    def append(self, validation: Validation) -> None:
        append_json_line(self._path, asdict(validation) | {DIGEST: self._sha256})

    def forget_after(self, step: int) -> None:
        """Drop the lines of later steps, which the training will take again."""
        if self._path.exists():
            write_json_lines(self._path, [row for row in read_json_lines(self._path) if row["step"] <= step])


def read_validations(path: Path) -> list[Validation]:
    """Those of validation.jsonl; none without it."""
    return [Validation(step=row["step"], rates=row["rates"]) for row in read_json_lines(path)]


class Validator:
    """Measures checkpoints."""

    def __init__(
        self,
        problems: Sequence[Asked],
        settings: GrmSettings,
        generator: Generator,
        judge: Judge,
        *,
        seed: int = 0,
        facts: Mapping[str, Any] = {},
        before_drafts: Callable[[], None] = lambda: None,
        after_drafts: Callable[[], None] = lambda: None,
    ) -> None:
        """The rest is as `app.reward.by_reward.grpo.Rollouts` has it."""
        self._problems, self._settings, self._facts = problems, settings, facts
        self._generator, self._judge = generator, judge
        self._before, self._after = before_drafts, after_drafts
        number = settings.validation_drafts
        self._sampling = Sampling(
            max_new_tokens=settings.max_new_tokens, temperature=settings.temperature if number > 1 else 0.0, seed=seed
        )
        self._prompts = [
            Prompt(id=one.problem.given.id, text=one.text, samples=tuple(range(number))) for one in problems
        ]

    def measured(self, drafts: Path, step: int, adapter: str) -> Validation:
        """drafts: where they are kept; adapter: the checkpoint's, empty for the model at the start. Raises UserError
        where no verdict counts."""
        self._before()
        judged = judged_drafts(
            drafts / f"validation-{step:05}.parquet",
            [one.problem for one in self._problems],
            self._prompts,
            self._sampling,
            self._generator,
            self._judge,
            adapter=adapter,
            drawn_by=f"the adapter after step {step}",
            facts=self._facts,
        )
        self._after()
        found = rates(judged)
        if not found:
            raise UserError(
                f"no verdict on the drafts of {len(self._problems)} problems to validate by counts: give problems with "
                "tests by grm.validation, judge where programs are confined (docs/security.md), or set "
                "grm.validate_every=0"
            )
        return Validation(step=step, rates={name: passed / counted for name, (passed, counted) in found.items()})
