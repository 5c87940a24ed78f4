"""Frozen weights that leave the card while another process, or an engine in this one, needs it.

While drafts are drawn the trainer waits, and nothing reads its frozen weights: they are copied into one block of pinned
main memory and emptied where they are, until the trainer goes on. Whole storages move, so that views stay views: fused
layers hold a group's weights as one block, with the adapter's B beside them (`app.training.projection`), which is why
they are copied out each time. Adapters, their moments and what bitsandbytes keeps beside packed weights (a 64th of
them) stay.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class ParkedWeights:
    """A model's frozen weights, on the device or in main memory. Limit: nothing may ask the model while they are
    away."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = model, device
        self._host = torch.empty(0, dtype=torch.uint8)
        self._away: list[tuple[torch.UntypedStorage, Tensor]] = []
        """Emptied storages, each with its bytes."""

    def leave(self) -> None:
        """Give back the device's memory."""
        assert not self._away, "they have left already"
        storages = list(self._storages())
        total = sum(storage.nbytes() for storage in storages)
        if len(self._host) < total:
            self._host = torch.empty(total, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        start = 0
        for storage in storages:
            place = self._host[start : start + storage.nbytes()]
            place.copy_(_bytes_of(storage), non_blocking=True)
            self._away.append((storage, place))
            start += len(place)
        self._wait()
        for storage in storages:
            storage.resize_(0)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def come_back(self) -> None:
        """Fill them again."""
        for storage, place in self._away:
            storage.resize_(len(place))
            _bytes_of(storage).copy_(place, non_blocking=True)
        self._wait()
        self._away = []

    def _storages(self) -> Iterator[torch.UntypedStorage]:
        """Of frozen parameters that are on the device, each once."""
        seen = set[int]()
        for parameter in self._model.parameters():
            storage = parameter.untyped_storage()
            is_here = parameter.device.type == self._device.type and storage.nbytes() and storage.resizable()
            if not parameter.requires_grad and is_here and storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                yield storage

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _bytes_of(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
