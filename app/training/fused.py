"""A decoder's forward and backward pass written out, for Llama-like models with LoRA: what training spends its time on.

transformers and PEFT run the same layer as some sixty operations, each through memory. Here a layer is ten products
(`projection`), five elementwise passes (`kernels`) and one attention (`attention`). Its backward pass is written by
hand: buffers are used twice, and nothing is kept that isn't needed. What a layer keeps is a setting of its own
(`Keep`): the more is kept, the less is computed again (selective recomputation, Korthikanti et al., arXiv 2205.05198).
The last product of a layer never is.

The model's modules are only read: weights by name, parameters from PEFT. `why_not` says what a model must have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from app.settings import SftSettings
from app.training import kernels
from app.training.attention import Documents, attend, attend_backward, documents_of, to_device, uses_flash
from app.training.projection import Projection, refresh
from app.training.saved_activations import Keep, plain_by_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What all layers need of a batch of packed rows, taken as one row of tokens."""

    documents: Documents
    cos: Tensor
    sin: Tensor
    """[tokens, head_dim]."""


def why_not(model: Any) -> str:
    """Why the PEFT model can't go this way; empty when it can."""
    base = model.get_base_model()
    decoder = base.get_decoder()
    names = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
    for layer in decoder.layers:
        for part, wanted in zip(("self_attn", "mlp"), names, strict=True):
            held = getattr(layer, part, None)
            if held is None or any(not hasattr(held, name) for name in wanted):
                return f"{type(layer).__name__} has no {part} with {', '.join(wanted)}"
            for name in wanted:
                linear = getattr(held, name)
                if not hasattr(linear, "lora_A") or len(linear.active_adapters) != 1:
                    return f"{name} has no LoRA adapter, or several"
                if getattr(linear.lora_dropout[linear.active_adapters[0]], "p", 0.0) > 0:
                    return "LoRA dropout is on (sft.lora_dropout): it asks for a mask of every input"
        if getattr(layer.self_attn, "sliding_window", None):
            return "its attention slides"
    if base.config.hidden_act != "silu":
        return f"its activation is {base.config.hidden_act}"
    embeddings = base.get_input_embeddings().weight
    if embeddings.is_cuda and not uses_flash(embeddings):
        return "attention on a card takes 16-bit types here, on Ampere or later"
    return ""


def why_plain(model: Any, settings: SftSettings) -> str:
    """Why a training under these settings goes the plain way; empty where its layers are fused."""
    return plain_by_settings(settings) or why_not(model)


