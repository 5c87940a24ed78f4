"""What a critic is worth as a ranking of drafts, beside rankings that need none, on problems that it has not seen.

    python -m benchmarks.critic --problems FILE ... --drafts FILE.parquet ... --out OUT [--set grm.critic.epochs=4]

FILE: hardened problems (`app.reward.problems.store`); FILE.parquet: judged drafts of them (`app.reward.drafts.files`),
as a run keeps both in grm/problems/ and grm/drafts/. The critic is trained in OUT, and goes on there where it was
ended; --set seed=N draws others of the problems to be held out. Prints one JSON line: AUC over all drafts and within
problems, the best of n of every ranking with its interval, and the critic's difference to each baseline, paired by
problem.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from app.files.json_files import read_json
from app.overrides import with_overrides
from app.profiles import get_profile
from app.reward.critic.choice import trained_critic
from app.reward.drafts.files import read_drafts
from app.reward.problems.store import read
from app.runs import Run


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = with_overrides(get_profile(arguments.profile), arguments.overrides)
    problems = [one.problem for path in arguments.problems for one in read(path)]
    known = {one.given.id for one in problems}
    drafts = [one for path in arguments.drafts for one in read_drafts(path) if one.draft.problem_id in known]
    run, start = Run(arguments.out.resolve()), time.perf_counter()
    trained_critic(run, profile, problems, drafts)
    told = read_json(run.grm_critic_metrics)
    measured = told.pop("measured") or {}
    rows = {
        row["ranking"]: {
            "auc_pooled": _rounded(row["auc_pooled"]),
            "auc_within": _rounded(row["auc_within"]),
            "best_of_n": _rounded(row["best_of_n"]["value"]),
            "interval_95": [_rounded(end) for end in row["best_of_n"]["interval_95"]],
        }
        for row in measured.pop("rows", [])
    }
    against = {
        name: {"difference": _rounded(one["difference"]), "interval_95": [_rounded(end) for end in one["interval_95"]]}
        for name, one in measured.pop("against", {}).items()
    }
    seconds = round(time.perf_counter() - start, 1)
    return told | measured | {"rankings": rows, "critic_against": against, "seconds": seconds}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", type=Path, nargs="+", required=True)
    parser.add_argument("--drafts", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    print(json.dumps({"benchmark": "critic", **measure(parser.parse_args())}), flush=True)


if __name__ == "__main__":
    main()
