"""Best of n with tests, measured: n drafts of each problem, of which what the question states chooses one
(`app.best_of`), and the problem's hidden tests judge that one alone.

It is the score of a system, not of a model: the tokens that it draws for a problem belong to it. The question is the
user's turn of the chat protocol, as the suite asks. Drafts are kept as they are drawn, so a killed measurement goes on
with those that are missing; what they come to is worked out again, the same each time.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.best_of.choice import Choice, choose, with_repaired
from app.best_of.repair import repair_dialogue
from app.best_of.stated import of_candidate, stated_in
from app.best_of.testing import DraftOutcome, Trial, run_drafts, trial_of
from app.evaluation.suites.suite import Suite
from app.files.json_files import append_json_line, numbered_json_lines, trim_json_lines
from app.progress import progress
from app.prompting.protocols import Message, chat_prompt
from app.records import Draft, Generator, Problem, Prompt, Sampling
from app.sandbox.local import Judges
from app.sandbox.supervisor import Supervisor

PROTOCOL = "chat"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What became of one problem. Made by `chosen`; read by measurements."""

    problem_id: str
    drafts: tuple[Draft, ...]
    """In the order of their samples; the repaired one last, where one was drawn."""
    programs: tuple[str, ...]
    """Of each of these drafts."""
    choice: Choice | None
    """None where the question asks for nothing that can be called: the first draft is the answer."""

    num_drafts: int
    """Without a repaired one."""

    @property
    def was_repaired(self) -> bool:
        """Whether a repaired draft was drawn, whatever came of it."""
        return len(self.drafts) > self.num_drafts

    @property
    def index(self) -> int:
        return self.choice.index if self.choice else 0

    @property
    def program(self) -> str:
        return self.programs[self.index]

    @property
    def num_tokens(self) -> int:
        """Tokens drawn, over all drafts."""
        return sum(draft.num_tokens for draft in self.drafts)


def drawn(
    path: Path, prompts: Mapping[str, str], samples: Mapping[str, Sequence[int]], sampling: Sampling,
    generator: Generator, adapter: str = "",
) -> dict[str, list[Draft]]:  # fmt: skip
    """By problem its drafts of these numbers, those in the file and the missing ones, which are added to it."""
    trim_json_lines(path)
    held = {(row["problem_id"], row["sample"]): Draft(**row) for _, row in numbered_json_lines(path)}
    missing = [
        Prompt(id=name, text=prompts[name], samples=wanted)
        for name, numbers in samples.items()
        if (wanted := tuple(number for number in numbers if (name, number) not in held))
    ]
    total = sum(len(prompt.samples) for prompt in missing)
    if missing:
        with progress(path.stem, total, "drafts") as update:
            for number, draft in enumerate(generator.stream(missing, sampling, adapter=adapter), 1):
                kept = draft.stored()
                append_json_line(path, kept)
                held[draft.problem_id, draft.sample] = Draft(**kept)
                update(number)
    return {name: [held[name, number] for number in numbers] for name, numbers in samples.items()}


def chosen(
    folder: Path, suite: Suite, problems: Sequence[Problem], num_drafts: int, sampling: Sampling, tokenizer: Any,
    generator: Generator, judges: Judges, adapter: str = "",
) -> list[Chosen]:  # fmt: skip
    """Draw, test, choose and repair. folder: where drafts.jsonl and repairs.jsonl are kept."""
    dialogues: dict[str, list[Message]] = {one.id: suite.chat(one, ()) or [] for one in problems}
    prompts = {name: chat_prompt(tokenizer, turns) for name, turns in dialogues.items()}
    numbers = {one.id: range(num_drafts) for one in problems}
    drafts = drawn(folder / "drafts.jsonl", prompts, numbers, sampling, generator, adapter)
    trials = {one.id: _trial(one, dialogues[one.id][-1]["content"]) for one in problems}
    programs = {one.id: [suite.program(one, PROTOCOL, d.text) for d in drafts[one.id]] for one in problems}
    found = _tested(trials, programs, judges)
    choices = {name: choose(trials[name], programs[name], found[name]) for name in found}  # type: ignore[arg-type]
    asked = {
        name: chat_prompt(tokenizer, repair_dialogue(dialogues[name], drafts[name][one.index].text, one.failed))
        for name, one in choices.items()
        if one.wants_repair and one.failed is not None
    }
    repairs = drawn(
        folder / "repairs.jsonl", asked, {name: [num_drafts] for name in asked}, sampling, generator, adapter
    )
    by_id = {one.id: one for one in problems}
    for name, (repair,) in repairs.items():
        drafts[name].append(repair)
        programs[name].append(suite.program(by_id[name], PROTOCOL, repair.text))
    again = _tested({name: trials[name] for name in repairs}, {name: programs[name][-1:] for name in repairs}, judges)
    for name, results in again.items():
        choices[name] = with_repaired(choices[name], results[programs[name][-1]], num_drafts)
    return [
        Chosen(
            problem_id=one.id,
            drafts=tuple(drafts[one.id]),
            programs=tuple(programs[one.id]),
            choice=choices.get(one.id),
            num_drafts=num_drafts,
        )
        for one in problems
    ]


def _trial(problem: Problem, question: str) -> Trial | None:
    """The examples of the question alone; how their function is called is the suite's affair."""
    stated = stated_in(question)
    return trial_of(of_candidate(stated, problem)) if stated else None


_Job = tuple[str, Trial, Sequence[str]]


def _tested(
    trials: Mapping[str, Trial | None], programs: Mapping[str, Sequence[str]], judges: Judges
) -> dict[str, dict[str, DraftOutcome]]:
    """By problem and program; problems without a trial are left out."""
    jobs: list[_Job] = [(name, trial, programs[name]) for name, trial in trials.items() if trial is not None]
    with progress("examples", len(jobs), "problems") as update:
        return dict(_counted(judges.work_all(_run, jobs), update))


def _counted(pairs: Iterable[Any], update: Any) -> Iterator[Any]:
    for number, pair in enumerate(pairs, 1):
        update(number)
        yield pair


def _run(supervisor: Supervisor, job: _Job) -> tuple[str, dict[str, DraftOutcome]]:
    name, trial, programs = job
    return name, run_drafts(trial, programs, supervisor)
