"""Measure one candidate on one suite in one protocol: prompts out, replies in, verdicts counted as they come.

Every sample is appended to samples.jsonl when it and those before it are judged, so a killed evaluation goes on about
where it was, and thousands of samples need little memory. While the generator draws, the judges run what it has drawn.
Runs without Ray: generator and judge are protocols of `app.records`.
"""

import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.stored_results import (
    ADAPTER_KEY,
    BASE_KEY,
    LENGTH_KEY,
    VERDICTS_KEY,
    adapter_sha256,
    has_room,
    samples,
)
from app.evaluation.suites.suite import Suite
from app.evaluation.verdict_counts import Tally
from app.files.json_files import append_json_line, read_json, trim_json_lines, write_json
from app.overrides import differences
from app.problem_sets.task import Task
from app.progress import progress
from app.prompting.protocols import (
    begin_text,
    chat_prompt,
    evalplus_prompt,
    evalplus_reply,
    template_hash,
    without_thought,
)
from app.prompting.turn_ends import check_chat
from app.records import Draft, Generator, Judge, Problem, ProblemStyle, Prompt, Sampling, Status, Verdict
from app.runs import Run, git_commit

OPEN_DIALOGUES = 512


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is measured. Made by the stage."""

    label: str
    """Folder under evaluation/: suite, protocol and what else distinguishes it."""
    suite: Suite
    protocol: str
    candidate: str
    adapter: str
    """PEFT folder; empty for the base model."""
    tasks: list[Task]
    sampling: Sampling
    num_samples: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """All that the model said of one sample of one problem. draft: of the last turn, token counts over all turns."""

    draft: Draft
    replies: tuple[str, ...]


def render(tokenizer: Any, suite: Suite, problem: Problem, protocol: str, replies: Sequence[str]) -> str | None:
    """The exact prompt of the model's next turn; None when it has had its last."""
    if protocol == "completion":
        text = suite.completion(problem, replies)
        return None if text is None else begin_text(tokenizer) + text.rstrip()
    if protocol == "evalplus":
        shown = None if replies else suite.evalplus(problem)
        return None if shown is None else evalplus_prompt(_talking(tokenizer, protocol), shown)
    messages = suite.chat(problem, replies)
    if messages is None:
        return None
    tools = json.loads(problem.tools) if problem.tools else None
    return chat_prompt(_talking(tokenizer, protocol), messages, tools=tools, thinking=protocol == "thinking")


def _talking(tokenizer: Any, protocol: str) -> Any:
    """The tokenizer, if it can be asked in a dialogue."""
    check_chat(tokenizer, f"the protocol {protocol!r}", "take the protocol completion")
    return tokenizer


def spoken(protocol: str, text: str, prompt: str) -> str:
    """A reply as the suite reads it: without the thought before it, with what its prompt had begun of it."""
    if protocol == "completion":
        return text
    return evalplus_reply(text) if protocol == "evalplus" else without_thought(text, prompt)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMeasurement:
    """A measurement with its first prompts, and all that decides its outcome. Made by `plan_measurement`."""

    what: Measurement
    prompts: dict[str, str]
    """By problem id."""
    settings: dict[str, Any]
    """JSON; samples that were drawn under others are never mixed with these."""
    outdated: str = ""
    """Why what the run holds of it is to be set aside; empty where it may stay."""
    drafts_hold: bool = False
    """Only verdicts are outdated: the drafts are judged anew."""
    settings_changed: bool = False
    """The run holds it under settings that would have given the same, and these are to be written over them."""
    drawn: Path | None = None
    """Samples that were set aside, whose drafts are judged anew."""


def plan_measurement(run: Run, what: Measurement, facts: dict[str, Any], tokenizer: Any) -> PlannedMeasurement:
    """facts: what else decides the outcome (model, engine, sandbox).

    Raises UserError when the run holds samples or a result of this measurement under other settings.
    """
    prompts = {t.problem.id: render(tokenizer, what.suite, t.problem, what.protocol, ()) or "" for t in what.tasks}
    problems = [dataclasses.asdict(task.problem) for task in what.tasks]
    settings = facts | {
        "protocol": what.protocol,
        "template_sha256": "" if what.protocol == "completion" else template_hash(tokenizer),
        "prompts_sha256": _sha256(json.dumps(prompts).encode()),
        "problems_sha256": _sha256(json.dumps(problems).encode()),
        ADAPTER_KEY: adapter_sha256(what.adapter),
        "sampling": dataclasses.asdict(what.sampling),
        "num_samples": what.num_samples,
    }
    settings = json.loads(json.dumps(settings))
    held = PlannedMeasurement(what=what, prompts=prompts, settings=settings)
    return dataclasses.replace(held, **_against_held(run, what, settings))


