"""What a decoding step does on the device: the batch's cache, and the choice of each row's next token.

The cache is `app.generation.kv_cache`'s. Nothing of vocabulary size leaves the device: a step ends in one transfer of
two numbers a row. Randomness is a hash of (row's seed, token id), so a row's stream depends neither on the rows beside
it nor on the kind of device. Limits: decoder-only models with a growing key-value cache per layer.
"""

from collections.abc import Sequence

import torch
from transformers import DynamicCache, PreTrainedModel

from app.generation.kv_cache import in_place_cache, joined, kept, repeated
from app.records import Sampling


class DecodeState:
    """The rows of a batch on the device: cache, attention mask, logits of the next token, last tokens. Padded left."""

    def __init__(self, model: PreTrainedModel, device: torch.device, pad_id: int, max_tokens: int) -> None:
        """max_tokens: of a forward pass over prompts that join together."""
        self._model, self._device, self._pad_id, self._max_tokens = model, device, pad_id, max_tokens
        self._last_position = model.config.get_text_config(decoder=True).max_position_embeddings - 1
        self._cache: DynamicCache | None = None
        self._mask = torch.empty(0)
        self._tokens = torch.empty(0)
        self.logits = torch.empty(0)

    @property
    def columns(self) -> int:
        """Tokens that the cache holds of each row, padding included."""
        return self._mask.shape[1] if self._cache is not None else 0

    def step(self) -> None:
        """Feed each row the token that was chosen for it."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self.logits = self._forward(self._tokens[:, None], self._mask, self._cache)

    def join(self, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        """Prefill prompts and append as many rows of each as `copies` says to the batch.

        Prompts that have more than max_tokens together, padded to the longest, go in parts.
        """
        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad_id] * (width - len(p)) + list(p) for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        cache = in_place_cache(self._model.config)
        size = max(1, self._max_tokens // len(prompts))
        for start in range(0, width, size):
            logits = self._forward(ids[:, start : start + size], mask[:, : start + size], cache)
        if max(copies) > 1:
            repeats = torch.tensor(copies, device=self._device)
            logits, mask = logits.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0)
            repeated(cache, repeats)
        if self._cache is None:
            self._cache, self._mask, self.logits = cache, mask, logits
            return
        columns = max(width, self._mask.shape[1])
        joined(self._cache, cache, columns)
        pad = torch.nn.functional.pad
        self._mask = torch.cat([pad(m, (columns - m.shape[1], 0)) for m in (self._mask, mask)])
        self.logits = torch.cat([self.logits, logits])

    def choose(self, sampling: Sampling, seeds: Sequence[int]) -> tuple[list[int], list[float]]:
        """The next token of each row and its log-probability under the unscaled distribution."""
        self._tokens, logprobs = choose(self.logits, sampling, seeds)
        tokens, values = torch.stack((self._tokens.double(), logprobs.double())).tolist()  # one transfer for both
        return [int(token) for token in tokens], values

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these, and the columns that only they needed."""
        if not rows:
            self._cache = None
            return
        index = torch.tensor(rows, dtype=torch.long, device=self._device)
        self._mask, self.logits, self._tokens = self._mask[index], self.logits[index], self._tokens[index]
        first = int(self._mask.any(dim=0).nonzero()[0])
        self._mask = self._mask[:, first:]
        assert self._cache is not None
        kept(self._cache, index, first)

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache | None) -> torch.Tensor:
        # The maximum: rows that have finished there go on until they leave the batch, and some models look it up.
        positions = (mask.cumsum(dim=1) - 1).clamp(0, self._last_position)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


def choose(logits: torch.Tensor, sampling: Sampling, seeds: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [rows] and their log-probabilities [rows] from logits [rows, vocabulary]; seeds: 64 bits a row.

    The largest p / Exp(1) is distributed as p. Unlike a walk along the cumulative sum it does not turn on the last bits
    of thousands of other probabilities, which differ with the batch that a row happens to share. A token outside the
    nucleus (arXiv 1904.09751) leaves the race and the next one wins, which takes no sorting.
    """
    logits = logits.float()
    if sampling.temperature == 0:
        tokens = logits.argmax(dim=-1)
    else:
        probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
        race = probabilities / exponential_noise(seeds, logits.shape[-1], logits.device)
        tokens = race.argmax(dim=-1)
        while sampling.top_p < 1:
            chosen = probabilities.gather(1, tokens[:, None])
            likelier = torch.where(probabilities > chosen, probabilities, 0).sum(dim=-1, keepdim=True)
            outside = (likelier >= sampling.top_p) & (likelier > 0)
            if not outside.any():
                break
            race.scatter_(1, tokens[:, None], torch.where(outside, 0, race.gather(1, tokens[:, None])))
            tokens = race.argmax(dim=-1)
    return tokens, logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(dim=-1)


def exponential_noise(seeds: Sequence[int], size: int, device: torch.device) -> torch.Tensor:
    """Draw from Exp(1), float32 [rows, size], each row a function of its seed: MurmurHash3's mixing of seed and place.

    A generator of torch for each row would start one kernel a row and step.
    """
    halves = [[_signed(seed & 0xFFFFFFFF), _signed(seed >> 32)] for seed in seeds]
    low, high = torch.tensor(halves, dtype=torch.int32, device=device)[:, :, None].unbind(1)
    bits = torch.arange(size, dtype=torch.int32, device=device) * _signed(0x9E3779B9)
    bits = _mix(_mix(bits ^ low) ^ high)
    return -torch.log1p(-((bits & 0x7FFFFFFF).float() * 2**-31 + 2**-32))


def _mix(bits: torch.Tensor) -> torch.Tensor:
    """fmix32 in place; `>>` of a signed number copies its sign, hence the masks."""
    bits ^= (bits >> 16) & 0xFFFF
    bits *= _signed(0x85EBCA6B)
    bits ^= (bits >> 13) & 0x7FFFF
    bits *= _signed(0xC2B2AE35)
    bits ^= (bits >> 16) & 0xFFFF
    return bits


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word
