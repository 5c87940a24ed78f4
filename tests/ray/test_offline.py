"""Whatever a training stage starts on Ray has ENV=offline, although the user's environment says online."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.data
import ray.train
from ray import tune

from actors.critic import CriticClient
from actors.docs_search import DocsSearch
from actors.generator import GeneratorClient
from actors.judges import JudgePool
from app.cluster.offline import offline
from app.profiles import smoke
from app.stage_settings.docsearch import DocsearchSettings
from app.training.ray_train import fit
from app.training.reports import shown
from tests.conftest import ROOT
from tests.unit.reward.critics import critic_profile


def mode(*_: object) -> str:
    return os.environ.get("ENV", "none")


def of_actor(actor: Any) -> str:
    return str(ray.get(actor.__ray_call__.remote(mode)))


def of_task(_: Path) -> str:
    return str(ray.get(ray.remote(mode).remote()))


def of_data(_: Path) -> str:
    rows = ray.data.range(1).map(lambda row: {"mode": mode()}).take_all()
    return str(rows[0]["mode"])


def of_ray_train(folder: Path) -> str:
    def loop(config: dict[str, Any]) -> None:
        Path(config["place"]).write_text(mode())

    place = folder / "mode"
    with shown("a training", 1, str) as channel:
        fit(loop, {"place": str(place)}, folder / "work", channel, ray.train.ScalingConfig(num_workers=1))
    return place.read_text()


def of_tune(folder: Path) -> str:
    def trial(config: dict[str, Any]) -> None:
        tune.report({"mode": mode()})

    (result,) = tune.Tuner(trial, run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0)).fit()
    assert result.metrics
    return str(result.metrics["mode"])


def of_generator(_: Path) -> str:
    with contextlib.closing(GeneratorClient(smoke().model, smoke().generation)) as generator:
        return of_actor(generator._actors[0])


def of_judge(_: Path) -> str:
    with contextlib.closing(JudgePool(smoke().sandbox)) as judges:
        return of_actor(judges._workers[0])


def of_critic(folder: Path) -> str:
    settings = critic_profile(folder / "model", "grm.critic.num_cpus=1").grm.critic
    with contextlib.closing(CriticClient(folder / "critic", settings, 0)) as critic:
        return of_actor(critic._actor)


def of_search(folder: Path) -> str:
    """A stage that started a search would have one that refuses the network."""
    search = ray.remote(DocsSearch.func_or_class).remote(DocsearchSettings(offline=False), folder=folder)
    request = ray.get(search.begin.remote(""))
    reason, _ = ray.get(search.search.remote("json.loads", None, request))
    ray.kill(search)
    return str(reason)


KINDS = [of_task, of_data, of_ray_train, of_tune, of_generator, of_judge, of_critic, of_search]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__[3:])
def test_what_a_stage_starts_is_offline_although_the_user_is_online(
    local_ray: None, kind: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENV", "online")
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with offline():
        assert kind(tmp_path) == "offline"
    assert mode() == "online"


JOIN = """
import os
import ray
from app.cluster.offline import offline
from app.cluster.session import connected
from app.settings import ClusterSettings
with offline(), connected(ClusterSettings()):
    print(ray.get(ray.remote(lambda: os.environ["ENV"]).remote()))
with connected(ClusterSettings()):
    print(ray.get(ray.remote(lambda: os.environ["ENV"]).remote()))
"""


def test_a_job_that_was_submitted_with_env_online_trains_offline_and_measures_online(local_ray: None) -> None:
    job = {"runtime_env": {"env_vars": {"ENV": "online", "PYTHONPATH": str(ROOT)}}}
    address = ray.get_runtime_context().gcs_address
    given = {"RAY_ADDRESS": address, "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job), "ENV": "online"}
    done = subprocess.run(
        [sys.executable, "-c", JOIN], cwd=ROOT, env=os.environ | given,
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout.split() == ["offline", "online"], done.stderr[-3000:]
