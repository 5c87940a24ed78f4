"""What trainings on Ray Train have in common: how one is started, goes on and ends.

Ray Train keeps the checkpoints under the stage's work folder, and picks the newest one up when a worker was lost, or
when the stage is started again.
"""

import concurrent.futures
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from app.cluster.session import joined_address
from app.files.durable import flush
from app.files.json_files import BrokenFileError, read_json
from app.models.sizes import GIB
from app.progress import say
from app.training.memory import use_segments
from app.training.reports import MAX_FAILURES, ProgressCallback
from app.training.state import is_whole

if TYPE_CHECKING:
    import torch

TRAIN_RUN, BEGUN = "train", "begun"
LOOK_EVERY_S = 0.5
"""How often Ray's controller looks for reports; a worker waits for it with its third."""


def fit(
    loop: Callable[[dict[str, Any]], Any],
    config: dict[str, Any],
    work: Path,
    channel: Queue,
    scaling: ray.train.ScalingConfig,
    *,
    stop_s: float = 0.0,
    **data: Any,
) -> Any:
    """Run `loop` on its workers to its end, from the newest checkpoint in `work` on, and return Ray Train's result.

    channel: of `reports.shown`; the workers find it in their config, for `is_stopped` too. stop_s: how long workers get
    to save a checkpoint where the command is interrupted. data: the trainer's data sets.
    """
    stop = work / "stop"
    stop.unlink(missing_ok=True)  # of a driver that was killed while it waited
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # relative paths of the settings mean in a worker what they mean here
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(LOOK_EVERY_S))
    if not joined_address():  # nobody takes this machine away with a warning: no process need look out for one
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    trainer = TorchTrainer(
        loop,
        train_loop_config=config | {"channel": channel, "stop": str(stop), "begun": str(work / BEGUN)},
        scaling_config=scaling,
        run_config=ray.train.RunConfig(
            name=TRAIN_RUN,
            storage_path=str(work),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            callbacks=[ProgressCallback(channel)],
        ),
        **data,
    )
    return _run(trainer.fit, stop, stop_s)


def _run(fit_all: Callable[[], Any], stop: Path, stop_s: float) -> Any:
    """Call it, in a thread: Ray Train then leaves Control-C alone, which it would answer by ending the workers at once,
    in this training and in what follows."""
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def work() -> None:
        try:
            done.set_result(fit_all())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return done.result()
    except KeyboardInterrupt:
        if stop_s:
            say(f"  interrupted: the training saves a checkpoint, for {stop_s:.0f} s at most; again, and it saves none")
            stop.parent.mkdir(parents=True, exist_ok=True)
            stop.touch()
            concurrent.futures.wait([done], timeout=stop_s)
        raise


def is_stopped(config: dict[str, Any]) -> bool:
    """In a worker: whether its driver was interrupted, and wants a checkpoint before the workers end."""
    return os.path.exists(config["stop"])


def salvage(work: Path) -> None:
    """Make ready what a training goes on from, where a kill or a power cut left Ray Train's newest checkpoint, or its
    list of them, cut off: Ray could never read it again. The newest checkpoint that is whole goes to `work`/begun."""
    run = work / TRAIN_RUN
    snapshot = run / "checkpoint_manager_snapshot.json"
    if not run.exists():
        return
    try:
        latest = read_json(snapshot)["latest_checkpoint_result"] if snapshot.exists() else None
        if latest is None or is_whole(run / latest["checkpoint_dir_name"]):
            return
    except (BrokenFileError, KeyError, TypeError):
        pass
    whole = next((path for path in sorted(run.glob("checkpoint_*"), reverse=True) if is_whole(path)), None)
    if whole is None:
        say("  the checkpoints were cut off: training starts over")
    else:
        say(f"  the newest checkpoint, or the list of them, was cut off: training goes on from {whole.name}")
        replace_folder(whole, work / BEGUN)
    shutil.rmtree(run)


def last_checkpoint(config: dict[str, Any]) -> Path | None:
    """In a worker: what it goes on from."""
    if held := ray.train.get_checkpoint():
        return Path(held.path)
    begun = Path(config["begun"])
    return begun if begun.exists() else None


def replace_folder(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    flush(temporary)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)


def set_up_device(device: "torch.device", vram_gib: float, sharers: int | None = None) -> None:
    """Bound what a worker takes of its card, its context not counted; without one, let it use the cores.

    sharers: processes that train on the node; None: Ray Train's workers there."""
    import torch

    if device.type == "cuda":
        use_segments()  # before the first tensor
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, vram_gib * GIB / total), device)
    else:  # Ray sets one thread for one CPU; a trainer alone on its node uses all of them
        sharers = sharers or ray.train.get_context().get_local_world_size()
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // sharers))
