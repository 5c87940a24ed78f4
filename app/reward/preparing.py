"""What self-reward and evolution do alike before and after they learn: problems with further tests, what decides drafts
and verdicts, and whose problems were learnt from."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app import rights
from app.corpus.clean.guard import guard_of, shipped_suites
from app.corpus.credits import Attributed, of_problems, write_attribution
from app.files.user_files import user_path
from app.learnt_from import of_adapter
from app.learnt_from import of_problems as problems_told
from app.models.licences import model_notices, public_name
from app.problem_sets.credits import credit_of, notice_of
from app.progress import progress
from app.reward.drafts.asking import Asked
from app.reward.problems.find import OF_RUN, licences
from app.reward.problems.hardening import Hardened
from app.reward.problems.store import made_once
from app.reward.records import TrainingProblem
from app.rights import GuardedBy, Material, Rights, of_holders, union
from app.runs import Run
from app.sandbox.tiers import confinement
from app.settings import Profile

UNTOLD = (
    "{number} of its problems were mined from a corpus that has nothing of its licences beside them, so whose "
    "functions they are is told by their ids alone."
)


def hardened(folder: Path, profile: Profile, problems: Sequence[TrainingProblem], stage: str) -> list[Hardened]:
    """The problems with further tests, made on this machine's cores where the folder has none, or had others."""
    made = []
    with progress(f"{stage}: further tests", len(problems), "problems") as update:
        for one in made_once(folder, problems, profile.sandbox, confinement()):
            made.append(one)
            update(len(made))
    return made


def facts_of(profile: Profile) -> dict[str, Any]:
    """What decides drafts and verdicts beside prompts and sampling."""
    sandbox = profile.sandbox
    return {
        "model": profile.model.model_dump(),
        "sandbox": {"timeout_s": sandbox.timeout_s, "memory_bytes": sandbox.memory_bytes},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Mined:
    """Whose mined problems are, out of the corpus that they were mined from. Made by `mined_from`."""

    origins: Mapping[str, Mapping[str, str]]
    """Distribution, version, licence and path by problem id."""
    people: Mapping[tuple[str, str, str], Mapping[str, str]]
    """The corpus' attribution by distribution, licence and path; without a path for a file that it does not name."""
    rights: Rights | None
    """None where nothing of it lies beside the problems."""


def mined_from(sources: Sequence[str], run: Run) -> list[Mined]:
    """Of all sources that are mined problems. sources: as `grm.problems` has them. Raises UserError for a corpus whose
    tables are broken; a stage calls it before it learns, too, so that this is told before days of it."""
    found = []
    for source in sources:
        name, _, path = source.partition("=")
        if name == OF_RUN:
            folder = user_path(path) if path else run.problems
            table = rights.read_table(folder.parent / run.attribution.name)
            people = {(row["distribution"], row["licence"], ""): row for row in table}
            for row in table:
                people |= {(row["distribution"], row["licence"], path): row for path in rights.paths_of(row)}
            found.append(Mined(origins=of_problems(folder), people=people, rights=rights.read(folder.parent)))
    return found


def write_rights(
    adapter: Path, run: Run, profile: Profile, stage: str, learnt: Sequence[Asked], parent: str = ""
) -> None:
    """Write what travels with an adapter (`app.rights`) into its folder, and the stage's own attribution.csv. parent:
    the stage whose adapter it began with."""
    table = {"grm": run.grm_attribution, "evolve": run.evolve_attribution}[stage]
    mined = mined_from(profile.grm.problems, run)
    write_whose(table, learnt, mined)
    held, tables = of_adapter(run, parent) if parent else (Rights(), {})
    rights.write(adapter, union(held, rights_of(profile, stage, learnt, mined)), tables | {stage: table})


def rights_of(profile: Profile, stage: str, learnt: Sequence[Asked], mined: Sequence[Mined]) -> Rights:
    """What the stage's own learning adds: of its problems, of the corpora that they were mined from, of a teacher."""
    counts = licences([one.problem for one in learnt])
    of_corpora = []
    for one in mined:
        theirs = [row for problem in learnt if (row := one.origins.get(problem.problem.given.id))]
        names = {row["distribution"] for row in theirs}
        if theirs and one.rights is None:
            of_corpora.append(Rights(remarks=(UNTOLD.format(number=len(theirs)),)))
        elif theirs and one.rights:
            guards = tuple(replace(guard, stage=f"{stage}, mined") for guard in one.rights.guards)
            of_corpora.append(Rights(guards=guards, notices=of_holders(one.rights.notices, names)))
    known = {name for one in mined for name in one.origins}
    given = sorted({(p.source, p.licence) for one in learnt if (p := one.problem.given).id not in known})
    notices = tuple(notice_of(source, licence) for source, licence in given)
    guard = guard_of({}, shipped_suites()).facts()
    guards = (GuardedBy(stage=stage, suites=tuple(guard["suites"])),)
    terms = {source: credit.terms for source, _ in given if (credit := credit_of(source)).terms}
    remarks = tuple(f"Problems of {source}: {words}." for source, words in terms.items())
    own = Rights(guards=guards, notices=notices, remarks=remarks)
    return union(problems_told(stage, counts), *_teacher(profile, stage), own, *of_corpora)


def _teacher(profile: Profile, stage: str) -> list[Rights]:
    if stage != "grm" or profile.grm.arm != "distill":
        return []
    teacher = profile.grm.distill.teacher
    name, notices = public_name(teacher), model_notices(teacher)
    told = f"Each token that it learnt was weighed by a larger model, {name}: what came of it is that model's too"
    named = notices[0].licence
    told += f", which calls its licence {named}." if named else ", which says nothing of its licence here: look it up."
    return [Rights(learnt=(Material(stage=stage, told=told),), notices=tuple(notices))]


def write_whose(path: Path, learnt: Sequence[Asked], mined: Sequence[Mined] = ()) -> None:
    """Whose problems were learnt from: a row a source, or a distribution that problems were mined from, and licence,
    with their questions' tokens and their ids."""
    groups = defaultdict[tuple[str, str, str, str, str, str], list[Asked]](list)
    for one in learnt:
        problem = one.problem.given
        held = next((corpus for corpus in mined if problem.id in corpus.origins), None)
        name, version, told = problem.source, "", None
        if held is not None:
            origin = held.origins[problem.id]
            name, version = origin["distribution"], origin["version"]
            places = ((name, problem.licence, place) for place in (origin["path"], ""))
            told = next((held.people[place] for place in places if place in held.people), None)
        told = told or {"evidence": "problem", **credit_of(name)._asdict()}
        groups[name, version, problem.licence, told["evidence"], told["author"], told["homepage"]].append(one)
    rows = []
    for facts, theirs in sorted(groups.items()):
        tokens = sum(len(one.prompt_ids) for one in theirs)
        rows.append(Attributed(*facts, tokens=tokens, files=[one.problem.given.id for one in theirs]))
    write_attribution(path, rows)
