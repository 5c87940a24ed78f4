"""Runs a function as the workers of a training, one process each, without Ray: for measurements and tests."""

import os
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
    when they are not done after timeout_s; none of them is left then.
    """
    # Without cards imports are made once and forked, from a process without threads; CUDA bears no fork.
    context = multiprocessing.get_context("spawn" if use_gpu else "forkserver")
    if not use_gpu:
        context.set_forkserver_preload(["benchmarks.launch", "peft", "transformers", function.__module__])
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=_work, args=(rank, number, folder, use_gpu, function, arguments))
            for rank in range(number)
        ]
        for worker in workers:
            worker.start()
        try:
            _wait(workers, timeout_s)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()
        return [torch.load(_result(folder, rank), weights_only=False) for rank in range(number)]


def _wait(workers: list[BaseProcess], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    are_done = False
    while not are_done:
        are_done = not any(worker.is_alive() for worker in workers)
        if failed := [rank for rank, worker in enumerate(workers) if worker.exitcode]:
            raise RuntimeError(f"worker {failed[0]} of {len(workers)} ended with {workers[failed[0]].exitcode}")
        if time.monotonic() > end:
            raise TimeoutError(f"{len(workers)} workers were not done after {timeout_s:.0f} s")
        time.sleep(0.05)


def _work(
    rank: int, number: int, folder: str, use_gpu: bool, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    device = torch.device("cuda", rank) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # a host's own name may lead nowhere
    dist.init_process_group(
        "nccl" if use_gpu else "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=number,
        device_id=device if use_gpu else None,
    )
    result = function(device, *arguments)
    torch.save(result, _result(folder, rank))
    dist.barrier()
    dist.destroy_process_group()


def _result(folder: str, rank: int) -> Path:
    return Path(folder) / f"result-{rank}"