def _against_held(run: Run, what: Measurement, settings: dict[str, Any]) -> dict[str, Any]:
    """Fields of the plan that say what becomes of the run's samples of this measurement, if it has any.

    Raises UserError where they bind other settings.
    """
    path = run.suite_settings(what.label, what.candidate)
    drawn, result = run.suite_samples(what.label, what.candidate), run.suite_result(what.label, what.candidate)
    before = read_json(path) if path.exists() else {}
    changed = differences(settings, before)
    if not changed or not (drawn.exists() or result.exists()):
        return {}
    if any(line.startswith((BASE_KEY, ADAPTER_KEY)) for line in changed):
        return {"outdated": "the weights changed since"}
    if not result.exists() and all(row["verdict"]["status"] == Status.INFRA for _, row in samples(drawn)):
        return {"outdated": "no sample could be judged, and the settings changed"}
    if all(line.startswith(VERDICTS_KEY) for line in changed):
        return {"outdated": "the sandbox judges otherwise since, so its drafts are judged anew", "drafts_hold": True}
    held_limits = [(held.get("generation") or {}).get("max_model_len") for held in (settings, before)]
    limits = [limit for limit in held_limits if isinstance(limit, int)]
    if all(line.startswith(LENGTH_KEY) for line in changed) and drawn.exists() and len(limits) == 2:
        shorter = min(limits)
        if all(has_room(row, shorter) for _, row in samples(drawn)):
            return {"settings_changed": True}
    raise UserError(
        f"{path.parent} was measured with other settings ({'; '.join(changed[:3])}): give those again, remove that "
        "folder to measure anew, or choose another --run"
    )


def measure_candidate(
    run: Run, planned: PlannedMeasurement, notes: dict[str, Any], tokenizer: Any, generator: Generator, judge: Judge
) -> None:
    """Write samples.jsonl and then result.json of the measurement, going on with the samples that are there.

    notes: what the result tells besides (contamination, for one).
    """
    what = planned.what
    write_json(run.suite_settings(what.label, what.candidate), planned.settings)
    tally = Tally(task.problem for task in what.tasks)
    missing = _missing(run, what, tally)
    kept = _drawn_before(planned, missing)
    path = run.suite_samples(what.label, what.candidate)
    total = len(what.tasks) * what.num_samples
    prompts = [
        Prompt(id=name, text=planned.prompts[name], samples=wanted) for name, wanted in missing.items() if wanted
    ]
    with progress(f"{what.label}, {what.candidate}", total, "samples") as update:
        episodes = chain(kept, _episodes(what, prompts, tokenizer, generator))
        for episode, source, verdict in _judged(what, episodes, judge):
            draft = episode.draft.stored()
            row: dict[str, Any] = {"draft": draft, "program": source, "verdict": dataclasses.asdict(verdict)}
            if len(episode.replies) > 1:
                row["replies"] = episode.replies
            append_json_line(path, row)
            tally.add(verdict.problem_id, verdict.status, verdict.tier, draft, source)
            update(tally.num_samples, f"{tally.num_passed} passed")
    result = tally.result(what.label, what.protocol, what.candidate)
    place = {"result": dataclasses.asdict(result), "pass_rates": tally.pass_rates()}
    more = notes | {"adapter": what.adapter, "commit": git_commit()}
    write_json(run.suite_result(what.label, what.candidate), place | planned.settings | more)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _missing(run: Run, what: Measurement, tally: Tally) -> dict[str, tuple[int, ...]]:
    """Numbers of the samples still to draw, by problem; what is there is counted. A sample on which the sandbox itself
    failed is drawn again."""
    path = run.suite_samples(what.label, what.candidate)
    there: dict[str, set[int]] = {task.problem.id: set() for task in what.tasks}
    trim_json_lines(path)
    for number, row in samples(path):
        draft, verdict = row["draft"], row["verdict"]
        if verdict["status"] == Status.INFRA:
            continue
        if draft["sample"] in there.get(draft["problem_id"], {draft["sample"]}):
            what_is_wrong = "repeats a sample" if draft["problem_id"] in there else "is of another measurement"
            raise UserError(f"{path}, line {number} {what_is_wrong} ({draft['problem_id']!r}): take that line out")
        there[draft["problem_id"]].add(draft["sample"])
        tally.add(draft["problem_id"], verdict["status"], verdict["tier"], draft, row["program"])
    return {name: tuple(n for n in range(what.num_samples) if n not in drawn) for name, drawn in there.items()}


