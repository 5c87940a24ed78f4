"""Rounds of imitation, from drafts to adapters: everything of the arms rft and upft but how a training is started.

    drafts/round-1.parquet      what the untouched model drew beside the drafts that are given
    drafts/replay.parquet       its ordinary answers (`app.reward.imitation.replay`)
    round-1/lessons.parquet     what is imitated of it, round-1/adapter what that made
    drafts/round-2.parquet      what the adapter of round 1 drew, and so on
    lessons.parquet adapter/    of the last round: lessons chosen from the drafts of all rounds

A round trains the base, not the adapter before it (ReST-EM, arXiv 2312.06585, section 3: less drift from the base, and
better on what is held out); rft does so in `grm.imitate.rounds`, upft in one. Each part is skipped where it is there.
Runs without Ray; generator and judge are protocols of `app.records`.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.corpus.draws import by_hash
from app.errors import NothingToLearnError
from app.files.json_files import read_json_lines, write_json
from app.progress import progress, say
from app.records import Generator, Judge, Prompt, Sampling
from app.reward.by_reward.keeping import make_whole
from app.reward.drafts.asking import Asked
from app.reward.drafts.drafting import stream_judged_drafts
from app.reward.drafts.files import read_drafts
from app.reward.drafts.solve_rates import BANDS, Rates, band, rates
from app.reward.imitation.lessons import beginnings, lesson, read_lessons, write_lessons
from app.reward.imitation.replay import replayed
from app.reward.imitation.selection import Rank, candidates, selected
from app.reward.records import JudgedDraft, Lesson, LessonKind, TrainingProblem
from app.running.arm_paths import ArmPaths
from app.running.deadlines import NEVER, Deadline
from app.settings import Profile

UNTESTED = "untested"
"""In place of a band, where no draft of a problem counts."""
Ranking = Callable[[Sequence[JudgedDraft]], Rank]
"""Gives the rank of these drafts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFigures:
    """What a round came to. Made by `learn_by_imitation`; kept in grm/meta.json, which the report reads."""

    round: int
    """From 1."""
    drafts: int
    """Drawn in it, those that were given included."""
    tokens: int
    """Of these drafts."""
    lessons: Mapping[str, int]
    """What is learnt, of the drafts of all rounds, by `records.LessonKind`."""
    problems: int
    """Of which a draft is learnt, replayed answers aside."""
    by_solve_rate: Mapping[str, int]
    """These drafts by how often the untouched model solves their problem (`solve_rates.BANDS`), the hardest first."""
    steps: int
    learnt_tokens: int
    """That entered the loss, over all epochs."""
    loss_first: float
    """Of the first step, nats a token."""
    loss_last: float
    seconds: float
    """Of the training's steps."""


def learn_by_imitation(
    places: ArmPaths,
    profile: Profile,
    problems: Sequence[Asked],
    generator: Generator,
    judge: Judge,
    train: Callable[[ArmPaths], None],
    *,
    given: Sequence[JudgedDraft] = (),
    facts: Mapping[str, Any] = {},
    ranking: Ranking | None = None,
    deadline: Deadline = NEVER,
) -> list[RoundFigures]:
    """Train `places.adapter` by `profile.grm.arm`, in rounds; returns what each came to.

    train: makes the adapter and the metrics of a place from its lessons. given: drafts of the untouched model at
    `grm.temperature`, which round 1 takes and draws only what is missing. deadline: after it no further round begins.
    facts: what else decides what is drawn and
    judged, kept with the drafts. ranking: decides between right drafts of a problem, and alone where it has no tests;
    if nothing is said, a draw does, and problems without tests are left out.
    Raises NothingToLearnError where no draft can be imitated.
    """
    grm, how = profile.grm, profile.grm.imitate
    drawing = _Drawing(places.drafts, profile, _limited(problems, how.prompts, profile.seed), generator, judge, facts)
    rounds = how.rounds if grm.arm == "rft" else 1
    drawn, figures, adapter = list[list[JudgedDraft]](), list[RoundFigures](), ""
    for number in range(1, rounds + 1):
        if number > 1 and (places.cut.exists() or deadline.is_over()):
            _take_over(places.round(number - 1), places)
            break
        at = places if number == rounds else places.round(number)
        drawn.append(drawing.drafts(number, adapter, given if number == 1 else ()))
        untouched = rates(drawn[0])
        if not at.lessons.exists():
            made = drawing.right(drawn, untouched, ranking) if grm.arm == "rft" else drawing.beginnings(drawn[0])
            write_lessons(at.lessons, made)
        lessons = read_lessons(at.lessons)
        say(f"  round {number} of {rounds}: {told(lessons)}")
        if not at.adapter.exists():
            train(at)
        adapter = str(at.adapter)
        figures.append(_figures(number, drawn[-1], lessons, untouched, at))
    return figures


def _take_over(last: ArmPaths, places: ArmPaths) -> None:
    """The round before is the last one."""
    write_json(places.cut, {"round": last.folder.name})
    shutil.copyfile(last.lessons, places.lessons)
    shutil.copyfile(last.metrics, places.metrics)
    make_whole(places.adapter, lambda place: shutil.copytree(last.adapter, place, dirs_exist_ok=True))


def told(lessons: Sequence[Lesson]) -> str:
    """For a person."""
    kinds = ", ".join(f"{count} {name}" for name, count in Counter(one.kind for one in lessons).items())
    return f"{len(lessons)} samples of {len({one.problem_id for one in lessons})} problems are imitated ({kinds})"


