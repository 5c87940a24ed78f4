"""What a training step takes of a card, from the model's config alone, and what its layers may keep within a limit.

Counted for the fused layers (`fused`): weights, adapters with their gradients and Adam's two moments, what the layers
keep of a micro-batch, and the larger of two peaks: the loss over a chunk of logits, or the backward pass of the last
layer. Sizes are bytes unless a name says otherwise. The CUDA context is not counted: the card's driver takes it
before the first tensor.
"""

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.models.sizes import BYTES, GIB, NF4_BYTES
from app.settings import ModelSettings, SftSettings
from app.training.saved_activations import Keep

if TYPE_CHECKING:
    import torch

SEGMENTS = "expandable_segments:True"
"""Of torch's allocator in a training process: blocks of many sizes come and go, and none is to leave a hole. Without it
weights that transformers loads are cut from one block, which is given back only when all of them are gone."""
ALLOCATOR = dict.fromkeys(("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"), SEGMENTS)
"""The same as the environment of a process that is yet to start."""
RESERVED = 1.04
"""What the allocator takes for what is asked of it; measured, see docs/training.md."""
PLAIN_RESERVED = 1.10
"""The same where layers are transformers' and PEFT's own: many small tensors of many sizes."""
MOMENTS = {"adamw": 8, "paged_adamw_8bit": 2 + 8 / 256}
"""Bytes a parameter of Adam's two moments; in 8 bits each block of 256 has a float32 scale."""
CUBLAS = 2 * 32 << 20
"""Workspaces of the matrix products."""
CONTEXT_GIB = 0.4
"""What the driver takes for a process before its first tensor; taken for this, not measured."""


def use_segments() -> None:
    """Have this process' allocator take them from now on. Its environment comes too late where the card has been
    touched before, as Ray Train's workers do: the trainer of a 1.5B model kept 1.7 GiB whose tensors had left
    (docs/log)."""
    import torch

    # The first is what newer releases of torch name in place of the second.
    setter = getattr(torch._C, "_accelerator_setAllocatorSettings", None) or torch.cuda.memory._set_allocator_settings
    # What the text leaves out torch puts back to its default, so all that was asked of this process is said again.
    held = next((os.environ[name] for name in ALLOCATOR if os.environ.get(name)), "")
    others = [part for part in held.split(",") if part and part.partition(":")[0].strip() != "expandable_segments"]
    setter(",".join([*others, SEGMENTS]))


def give_back() -> None:
    """Give what this process holds of a card and no longer uses back to the others. A model holds itself in circles, so
    that it is there until they are looked for."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Widths of a decoder, in numbers a token. Made by `shape_of`."""

    layers: int
    width: int
    queries: int
    """Width of q; k and v have `keys` each."""
    keys: int
    heads: int
    inner: int
    """Width of gate, and of up."""
    vocabulary: int
    is_tied: bool

    @property
    def groups(self) -> list[tuple[int, int, int]]:
        """The products of a layer: (in, out, linear layers) of each."""
        q, k, w, i = self.queries, self.keys, self.width, self.inner
        return [(w, q + 2 * k, 3), (q, w, 1), (w, 2 * i, 2), (i, w, 1)]

    @property
    def linear(self) -> int:
        """Parameters of the layers' products."""
        return self.layers * sum(n_in * n_out for n_in, n_out, _ in self.groups)

    @property
    def others(self) -> int:
        """Embeddings, head and norms."""
        return self.vocabulary * self.width * (1 if self.is_tied else 2) + (2 * self.layers + 1) * self.width

    def adapter(self, rank: int) -> int:
        """Parameters of an adapter on all products."""
        return self.layers * rank * sum(n_in * count + n_out for n_in, n_out, count in self.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMemory:
    """Bytes of one training process. Made by `step_memory`."""

    weights: int
    adapters: int
    """Parameters, gradients, Adam's moments, and their copies for the products."""
    kept: int
    working: int
    """The larger of the loss and a layer's backward pass."""
    reserved: float = RESERVED

    @property
    def total(self) -> int:
        return int((self.weights + self.adapters + self.kept + self.working) * self.reserved) + CUBLAS

    def __str__(self) -> str:
        parts = {"weights": self.weights, "adapters": self.adapters, "kept": self.kept, "working": self.working}
        said = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
        return f"{self.total / GIB:.2f} GiB ({said})"


def shape_of(config: Any) -> Shape:
    """The shape of a Llama-like model, by transformers' config of it."""
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        queries=config.num_attention_heads * dim,
        keys=config.num_key_value_heads * dim,
        heads=config.num_attention_heads,
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        is_tied=config.tie_word_embeddings,
    )


