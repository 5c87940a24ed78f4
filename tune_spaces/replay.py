"""The winner's schedule of configs, in the form that Ray Tune's PopulationBasedTrainingReplay reads.

    evolve/replay/pbt_policy_TRIAL.txt    a line for each of its ancestors that is a child, and for itself:
                                          [child, parent, generation, generation, parent's config, child's config]

Ray writes such files beside its trials (`_log_config_on_step`, ray/tune/schedulers/pbt.py:752), but what was before a
restore in a new session is lost; so they are made from the lineage. A generation is a training iteration, so a replay
is one trial that changes its config at the same generations:

    replay = PopulationBasedTrainingReplay(str(path))
    tune.Tuner(trainable, tune_config=tune.TuneConfig(scheduler=replay),
               run_config=tune.RunConfig(stop={"training_iteration": generations})).fit()

A replay repeats the schedule and not the weights: an individual's random numbers come from its id, which is another one
in another trial. It can't repeat what no trial did: a winner that imitates the pool, or that has such an ancestor, has
no file. An imitation learnt by no genome but from what all individuals had solved, and its weights are removed after
the next generation.
"""

import json
from collections.abc import Sequence
from itertools import pairwise

from app.evolution.history import read_boundaries
from app.evolution.lineage import Life, ancestry, read_lineage
from app.files.json_files import write_atomic
from app.runs import Run


def write_policy(run: Run) -> str:
    """Write the file of the best at the last boundary. What came of it, for a person."""
    boundaries = read_boundaries(run.evolve_boundaries)
    if not boundaries:
        return "no generation was decided, so there is no schedule to replay"
    last, lives = boundaries[-1], read_lineage(run.evolve_lineage)
    winner = next(iter(last.values))
    lines = [] if winner == last.imitation else policy_of(lives, winner)
    if not lines:
        return f"the schedule of {winner} can't be replayed: no trial did all of it (an imitation of the pool)"
    trial = next(life.trial for life in lives if life.id == winner)
    path = run.evolve_replay / f"pbt_policy_{trial}.txt"
    write_atomic(path, "".join(f"{line}\n" for line in lines))
    return f"the schedule of {winner}: {path}"


def policy_of(lineage: Sequence[Life], winner: str) -> list[str]:
    """The lines of the winner's file; none where one of its ancestors imitates the pool.

    A winner of the first generation changes nothing: its one line comes after its last generation, and says with which
    config to begin. Raises UserError where the lineage lacks it or an ancestor.
    """
    line = ancestry(lineage, winner)
    known = {life.id for life in lineage}
    if any(life.parent and life.parent not in known for life in line):
        return []
    if len(line) == 1:
        end = max(life.generation for life in lineage if life.id == winner)
        return [_line(line[0], line[0], end)]
    return [_line(parent, child, child.generation - 1) for parent, child in pairwise(line)]


def _line(parent: Life, child: Life, generation: int) -> str:
    return json.dumps([child.id, parent.id, generation, generation, parent.config, child.config])