class FusedDecoder:
    """The decoder of a PEFT model. keep: what each layer keeps; its input, if nothing is said."""

    def __init__(self, model: Any, keep: Sequence[Keep] = ()) -> None:
        if reason := why_not(model):
            raise ValueError(f"no fused layers for this model: {reason}")
        self._base = model.get_base_model()
        self._decoder = self._base.get_decoder()
        if self._decoder.embed_tokens.weight.is_cuda:
            self._leave_card()
        workspace: dict[tuple[int, int], Tensor] = {}
        self.layers = [FusedLayer(layer, self._base.config, workspace) for layer in self._decoder.layers]
        self.keep = keep or [Keep.INPUT] * len(self.layers)

    def _leave_card(self) -> None:
        """Take the layers' weights off the card until they come back stacked in groups: the memory that they leave is
        in pieces too small for a group, and half a gigabyte of it was seen to stay unused."""
        for name, weight in self._decoder.layers.named_parameters():
            if name.endswith("base_layer.weight") and not hasattr(weight, "quant_state"):
                weight.data = weight.data.cpu()
        torch.cuda.empty_cache()

    def refresh(self) -> None:
        """Take the adapters' parameters as they are now: after each step of an optimiser."""
        refresh([group for layer in self.layers for group in layer.groups])

    def __call__(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """The hidden states before the last norm, [rows * seq_len, width], for int64 [rows, seq_len] each."""
        weight = self._decoder.embed_tokens.weight
        documents = documents_of(position_ids.reshape(-1), weight)
        tokens, positions = (to_device(ids.reshape(1, -1), weight.device) for ids in (input_ids, position_ids))
        x = self._decoder.embed_tokens(tokens)[0].detach()
        cos, sin = self._decoder.rotary_emb(x[None], positions)
        packed = Packed(documents=documents, cos=cos[0].contiguous(), sin=sin[0].contiguous())
        for layer, keep in zip(self.layers, self.keep, strict=True):
            x = _Layer.apply(x, layer, packed, keep, *layer.parameters)
        return x


class FusedLayer:
    """A reader of a decoder layer's weights, whose passes are functions of tensors."""

    def __init__(self, layer: Any, config: Any, workspace: dict[tuple[int, int], Tensor]) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv = Projection([attention.q_proj, attention.k_proj, attention.v_proj], workspace, wide=True)
        self.o = Projection([attention.o_proj], workspace)
        self.gate_up = Projection([mlp.gate_proj, mlp.up_proj], workspace, wide=True)
        self.down = Projection([mlp.down_proj], workspace)
        self._norm_1, self._norm_2 = layer.input_layernorm, layer.post_attention_layernorm
        self._dim, self._scale = attention.head_dim, attention.scaling
        self._num_q, self._num_kv = (self.qkv.sizes[number] // self._dim for number in (0, 1))
        self._eps = config.rms_norm_eps
        self._head_norms = None
        if hasattr(attention, "q_norm"):
            pairs = (attention.q_norm, self._num_q), (attention.k_norm, self._num_kv)
            self._head_norms = torch.cat([norm.weight.detach().expand(count, -1) for norm, count in pairs])

    @property
    def groups(self) -> tuple[Projection, ...]:
        return self.qkv, self.o, self.gate_up, self.down

    @property
    def parameters(self) -> list[Tensor]:
        return [weight for group in self.groups for weight in group.parameters]

    def forward(self, x: Tensor, packed: Packed, keep: Keep) -> tuple[Tensor, list[list[Tensor]]]:
        """The layer's output for x, [tokens, width], and what `backward` is to get: a list for each level of `Keep`."""
        qkv, low_qkv = self._qkv(x)
        flat, normaliser = self._attend(qkv, packed)
        attended, low_o = self.o.forward(flat)
        room, normed = self.gate_up.room(len(x))
        middle, _ = kernels.add_rms_norm(x, attended, self._norm_2.weight, self._eps, normed)
        del attended
        gate_up, low_gate_up = self.gate_up.forward(room)
        del room, normed
        y = middle.clone() if keep >= Keep.MIDDLE else middle
        low_down = self.down.forward_onto(kernels.swiglu(gate_up), y)
        kept = [x, low_down], [flat, low_o, *normaliser], [middle], [qkv, low_qkv], [gate_up, low_gate_up]
        return y, list(kept[: keep + 1])

    def backward(
        self, grad: Tensor, kept: list[list[Tensor]], packed: Packed, needs_input: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of the layer's input and of `parameters`. What was not kept is computed again; what was is
        overwritten."""
        keep = Keep(len(kept) - 1)
        x, low_down = kept[Keep.INPUT]
        of_qkv = kept[Keep.ATTENTION] if keep >= Keep.ATTENTION else None
        if keep >= Keep.HEADS:
            flat, low_o, *normaliser = kept[Keep.HEADS]
        else:
            of_qkv = list(self._qkv(x))
            flat, normaliser = self._attend(of_qkv[0], packed)
        room, normed = self.gate_up.room(len(x))
        if keep >= Keep.MIDDLE:
            (middle,) = kept[Keep.MIDDLE]
            scale = kernels.rms_norm(middle, self._norm_2.weight, self._eps, normed)
        else:
            attended, low_o = self.o.forward(flat)
            middle, scale = kernels.add_rms_norm(x, attended, self._norm_2.weight, self._eps, normed)
            del attended
        gate_up, low_gate_up = kept[Keep.ALL] if keep >= Keep.ALL else self.gate_up.forward(room)
        grad_product, grad_low = self.down.grad_input(grad)
        product = kernels.swiglu_backward(grad_product, gate_up)  # gate_up holds its gradient from here on
        of_down = self.down.grad_parameters(grad, product, low_down, grad_low)
        del product, grad_product
        grad_normed, grad_low = self.gate_up.grad_input(gate_up)
        of_gate_up = self.gate_up.grad_parameters(gate_up, normed, low_gate_up, grad_low)
        del gate_up, room, normed
        grad = kernels.rms_norm_backward(grad_normed, middle, scale, self._norm_2.weight, grad)
        del middle, grad_normed
        grad_flat, grad_low = self.o.grad_input(grad)
        of_o = self.o.grad_parameters(grad, flat, low_o, grad_low)
        qkv, low_qkv = of_qkv or self._qkv(x)
        grad_qkv = self._attend_backward(grad_flat, qkv, flat, normaliser, packed)
        grad_x, of_attention = self._qkv_backward(grad_qkv, low_qkv, x, grad, needs_input)
        return grad_x, [*of_attention, *of_o, *of_gate_up, *of_down]

    def _qkv(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product for q, k and v, [tokens, q + k + v], and x A^T of its adapters."""
        room, normed = self.qkv.room(len(x))
        kernels.rms_norm(x, self._norm_1.weight, self._eps, normed)
        return self.qkv.forward(room)

    def _attend(self, qkv: Tensor, packed: Packed) -> tuple[Tensor, list[Tensor]]:
        """The heads' output, [tokens, q], and what the attention's backward pass needs beside it."""
        heads, of_kernel = attend(*self._heads(qkv, packed), packed.documents, self._scale)
        return heads.reshape(len(qkv), -1), list(of_kernel)

    def _heads(self, qkv: Tensor, packed: Packed) -> tuple[Tensor, Tensor, Tensor]:
        """q and k, normed and rotated, and v: [tokens, heads, dim] each."""
        turned = self._num_q + self._num_kv
        rotated = kernels.rotate(qkv, turned, packed.cos, packed.sin, self._head_norms, self._eps)
        v = qkv[:, turned * self._dim :].view(len(qkv), self._num_kv, self._dim)
        return rotated[:, : self._num_q], rotated[:, self._num_q :], v

    def _attend_backward(
        self, grad: Tensor, qkv: Tensor, flat: Tensor, normaliser: list[Tensor], packed: Packed
    ) -> Tensor:
        """Gradient of qkv; grad: of `flat`."""
        shape = (len(qkv), self._num_q, self._dim)
        heads = self._heads(qkv, packed)
        found = attend_backward(
            grad.view(shape), *heads, flat.view(shape), tuple(normaliser), packed.documents, self._scale
        )
        del heads
        return self._heads_backward(*found, qkv, packed)

    def _qkv_backward(
        self, grad: Tensor, low: Tensor, x: Tensor, residual: Tensor, needs_input: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Gradients of the layer's input, where it is asked for, and of the group's parameters."""
        normed = torch.empty_like(x)
        scale = kernels.rms_norm(x, self._norm_1.weight, self._eps, normed)
        if not needs_input:
            return None, self.qkv.grad_parameters(grad, normed, low, self.qkv.grad_low(grad))
        grad_normed, grad_low = self.qkv.grad_input(grad)
        of_qkv = self.qkv.grad_parameters(grad, normed, low, grad_low)
        return kernels.rms_norm_backward(grad_normed, x, scale, self._norm_1.weight, residual), of_qkv

    def _heads_backward(self, by_q: Tensor, by_k: Tensor, by_v: Tensor, qkv: Tensor, packed: Packed) -> Tensor:
        """Gradient of qkv, [tokens, q + k + v], from those of q, k and v."""
        out = torch.empty_like(qkv)
        ends = [self._num_q * self._dim, (self._num_q + self._num_kv) * self._dim]
        norms = (None, None) if self._head_norms is None else self._head_norms.split([self._num_q, self._num_kv])
        for grad, place, norm in zip((by_q, by_k), (slice(0, ends[0]), slice(*ends)), norms, strict=True):
            table = (packed.cos, packed.sin)
            kernels.rotate_backward(grad, qkv[:, place], grad.shape[1], *table, norm, self._eps, out[:, place])
        out[:, ends[1] :] = by_v.reshape(len(qkv), -1)
        return out


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FusedLayer, packed: Packed, keep: Keep, *parameters: Tensor) -> Tensor:
        y, kept = layer.forward(x, packed, keep)
        ctx.save_for_backward(*(tensor for tensors in kept for tensor in tensors))
        ctx.held = layer, packed, list(map(len, kept))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        layer, packed, counts = ctx.held
        tensors = iter(ctx.saved_tensors)
        kept = [[next(tensors) for _ in range(count)] for count in counts]
        del tensors
        grad_x, of_parameters = layer.backward(grad.contiguous(), kept, packed, ctx.needs_input_grad[0])
        return (grad_x, None, None, None, *of_parameters)
