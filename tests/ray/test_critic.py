"""The Critic actor learns and scores as the critic in this process does, and goes on where its process was killed."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import ray

from actors.critic import CriticClient
from app.errors import UserError
from app.files.json_files import read_json_lines
from app.reward.critic.critic import LocalCritic
from app.reward.critic.questions import claim_of
from app.reward.critic.training import rulings_of
from tests.unit.reward.critics import critic_profile, planted


def test_an_actor_that_is_killed_goes_on_with_what_it_has_learnt(local_ray: None, tmp_path: Path) -> None:
    settings = critic_profile(tmp_path / "model", "grm.critic.num_cpus=1", "grm.critic.batch_size=4").grm.critic
    problems, drafts = planted(24)
    by_id = {one.given.id: one for one in problems}
    rulings = rulings_of(by_id, drafts, settings, 0)
    claims = [claim_of(by_id[one.draft.problem_id], one) for one in drafts]
    local = LocalCritic(tmp_path / "local", settings, 0)
    undisturbed = local.learn(rulings)
    metrics, killed = tmp_path / "critic" / "metrics.jsonl", list[int]()
    with contextlib.closing(CriticClient(tmp_path / "critic", settings, 0)) as critic:

        def kill_in_the_middle() -> None:
            while not metrics.exists() or metrics.read_text().count("\n") < 7:
                time.sleep(0.002)
            os.kill(pid, signal.SIGKILL)
            killed.append(metrics.read_text().count("\n"))

        pid = ray.get(critic._actor.pid.remote())
        killer = threading.Thread(target=kill_in_the_middle, daemon=True)
        killer.start()
        learnt = critic.learn(rulings)
        killer.join()
        assert killed[0] < undisturbed.steps, "it was killed in the middle"
        assert [row["step"] for row in read_json_lines(metrics)] == list(range(1, undisturbed.steps + 1))
        assert (learnt.rulings, learnt.tokens) == (undisturbed.rulings, undisturbed.tokens)
        scores = critic.score(claims)
        assert scores == pytest.approx(local.score(claims), abs=1e-3)
        os.kill(ray.get(critic._actor.pid.remote()), signal.SIGKILL)
        assert list(critic.stream(iter(claims))) == scores


def test_a_critic_that_finds_no_room_gives_up_with_a_sentence(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.critic.PLACE_SECONDS", 1.0)
    monkeypatch.setattr("actors.critic.SAY_EVERY_SECONDS", 0.5)
    settings = critic_profile(tmp_path / "model", "grm.critic.num_cpus=99").grm.critic
    with pytest.raises(UserError, match="waits for 99 cores, for more than 1 s"):
        CriticClient(tmp_path / "critic", settings, 0)
