"""A key-value cache that is written in place, and the attention of one new token over it.

transformers' own dynamic cache grows by concatenation: every step copies all of it, and each step's new size leaves the
allocator another hole. Here a layer keeps ROOM columns ahead and copies only when they are used up. Its attention
repeats no keys and values: with grouped heads (GQA) the query heads of a group are one small matrix product.
Layers that are not plain dynamic ones (sliding windows) keep transformers' way.
"""

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ROOM = 256
"""Columns that a layer allocates ahead."""
ATTENTION = "grouped_decode"


class InPlaceLayer(DynamicLayer):
    """`keys` and `values`, [rows, heads, columns, head size], are views of larger tensors."""

    keys: torch.Tensor
    values: torch.Tensor
    _stores: list[torch.Tensor]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.replace(key_states, value_states)
            return self.keys, self.values
        start, end = self.keys.shape[2], self.keys.shape[2] + key_states.shape[2]
        if end > self._stores[0].shape[2]:
            self.replace(self.keys, self.values, room=ROOM + key_states.shape[2])
        for store, states in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, start:end] = states
        self.keys, self.values = (store[:, :, :end] for store in self._stores)
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor, room: int = ROOM) -> None:
        """Hold a copy of these, with room behind them."""
        columns = keys.shape[2]
        self._stores = [torch.nn.functional.pad(states, (0, 0, 0, room)) for states in (keys, values)]
        self.keys, self.values = (store[:, :, :columns] for store in self._stores)


def bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of the cache, for one token of one row."""
    config = model.config.get_text_config(decoder=True)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize


def in_place_cache(config: PreTrainedConfig) -> DynamicCache:
    cache = DynamicCache(config=config)
    cache.layers = [InPlaceLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def repeated(cache: DynamicCache, counts: torch.Tensor) -> None:
    """Each row as often as `counts` [rows] says."""
    for layer in cache.layers:
        _replace(layer, *(states.repeat_interleave(counts, 0) for states in (layer.keys, layer.values)))


def joined(cache: DynamicCache, new: DynamicCache, columns: int) -> None:
    """Append the rows of `new`, both padded left to `columns`."""
    for old, other in zip(cache.layers, new.layers, strict=True):
        pairs = ((old.keys, other.keys), (old.values, other.values))
        _replace(old, *(torch.cat([_pad_left(states, columns) for states in pair]) for pair in pairs))


def kept(cache: DynamicCache, rows: torch.Tensor, first: int) -> None:
    """These rows only, without the columns before `first`."""
    for layer in cache.layers:
        _replace(layer, *(states[rows, :, first:] for states in (layer.keys, layer.values)))


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Make the model decode with `grouped_decode`; whole prompts still go through torch's own attention."""
    AttentionInterface.register(ATTENTION, grouped_decode)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)


def grouped_decode(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of new tokens over the cache, for grouped heads.

    query: [rows, heads, queries, head size]; key, value: [rows, key heads, columns, head size]; mask: bool
    [rows, 1, queries, columns]. Returns [rows, queries, heads, head size]."""
    rows, heads, queries, size = query.shape
    if queries > 1 or key.shape[1] == heads:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    grouped = query.view(rows, key.shape[1], heads // key.shape[1], size)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * (scaling or size**-0.5)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    output = torch.matmul(scores.softmax(dim=-1).to(value.dtype), value)
    return output.view(rows, 1, heads, size), None


def _replace(layer: Any, keys: torch.Tensor, values: torch.Tensor) -> None:
    if isinstance(layer, InPlaceLayer):
        layer.replace(keys, values)
    else:
        layer.keys, layer.values = keys, values


def _pad_left(states: torch.Tensor, columns: int) -> torch.Tensor:
    """states: [rows, heads, columns, head size] -> the same with `columns` columns."""
    return torch.nn.functional.pad(states, (0, 0, columns - states.shape[2], 0))
