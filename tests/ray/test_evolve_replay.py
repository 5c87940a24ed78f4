"""What an experiment leaves is read by Ray's own tools: the winner's schedule is replayed, its results are analysed as
docs/evolution.md shows it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import PopulationBasedTrainingReplay

from app.evolution.lineage import read_lineage
from tests.conftest import ROOT
from tests.ray.evolving import train, tuner
from tune_spaces.replay import policy_of

pytestmark = [pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(120, func_only=True)]


def snippet() -> str:
    """The page's, as it stands there."""
    (code,) = re.findall(r"(?s)```python\n(.*?)```", (ROOT / "docs/evolution.md").read_text())
    return str(code)


def test_one_trial_repeats_what_the_winner_and_its_ancestors_learnt_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuner(tmp_path).fit()
    winner, *_ = [life for life in read_lineage(tmp_path / "lineage.jsonl") if life.generation == 3]
    path = tmp_path / f"pbt_policy_{winner.trial}.txt"
    path.write_text("".join(f"{line}\n" for line in policy_of(read_lineage(tmp_path / "lineage.jsonl"), winner.id)))
    (result,) = tune.Tuner(
        tune.with_resources(train, {"cpu": 0.1}),
        tune_config=tune.TuneConfig(scheduler=PopulationBasedTrainingReplay(str(path))),
        run_config=tune.RunConfig(name="replay", storage_path=str(tmp_path), stop={"training_iteration": 3}, verbose=0),
    ).fit()
    assert json.loads(result.metrics["learnt"]) == [0.4, 0.41, 0.42]

    code = snippet().replace("runs/NAME/evolve/tune", str(tmp_path / "tune")).replace('"fitness"', '"score"')
    found: dict[str, Any] = {}
    exec(re.sub(r'"(individual|pass_at_1|kl)", ', "", code), found)
    assert found["best"].metrics["score"] == found["best"].config["rate"] == 0.42
    assert list(found["places"]["score"]) and len(found["places"]) == 4
    assert list(found["best"].metrics_dataframe["training_iteration"]) == [1, 2, 3]
    assert "0.42" in capsys.readouterr().out