def _drawn_before(planned: PlannedMeasurement, missing: dict[str, tuple[int, ...]]) -> Iterator[Episode]:
    """The drafts among those set aside that are still to be judged; they are taken out of `missing` at once."""
    if planned.drawn is None:
        return iter(())
    held: dict[str, set[int]] = {name: set() for name in missing}
    for _, row in samples(planned.drawn):
        held.get(row["draft"]["problem_id"], set()).add(row["draft"]["sample"])
    wanted = {name: held[name].intersection(numbers) for name, numbers in missing.items()}
    for name, numbers in missing.items():
        missing[name] = tuple(number for number in numbers if number not in wanted[name])
    return _episodes_of(planned, planned.drawn, wanted)


def _episodes_of(planned: PlannedMeasurement, drawn: Path, wanted: dict[str, set[int]]) -> Iterator[Episode]:
    """Each wanted draft once: the sandbox may have failed on it before and drawn it again."""
    for _, row in samples(drawn):
        draft = Draft(**row["draft"])
        if draft.sample in wanted.get(draft.problem_id, ()):
            wanted[draft.problem_id].remove(draft.sample)
            last = spoken(planned.what.protocol, draft.text, planned.prompts[draft.problem_id])
            yield Episode(draft=draft, replies=tuple(row.get("replies", (last,))))


def _episodes(what: Measurement, prompts: list[Prompt], tokenizer: Any, generator: Generator) -> Iterator[Episode]:
    """Each sample when the model has had its last turn."""
    if what.tasks[0].problem.style != ProblemStyle.CALLS:
        yield from _dialogues(what, prompts, tokenizer, generator)
        return
    # Only a number of dialogues are open at once: each is kept in memory, and lost by a kill, until its last turn.
    singles = [dataclasses.replace(prompt, samples=(sample,)) for prompt in prompts for sample in prompt.samples]
    for start in range(0, len(singles), OPEN_DIALOGUES):
        yield from _dialogues(what, singles[start : start + OPEN_DIALOGUES], tokenizer, generator)


def _dialogues(what: Measurement, prompts: list[Prompt], tokenizer: Any, generator: Generator) -> Iterator[Episode]:
    """A turn is drawn for all samples together."""
    problems = {task.problem.id: task.problem for task in what.tasks}
    open_episodes: dict[tuple[str, int], Episode] = {}
    turn = 0
    while prompts:
        sampling = dataclasses.replace(what.sampling, seed=what.sampling.seed + turn)
        last_prompt, following = prompts[-1].text, []
        for draft in generator.stream(prompts, sampling, adapter=what.adapter):
            key = draft.problem_id, draft.sample
            reply = spoken(what.protocol, draft.text, last_prompt)
            episode = _extended(open_episodes.pop(key, None), draft, reply)
            text = render(tokenizer, what.suite, problems[draft.problem_id], what.protocol, episode.replies)
            if text is None:
                yield episode
            else:
                open_episodes[key] = episode
                following.append(Prompt(id=draft.problem_id, text=text, samples=(draft.sample,)))
        prompts, turn = following, turn + 1


def _extended(before: Episode | None, draft: Draft, reply: str) -> Episode:
    if before is None:
        return Episode(draft=draft, replies=(reply,))
    tokens = before.draft.num_tokens + draft.num_tokens
    logprobs = sum(d.mean_logprob * d.num_tokens for d in (before.draft, draft))
    whole = dataclasses.replace(draft, num_tokens=tokens, mean_logprob=logprobs / max(1, tokens))
    return Episode(draft=whole, replies=(*before.replies, reply))


def _judged(what: Measurement, episodes: Iterable[Episode], judge: Judge) -> Iterator[tuple[Episode, str, Verdict]]:
    """Each episode with its program and verdict; judging goes on while the next ones are drawn."""
    problems = {task.problem.id: task.problem for task in what.tasks}
    if what.tasks[0].problem.style == ProblemStyle.CALLS:
        for episode in episodes:
            verdict = what.suite.verdict(problems[episode.draft.problem_id], what.protocol, episode.replies)
            assert verdict is not None, f"{what.suite.name} gave no verdict by structure"
            yield episode, "", verdict
        return
    sent: deque[tuple[Episode, str]] = deque()

    def jobs() -> Iterator[tuple[Problem, Sequence[str]]]:
        for episode in episodes:
            problem = problems[episode.draft.problem_id]
            sent.append((episode, what.suite.program(problem, what.protocol, episode.replies[-1])))
            yield problem, [sent[-1][1]]

    for verdicts in judge.judge_all(jobs()):
        yield (*sent.popleft(), verdicts[0])
