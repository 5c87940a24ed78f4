"""Runs a function as the workers of a training, one process each, without Ray: for measurements and tests."""

import faulthandler
import os
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing


def launch(
    number: int, function: Callable[..., Any], *arguments: Any, use_gpu: bool = False, timeout_s: float = 600
) -> list[Any]:
    """What function(device, *arguments) returns in each of `number` workers, in the order of their ranks.

    The workers are in one process group, by NCCL with a card each, or by Gloo; `function` is found by its module's
    name, and what it returns is saved and loaded by torch.save. Raises RuntimeError when a worker fails, TimeoutError
    with the lines that they stand at when they are not done after timeout_s; none of them is left then.
    """
    # Without cards imports are made once and forked, from a process without threads; CUDA bears no fork.
    context = multiprocessing.get_context("spawn" if use_gpu else "forkserver")
    if not use_gpu:
        context.set_forkserver_preload(["benchmarks.launch", "peft", "transformers", function.__module__])
    meeting = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=_work, args=(rank, number, meeting.port, folder, use_gpu, function, arguments))
            for rank in range(number)
        ]
        for worker in workers:
            worker.start()
        try:
            _wait(workers, folder, timeout_s)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
        return [torch.load(_result(folder, rank), weights_only=False) for rank in range(number)]


def _wait(workers: list[BaseProcess], folder: str, timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    are_done = False
    while not are_done:
        are_done = not any(worker.is_alive() for worker in workers)
        if failed := [rank for rank, worker in enumerate(workers) if worker.exitcode]:
            raise RuntimeError(f"worker {failed[0]} of {len(workers)} ended with {workers[failed[0]].exitcode}")
        if time.monotonic() > end:
            places = "\n".join(_place(worker, _stack(folder, rank)) for rank, worker in enumerate(workers))
            raise TimeoutError(f"{len(workers)} workers were not done after {timeout_s:.0f} s:\n{places}")
        time.sleep(0.05)


def _place(worker: BaseProcess, stack: Path) -> str:
    """Where a worker stands; nothing, where it had not begun or has ended."""
    if not stack.exists() or worker.pid is None or not worker.is_alive():
        return f"{worker.name}: {worker.exitcode}"
    os.kill(worker.pid, signal.SIGUSR1)
    worker.join(1)
    return f"{worker.name}:\n{stack.read_text()}"


def _work(
    rank: int,
    number: int,
    port: int,
    folder: str,
    use_gpu: bool,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    stack = open(_stack(folder, rank), "w")  # noqa: SIM115  # written to at any time
    faulthandler.register(signal.SIGUSR1, stack)
    device = torch.device("cuda", rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # a host's own name may lead nowhere
    dist.init_process_group(
        "nccl" if use_gpu else "gloo",
        store=dist.TCPStore("127.0.0.1", port, is_master=False),
        rank=rank,
        world_size=number,
        device_id=device if use_gpu else None,
    )
    result = function(device, *arguments)
    torch.save(result, _result(folder, rank))
    dist.barrier()
    dist.destroy_process_group()


def _stack(folder: str, rank: int) -> Path:
    return Path(folder) / f"stack-{rank}"


def _result(folder: str, rank: int) -> Path:
    return Path(folder) / f"result-{rank}"
