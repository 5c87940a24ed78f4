"""TrainState: what a training goes on from. Whole tensors, however it was cut over workers: so it can go on with
another number of them, and under ddp or fsdp alike.

The folder: adapter/ (PEFT's), optimiser.safetensors (NUMBER.NAME: the parameter's, and the optimiser's own),
state.json, and with data dropout documents.safetensors.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from app.models.adapters import CONFIG, WEIGHTS
from app.training import lora
from app.training.experimental.data_dropout import Difficulty, Trained
from app.training.optimiser import fill_8bit, is_8bit
from app.training.parallel import cut_like, from_all_ranks, whole

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER, MOMENTS, PROGRESS, DOCUMENTS = "adapter", "optimiser.safetensors", "state.json", "documents.safetensors"


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a training has come. Kept by `loop.train`."""

    step: int = 0
    epoch: int = 0
    epoch_start: int = 0
    """The epoch's first step."""
    tokens: int = 0
    effective_epochs: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """A training's state, made by `gather`. The first worker uses it; the others hold no tensors."""

    model: "PeftModel"
    adapter: dict[str, torch.Tensor]
    """The adapter's weights by the parameter's name in the model; in main memory."""
    moments: dict[str, torch.Tensor]
    progress: Progress
    difficulty: Difficulty | None
    documents: list[dict[int, Trained]]
    """What the epoch has found so far, worker by worker."""

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        lora.save(self.model, folder / ADAPTER, self.adapter)
        save_file(self.moments, folder / MOMENTS)
        if self.difficulty is not None:
            self.difficulty.save(folder / DOCUMENTS, self.documents)
        (folder / PROGRESS).write_text(json.dumps(asdict(self.progress)))


def gather(
    model: "PeftModel", optimiser: torch.optim.Optimizer, progress: Progress, difficulty: Difficulty | None
) -> TrainState:
    """The state of a training. Every worker has to call it: where weights are cut, each sends its share to the
    others."""
    moments = {
        f"{number}.{name}": torch.as_tensor(value)
        for number, parameter in enumerate(_parameters(optimiser))
        for name, value in optimiser.state.get(parameter, {}).items()
    }
    return TrainState(
        model=model,
        adapter=_whole({name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}),
        moments=_whole(moments),
        progress=progress,
        difficulty=difficulty,
        documents=from_all_ranks(difficulty.fresh) if difficulty is not None else [],
    )


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a TrainState as it was written: a machine that went down may have left files empty or cut
    off. Only the headers of its tensors are read."""
    from safetensors import SafetensorError, safe_open

    with contextlib.suppress(OSError, ValueError, TypeError, SafetensorError):
        Progress(**json.loads((folder / PROGRESS).read_text()))
        json.loads((folder / ADAPTER / CONFIG).read_text())
        documents = [folder / DOCUMENTS] if (folder / DOCUMENTS).exists() else []
        for file in (folder / ADAPTER / WEIGHTS, folder / MOMENTS, *documents):
            with safe_open(file, framework="numpy"):
                pass
        return True
    return False


def start_anew(folder: Path) -> None:
    """Write what makes a TrainState of a folder with an adapter, from which a training takes its first step: no moments
    and no progress. `restore` accepts it for any optimiser, but not with data dropout."""
    from safetensors.torch import save_file

    save_file({}, folder / MOMENTS)
    (folder / PROGRESS).write_text(json.dumps(asdict(Progress())))


def restore_adapter(model: "PeftModel", folder: Path) -> None:
    """Load the saved adapter, before the model is cut over workers."""
    lora.restore(model, folder / ADAPTER)


def restore(optimiser: torch.optim.Optimizer, difficulty: Difficulty | None, folder: Path) -> Progress:
    """Load everything but the adapter, after the model is cut: each worker takes its share of the moments."""
    from safetensors.torch import load_file

    parameters = _parameters(optimiser)
    moments: dict[int, dict[str, Any]] = {}
    for key, tensor in load_file(folder / MOMENTS).items():
        number, _, name = key.partition(".")
        moments.setdefault(int(number), {})[name] = cut_like(tensor, parameters[int(number)])
    if is_8bit(optimiser):
        fill_8bit(optimiser, moments)
    else:
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    if difficulty is not None:
        difficulty.load(folder / DOCUMENTS)
    return Progress(**json.loads((folder / PROGRESS).read_text()))


def _whole(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    gathered = ((name, whole(tensor)) for name, tensor in tensors.items())
    return {name: tensor for name, tensor in gathered if tensor is not None}


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
