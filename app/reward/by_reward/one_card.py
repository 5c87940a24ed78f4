"""A card that engine and trainer have in turns, or at once, as the training's loop sees it."""

from collections.abc import Callable
from typing import Any

import torch

from app.records import Generator
from app.training.parked import ParkedWeights


def turns(model: Any, device: torch.device, generator: Generator) -> tuple[Callable[[], None], Callable[[], None]]:
    """What gives the card to the engine, and what gives it back to the trainer."""
    parked = ParkedWeights(model, device)

    def to_trainer() -> None:
        generator.sleep()
        parked.come_back()

    return parked.leave, to_trainer


def stay() -> None:
    """Both have room at once."""
