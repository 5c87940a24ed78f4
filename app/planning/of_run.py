"""What the stages of a run were planned to take: by themselves for whoever shows the run, and in the pipeline for the
deadlines of those that train.

    python -m app.planning.of_run DIR        {"seconds": {"corpus": 20.1, ...}, "why": ""}

The corpus is planned as before it was built, the rest with the run's own corpus where that is complete.
"""

import json
import sys
from pathlib import Path

from app.errors import UserError
from app.planning.inputs import inputs_of
from app.planning.plan import PHASES, corpus
from app.progress import say
from app.running import status
from app.running.deadlines import NEVER, Deadline, deadline_of, time_words
from app.running.run_settings import stored_profile
from app.running.status import STAGES, Planned, seconds_by_stage
from app.runs import Run, left_out, update_info
from app.settings import Profile


def plan_of(root: Path, *, sizes_corpus: bool = True) -> Planned:
    """Of a run directory, whose settings it takes. sizes_corpus: plan a corpus that is there as before, too, for which
    its sources are looked through."""
    profile = stored_profile(root)
    if profile is None:
        return Planned(why=f"{root} holds no run.json, so there is no plan")
    try:
        is_there = Run(root).corpus_manifest.exists()
        before = inputs_of(profile, None, sizes_corpus=sizes_corpus or not is_there)
        inputs = inputs_of(profile, root) if is_there else before
        phases = [*(phase(inputs) for phase in PHASES if phase is not corpus), corpus(before)]
    except (UserError, OSError) as error:
        return Planned(why=str(error))
    return Planned(seconds={one.name: 3600 * one.hours for one in phases if one.hours})


def print_status(root: Path, *, as_json: bool) -> None:
    """Run `python -m app status`. Raises UserError where there is no run."""
    run = status.require_run(root)
    found = status.progress(run, plan_of(run.root, sizes_corpus=False))
    print(json.dumps(status.as_json(run, found)) if as_json else status.as_text(run, found))


def stage_deadline(run: Run, profile: Profile, stage: str) -> Deadline:
    """Of a stage that trains and is about to begin, or to go on; noted in run.json, and said.

    Where nothing can be planned, the stage has all the time that others have left.
    """
    schedule = profile.schedule
    if not schedule.deadlines:
        return NEVER
    done = {*left_out(run), *run.trained()}
    open_ = [name for name in STAGES if name == stage or name not in done and name not in ("corpus", "report")]
    found = deadline_of(
        stage, open_, _planned(run, profile, stage), seconds_by_stage(run), schedule.days * 24 * 3600
    )  # fmt: skip
    update_info(run, deadlines=run.deadlines() | {stage: {"at": found.at, "share_s": found.share_s}})
    say(f"  {stage} has {time_words(found.share_s)} of schedule.days={schedule.days:g}")
    return found


def _planned(run: Run, profile: Profile, stage: str) -> dict[str, float]:
    """Seconds by stage; this one is planned as if the pipeline had it."""
    if stage != "sft":
        own = getattr(profile, stage).model_copy(update={"when": "always"})
        profile = profile.model_copy(update={stage: own})
    try:
        inputs = inputs_of(profile, run.root if run.corpus_manifest.exists() else None, sizes_corpus=False)
        return {one.name: 3600 * one.hours for one in (phase(inputs) for phase in PHASES)}
    except (UserError, OSError) as error:
        say(f"  no time can be planned for {stage}: {error}")
        return {}


def main(root: str) -> None:
    made = plan_of(Path(root))
    print(json.dumps({"seconds": dict(made.seconds), "why": made.why}))


if __name__ == "__main__":
    main(sys.argv[1])
