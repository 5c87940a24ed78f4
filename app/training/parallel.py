"""Training with several workers: the whole model on each (DDP), or a share of its weights on each (FSDP2).

Both average gradients over the workers, once a step. Under FSDP2 (torch.distributed.fsdp.fully_shard) parameters,
gradients and moments are DTensors, cut along their first dimension; a decoder layer's are put together when it runs and
let go afterwards. Frozen weights and float32 adapters lie in one group: nothing is cast.

Everything here is for every worker of a training to call, in the same order.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from app.settings import SftSettings

T = TypeVar("T")


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def sum_over_ranks(value: float, device: torch.device) -> float:
    if world_size() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return tensor.item()


def first_says(asked: Callable[[], bool], device: torch.device) -> bool:
    """What the first worker answers, on all workers alike: their clocks may differ."""
    if world_size() == 1:
        return asked()
    return sum_over_ranks(float(dist.get_rank() == 0 and asked()), device) > 0


def from_all_ranks(held: T) -> list[T]:
    """What each worker holds, in the order of their ranks."""
    if world_size() == 1:
        return [held]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, held, group=_host_group())
    return found


@functools.cache
def _host_group() -> dist.ProcessGroup:
    """The group that sends objects: NCCL would send them through the cards' memory, which layers have filled."""
    return dist.new_group(backend="gloo")


def loads_on_host(settings: SftSettings) -> bool:
    """Whether the base is to be loaded to main memory, since not all of it is to lie on a worker's card."""
    return settings.offload or (settings.parallelism == "fsdp" and settings.num_workers > 1)


def wrap(module: nn.Module, settings: SftSettings, device: torch.device) -> nn.Module:
    """The module with this process's part in a training; itself where it is the only one.

    module: a loss over a PEFT model (`app.training.loss`). Its adapters must be the same on every worker.
    """
    if world_size() == 1:
        return module
    return _sharded(module, device) if settings.parallelism == "fsdp" else _replicated(module)


def _replicated(module: nn.Module) -> nn.Module:
    # Frozen weights and buffers are the same everywhere, as loaded; offloaded ones couldn't be sent at all.
    same = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    same += [name for name, _ in module.named_buffers()]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, same)
    return DistributedDataParallel(module, gradient_as_bucket_view=True)  # else gradients are there twice


def _sharded(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its weights cut over the workers. One layer at a time goes to the card and is cut, so a model in
    main memory is never on it as a whole."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = DeviceMesh.from_group(dist.group.WORLD, device.type)
    for layer in module.model.get_base_model().get_decoder().layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(module, mesh=mesh)


def accumulating(module: nn.Module, is_last: bool) -> AbstractContextManager[object]:
    """The context of a micro-batch's forward and backward pass: gradients are exchanged with the step's last one
    only."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
    elif isinstance(module, DistributedDataParallel) and not is_last:
        return module.no_sync()
    return contextlib.nullcontext()


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale the gradients of all workers' shares to a norm of at most max_norm. Returns the norm before."""
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def whole(tensor: torch.Tensor) -> torch.Tensor | None:
    """A copy in main memory of a tensor that may be cut over the workers. None on every worker but the first."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    return full.detach().to("cpu", copy=True).contiguous() if is_first else None


def cut_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This worker's share of a whole tensor, which each of them has; itself where `like` isn't cut, or of another
    shape."""
    if not isinstance(like, DTensor) or like.shape != tensor.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