def step_memory(shape: Shape, model: ModelSettings, sft: SftSettings, seq_len: int, keep: Sequence[Keep]) -> StepMemory:
    """Memory of a micro-batch of rows of seq_len tokens; keep: one for each layer."""
    tokens, number = sft.micro_batch * seq_len, BYTES[model.dtype]
    weights, workspace = float(shape.linear * number), 0
    if model.quantization == "nf4":
        weights = shape.linear * NF4_BYTES
        workspace = number * sum(n_in * n_out for n_in, n_out, _ in shape.groups)
    kept = sum(sum(_kept(shape, sft.lora_r, number)[: level + 1]) for level in keep)
    width, inner = shape.width, shape.inner
    loss = tokens * 4 * width * number + min(sft.loss_chunk, tokens) * shape.vocabulary * number
    backward = tokens * (3 * width + 2 * (shape.queries + shape.keys) + 3 * inner) * number
    return StepMemory(
        weights=int(weights + workspace + shape.others * number),
        adapters=int(shape.adapter(sft.lora_r) * (4 + 4 + MOMENTS[sft.optimiser] + number)),
        kept=tokens * (kept + width * number),  # and what the last layer gave
        working=max(loss, backward),
    )


def plain_step_memory(shape: Shape, model: ModelSettings, sft: SftSettings, seq_len: int) -> StepMemory:
    """Memory of the same step through transformers' and PEFT's layers: 0.8 to 14 % above what H200s' allocators
    reserved in six settings (tests/unit/training/test_memory.py)."""
    tokens, number = sft.micro_batch * seq_len, BYTES[model.dtype]
    w, q, k, i = shape.width, shape.queries, shape.keys, shape.inner
    linear = shape.linear * (NF4_BYTES if model.quantization == "nf4" else number)
    others, trained = float(shape.others * number), shape.adapter(sft.lora_r) * (4 + 4 + MOMENTS[sft.optimiser])
    if sft.offload:
        linear *= 2 / shape.layers
    elif sft.parallelism == "fsdp" and sft.num_workers > 1:
        # shares; whole are a layer, the next one, and embeddings and head, which stay so until the step's end
        linear = linear / sft.num_workers + linear * 2 / shape.layers
        others += others / sft.num_workers
        # gradients are cut with a step's last micro-batch only
        trained = trained / sft.num_workers + shape.adapter(sft.lora_r) * 4 * (1 + 2 / shape.layers)
    inputs = sum(n_in * count for n_in, _, count in shape.groups)
    outputs = sum(n_out for _, n_out, _ in shape.groups)
    # of an adapter: its input in float32, what dropout leaves of it and a mask; four float32 outputs on the way
    layer = 9 * inputs + 16 * outputs + 16 * w + number * (2 * q + 2 * k + 2 * i)
    checkpointed = sft.gradient_checkpointing or sft.offload
    logits = min(sft.loss_chunk, tokens) * shape.vocabulary * (2 * number + 12)  # and three float32 copies
    return StepMemory(
        weights=int(linear + others),
        adapters=int(trained),
        kept=tokens * (shape.layers * w * number if checkpointed else (shape.layers - 1) * layer),
        working=int(max(logits + tokens * 6 * w, tokens * layer)),
        reserved=PLAIN_RESERVED,
    )


def choose_keep(shape: Shape, model: ModelSettings, sft: SftSettings, seq_len: int, limit: float) -> list[Keep] | None:
    """The most that layers can keep within `limit` bytes, the best first: every layer gets a level before one gets the
    next. None where even their inputs don't fit."""
    chosen = [Keep.INPUT] * shape.layers
    if step_memory(shape, model, sft, seq_len, chosen).total > limit:
        return None
    for level in list(Keep)[1:]:
        for layer in range(shape.layers):
            raised = [*chosen[:layer], level, *chosen[layer + 1 :]]
            if step_memory(shape, model, sft, seq_len, raised).total > limit:
                return chosen
            chosen = raised
    return chosen


def peak_bytes(device: "torch.device") -> int:
    """The peak since the process' start: what torch has reserved of the card, without one the resident memory."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_reserved(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _kept(shape: Shape, rank: int, number: int) -> list[int]:
    """Bytes a token that each level of `Keep` adds."""
    q, k, w, i = shape.queries, shape.keys, shape.width, shape.inner
    normaliser = 4 * shape.heads
    return [
        number * (w + rank),
        number * (q + rank) + normaliser,
        number * w,
        number * (q + 2 * k + 3 * rank),
        number * (2 * i + 2 * rank),
    ]
