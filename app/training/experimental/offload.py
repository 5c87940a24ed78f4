"""Weights that stay in main memory and come to the card layer by layer (`sft.offload`), on accelerate's hooks.

The base's linear weights in the decoder layers are all but a few percent of a model. Each is copied to the card when
its layer runs and let go afterwards. The backward pass needs them once more: under gradient checkpointing it runs a
layer again first, so the card never holds more than one layer of them. Adapters, norms, embeddings and head stay.

accelerate's own `AlignDevicesHook` empties the allocator's cache after every weight it brings, some 400 times a
micro-batch of Qwen3-1.7B, and waits for each copy. The hook here does neither.
"""

from typing import TYPE_CHECKING, Any

import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

if TYPE_CHECKING:
    from peft import PeftModel


def offload(model: "PeftModel", device: torch.device) -> "PeftModel":
    """Tie the weights of a model that lies in main memory to the host, and move the rest to `device`. In place.

    The model must have its adapters already, and run under gradient checkpointing (`lora.attach` sees to both).
    """
    for linear in linears(model):
        add_hook_to_module(linear, FromHost(device))
    for parameter in model.parameters():
        if not parameter.is_meta:
            parameter.data = parameter.data.to(device)
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model


def linears(model: "PeftModel") -> list[Any]:
    """The linear layers under the adapters, in the decoder's order."""
    layers = model.get_base_model().get_decoder().layers
    return [module.get_base_layer() for module in layers.modules() if hasattr(module, "lora_A")]


class FromHost(ModelHook):
    """The hook that brings a linear layer's frozen weight (and bias) for a pass. Between passes the layer holds none,
    on `meta`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.weights: dict[str, torch.Tensor] = {}
        """The weights in main memory; for a card in pinned pages, from which it copies without waiting."""
        self._nothing: dict[str, nn.Parameter] = {}

    def init_hook(self, module: nn.Module) -> nn.Module:
        for name, parameter in module.named_parameters(recurse=False):
            data = parameter.detach()
            self.weights[name] = data.pin_memory() if self._device.type == "cuda" else data
            self._nothing[name] = nn.Parameter(data.to("meta"), requires_grad=False)
        return self.post_forward(module, module)

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        for name, weight in self.weights.items():
            brought = weight.to(self._device, non_blocking=True)
            setattr(module, name, nn.Parameter(brought, requires_grad=False))
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        for name, nothing in self._nothing.items():
            setattr(module, name, nothing)
        return output
