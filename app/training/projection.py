"""Linear layers that read the same input, and their LoRA adapters, as one product each way.

q, k and v (or gate and up) become one matrix; their adapters become one A, stacked, and one B, block by block, with the
scale in it. PEFT owns the parameters; A and B of a group are made of them anew by `refresh`, after each optimiser step.
Base weights stay PEFT's as well: those of a group are views of one block of memory.

Where the input is written for the group (`wide`), B lies beside the base weights, [W | B], and x A^T beside x: one
product over a slightly longer row gives x W^T + x A^T B^T, and the adapter costs no pass over the output, which for
gate and up is three times as wide as the input.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class Projection:
    """A group. Made by `app.training.fused`; lora_layers: PEFT's LoRA linear layers, without dropout."""

    def __init__(self, lora_layers: list[Any], workspace: dict[tuple[int, int], Tensor], *, wide: bool = False) -> None:
        self.layers = lora_layers
        self._bases = [layer.get_base_layer() for layer in lora_layers]
        self._workspace = workspace
        self.sizes = [base.out_features for base in self._bases]
        self.in_features = self._bases[0].in_features
        self._ranks = sum(map(_rank, lora_layers))
        self.is_packed = any(hasattr(base.weight, "quant_state") for base in self._bases)
        self._is_wide = wide and not self.is_packed and (self.in_features + self._ranks) % 8 == 0
        biases = [base.bias for base in self._bases]
        self._bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])
        first, device = self._bases[0].weight, _ab(lora_layers[0])[0].device
        self._dtype = first.quant_state.dtype if self.is_packed else first.dtype
        if not self.is_packed:
            self._stacked = self._stack(device)
        self._a = torch.empty(self._ranks, self.in_features, dtype=self._dtype, device=device)
        self._b = torch.zeros(sum(self.sizes), self._ranks, dtype=self._dtype, device=device)
        if self._is_wide:
            self._b = self._stacked[:, self.in_features :]
        refresh([self])

    @property
    def parameters(self) -> list[Tensor]:
        """A and B of each layer in turn: float32 [rank, in] and [out, rank]."""
        return [weight for layer in self.layers for weight in _ab(layer)]

    @property
    def weight(self) -> Tensor:
        """The base weights, [out, in]; of a 4-bit base a workspace that the next group of this shape overwrites."""
        if not self.is_packed:
            return self._stacked[:, : self.in_features]
        from bitsandbytes.functional import dequantize_4bit

        shape = (sum(self.sizes), self.in_features)
        if shape not in self._workspace:
            self._workspace[shape] = torch.empty(shape, dtype=self._dtype, device=self._a.device)
        whole = self._workspace[shape]
        for base, part in zip(self._bases, whole.split(self.sizes), strict=True):
            dequantize_4bit(base.weight, base.weight.quant_state, out=part)
        return whole

    def places(self) -> Iterator[tuple[Tensor, Tensor, Any]]:
        """Where each parameter goes: (part of the group's A or B, parameter, scale)."""
        column = row = 0
        for layer, size in zip(self.layers, self.sizes, strict=True):
            a, b = _ab(layer)
            yield self._a[column : column + len(a)], a, 1.0
            yield self._b[row : row + size, column : column + len(a)], b, _scale(layer)
            column, row = column + len(a), row + size

    def room(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Memory for `forward`, and the part of it, [tokens, in], where the input goes."""
        room = torch.empty(
            tokens, self.in_features + self._ranks * self._is_wide, dtype=self._dtype, device=self._a.device
        )
        return room, room[:, : self.in_features]

    def forward(self, room: Tensor) -> tuple[Tensor, Tensor]:
        """The output [tokens, out] of `room`, filled with the input, and x A^T [tokens, ranks], which `grad_parameters`
        needs."""
        if not self._is_wide:
            low = room @ self._a.t()
            return self._base_product(room, self.weight).addmm_(low, self._b.t()), low
        low = room[:, self.in_features :]
        torch.mm(room[:, : self.in_features], self._a.t(), out=low)
        return self._base_product(room, self._stacked), low.clone()  # a view would keep the room

    def forward_onto(self, x: Tensor, total: Tensor) -> Tensor:
        """Add the group's output to `total`, [tokens, out], in place; return x A^T."""
        low = x @ self._a.t()
        total.addmm_(x, self.weight.t()).addmm_(low, self._b.t())
        if self._bias is not None:
            total += self._bias
        return low

    def _base_product(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.t() if self._bias is None else torch.addmm(self._bias, x, weight.t())

    def grad_low(self, grad: Tensor) -> Tensor:
        """Gradient of x A^T."""
        return grad @ self._b

    def grad_input(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and of x A^T."""
        low = self.grad_low(grad)
        return (grad @ self.weight).addmm_(low, self._a), low

    def grad_parameters(self, grad: Tensor, x: Tensor, low: Tensor, grad_low: Tensor) -> list[Tensor]:
        """Gradients of `parameters`, float32. grad: [tokens, out]; low: x A^T."""
        by_a = _product(grad_low.t(), x)
        by_b = _product(grad.t(), low)
        found: list[Tensor] = []
        column = row = 0
        for layer, size in zip(self.layers, self.sizes, strict=True):
            scale, rank = _scale(layer), _rank(layer)
            found.append(by_a[column : column + rank])
            found.append(by_b[row : row + size, column : column + rank] * scale)
            column, row = column + rank, row + size
        return found

    def _stack(self, device: torch.device) -> Tensor:
        """The stacked weights, [out, in], with room for B beside them in a wide group; the layers' weights become views
        of it."""
        width = self.in_features + self._ranks * self._is_wide
        stacked = torch.zeros(sum(self.sizes), width, dtype=self._dtype, device=device)
        for base, part in zip(self._bases, stacked.split(self.sizes), strict=True):
            part[:, : self.in_features] = base.weight.detach()
            base.weight.data = part[:, : self.in_features]
        return stacked


@torch.no_grad()
def refresh(groups: Sequence[Projection]) -> None:
    """Take the adapters' parameters as they are now. A few calls for all of them: there are hundreds of small ones."""
    targets, sources, scales = zip(*(place for group in groups for place in group.places()), strict=True)
    if all(isinstance(scale, float | int) for scale in scales):
        scaled = torch._foreach_mul(sources, [float(scale) for scale in scales])
    else:
        scaled = tuple(source * scale for source, scale in zip(sources, scales, strict=True))
    for is_dense in (True, False):  # one call for all dense ones; those inside a wider block go one by one
        chosen = [number for number, target in enumerate(targets) if target.is_contiguous() == is_dense]
        if chosen:
            torch._foreach_copy_([targets[number] for number in chosen], [scaled[number] for number in chosen])


def _adapter(layer: Any) -> str:
    return str(layer.active_adapters[0])


def _ab(layer: Any) -> tuple[Tensor, Tensor]:
    name = _adapter(layer)
    return layer.lora_A[name].weight, layer.lora_B[name].weight


def _rank(layer: Any) -> int:
    return len(_ab(layer)[0])


def _scale(layer: Any) -> Any:
    """The adapter's scale: a number, or one for each rank where `app.training.experimental.ranks` switches them,
    [rank]."""
    switch = getattr(layer, "rank_switch", None)
    return layer.scaling[_adapter(layer)] if switch is None else switch.scale(layer.scaling[_adapter(layer)])


def _product(left: Tensor, right: Tensor) -> Tensor:
    """The product left @ right, added up and kept in float32."""
    if left.is_cuda and left.dtype != torch.float32:
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left @ right).float()