class _Drawing:
    """Draws what is imitated of the same problems, and chooses from it."""

    def __init__(
        self,
        folder: Path,
        profile: Profile,
        problems: Sequence[Asked],
        generator: Generator,
        judge: Judge,
        facts: Mapping[str, Any],
    ) -> None:
        """folder: where drafts are kept."""
        self._folder, self._profile, self._problems = folder, profile, problems
        self._generator, self._judge, self._facts = generator, judge, facts
        self._prompt_ids = {one.problem.given.id: one.prompt_ids for one in problems}
        folder.mkdir(parents=True, exist_ok=True)

    def drafts(self, number: int, adapter: str, given: Sequence[JudgedDraft]) -> list[JudgedDraft]:
        """A round's: those that are given, and what is missing."""
        grm = self._profile.grm
        held = [one for one in given if one.draft.problem_id in self._prompt_ids]
        there = {(one.draft.problem_id, one.draft.sample) for one in held}
        wanted = range(grm.imitate.drafts if grm.arm == "rft" else 1)
        prompts, problems = list[Prompt](), list[TrainingProblem]()
        for one in self._problems:
            name = one.problem.given.id
            if samples := tuple(sample for sample in wanted if (name, sample) not in there):
                prompts.append(Prompt(id=name, text=one.text, samples=samples))
                problems.append(one.problem)
        if not prompts:
            return held
        path, sampling = self._folder / f"round-{number}.parquet", self._sampling(grm.temperature, number)
        drawn = stream_judged_drafts(
            path, problems, prompts, sampling, self._generator, self._judge, adapter=adapter, facts=self._facts
        )
        with progress(f"grm: drafts of round {number}", sum(len(one.samples) for one in prompts), "drafts") as update:
            for done, _ in enumerate(drawn, 1):
                update(done)
        return held + read_drafts(path)  # in the order of the prompts, whenever they were judged

    def right(self, drawn: Sequence[list[JudgedDraft]], untouched: Rates, ranking: Ranking | None) -> list[Lesson]:
        """Right drafts of all rounds, the best ranked ones of problems without tests, and ordinary answers beside them.
        Raises NothingToLearnError where there is none."""
        number_of = {_key(one): number for number, drafts in enumerate(drawn, 1) for one in drafts}
        union = [one for drafts in drawn for one in drafts]
        by_id = {one.problem.given.id: one.problem for one in self._problems}
        rank = ranking(candidates(union, by_id)) if ranking else None
        chosen = selected(union, rank, untouched, by_id)
        if not chosen:
            untested = "" if all(one.problem.has_tests for one in self._problems) else ", or has none and is complete"
            raise NothingToLearnError(
                f"none of {len(number_of)} drafts of {len(self._problems)} problems passed its tests{untested}, so "
                "there is nothing to imitate: give other problems by grm.problems, or raise grm.imitate.drafts or "
                "grm.max_new_tokens"
            )
        right = [lesson(one, self._prompt_ids, LessonKind.RIGHT, number_of[_key(one)]) for one in chosen]
        path = self._folder / "replay.parquet"
        return right + replayed(path, self._profile, self._problems, chosen, self._generator, self._judge, self._facts)

    def beginnings(self, drafts: Sequence[JudgedDraft]) -> list[Lesson]:
        """Beginnings of one draft a problem, some of them whole."""
        how, seed = self._profile.grm.imitate, self._profile.seed
        return beginnings(drafts, self._prompt_ids, tokens=how.prefix_tokens, whole_share=how.whole_share, seed=seed)

    def _sampling(self, temperature: float, number: int) -> Sampling:
        """Of a round."""
        seed = self._profile.seed + number - 1
        return Sampling(max_new_tokens=self._profile.grm.max_new_tokens, temperature=temperature, seed=seed)


def _limited(problems: Sequence[Asked], most: int, seed: int) -> list[Asked]:
    """So many of the problems, in their order."""
    order = sorted(problems, key=lambda one: by_hash(f"{seed} {one.problem.given.id}"))
    kept = {one.problem.given.id for one in order[:most]}
    return [one for one in problems if one.problem.given.id in kept]


def _key(one: JudgedDraft) -> tuple[str, int, int]:
    """Tells drafts of all rounds apart: each round draws by a seed of its own."""
    return one.draft.problem_id, one.draft.sample, one.draft.seed


def _figures(
    number: int, drafts: Sequence[JudgedDraft], lessons: Sequence[Lesson], untouched: Rates, at: ArmPaths
) -> RoundFigures:
    rows = read_json_lines(at.metrics)
    learnt = [one.problem_id for one in lessons if one.kind != LessonKind.REPLAY]
    bands = {name: band(passed / counted) for name, (passed, counted) in untouched.items()}
    found = Counter(bands.get(name, UNTESTED) for name in learnt)
    return RoundFigures(
        round=number,
        drafts=len(drafts),
        tokens=sum(one.draft.num_tokens for one in drafts),
        lessons=dict(Counter(str(one.kind) for one in lessons)),
        problems=len(set(learnt)),
        by_solve_rate={name: found[name] for name in (*BANDS, UNTESTED) if found[name]},
        steps=len(rows),
        learnt_tokens=sum(row["label_tokens"] for row in rows),
        loss_first=rows[0]["loss"],
        loss_last=rows[-1]["loss"],
        seconds=round(sum(row["seconds"] for row in rows), 1),
    )
