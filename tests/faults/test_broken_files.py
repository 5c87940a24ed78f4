"""Files of a run that a bad disk or a power cut damaged: each command that needs them says so in one sentence, with the
file and the way out, and goes on when they are restored."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from app.files.json_files import read_json_lines
from app.models.adapters import WEIGHTS
from app.runs import Run
from tests.campaign import Undisturbed, undisturbed  # noqa: F401
from tests.conftest import Cli


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    """In its middle: its ends are whole."""
    data = bytearray(path.read_bytes())
    data[8 : len(data) // 2] = bytes(255 - byte for byte in data[8 : len(data) // 2])
    path.write_bytes(data)


def shard(run: Run) -> Path:
    return sorted(run.train_shards.glob("*.parquet"))[0]


def newest_drafts(run: Run) -> Path:
    return max(run.arm("grpo").drafts.glob("*.parquet"))


CASES: dict[str, tuple[str, Callable[[Run], Path], Callable[[Path], None], list[str]]] = {
    "a shard that is cut off": ("sft", shard, cut_off, ["sft", "grm", "evolve"]),
    "a shard that is damaged in its middle": ("sft", shard, overwritten, ["sft", "grm", "evolve"]),
    "a shard that is gone": ("sft", shard, Path.unlink, ["sft", "grm", "evolve"]),
    "drafts that are cut off": ("grm", newest_drafts, cut_off, ["grm/meta.json", "grm/adapter", "evolve"]),
    "hardened problems that are cut off": (
        "grm",
        lambda run: next(run.grm_problems.glob("*.parquet")),
        cut_off,
        ["grm/meta.json", "evolve"],
    ),
    "an adapter that is half written": (
        "pipeline",
        lambda run: run.sft_adapter / WEIGHTS,
        cut_off,
        ["evaluation", "validation", "report.html"],
    ),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_named_and_its_run_goes_on_when_it_is_restored(
    case: str,
    undisturbed: Undisturbed,  # noqa: F811
    tmp_path: Path,
    cli: Cli,
) -> None:
    command, which, damage, undone = CASES[case]
    run = Run(tmp_path / "run")
    shutil.copytree(undisturbed.run.root, run.root)
    for name in undone:
        path = run.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    damaged = which(run)
    whole = damaged.read_bytes()
    damage(damaged)
    arguments = [command, "--run", str(run.root), *(["--resume"] if command == "pipeline" else [])]
    ended = cli(*arguments)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1]
        assert ended.returncode == 2 and "Traceback" not in ended.stderr, ended.stderr[-4000:]
        assert last.startswith("pocketcoder: ") and (str(damaged) in last or str(damaged.parent) in last), last
        damaged.write_bytes(whole)
        ended = cli(*arguments)
    assert ended.returncode == 0, ended.stderr[-4000:]
    if command == "sft":
        losses = [[row["loss"] for row in read_json_lines(one.sft_metrics)] for one in (run, undisturbed.run)]
        assert losses[0] == losses[1]
