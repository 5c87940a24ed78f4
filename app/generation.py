"""Drawing completions with transformers: continuous batching over one KV cache, log-probabilities on the way.

A batch is kept full: finished rows leave the cache at once, and when half of the rows are free, waiting prompts are
prefilled together and join. That keeps the matrix products wide, where `model.generate` carries every row until the
last one ends. An adapter is merged into a freshly loaded base, because unmerged LoRA halves decoding speed on a CPU;
changing the adapter therefore costs one load. Runs without Ray; `actors.generator` is its shell. Limits: decoder-only
models with a growing key-value cache per layer.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import DynamicCache

from app.errors import UserError
from app.models import ensure_model, load_model, load_tokenizer
from app.prompts import render
from app.records import Draft, FinishReason, Problem, Prompt, Sampling
from app.settings import ModelSettings


@dataclass(slots=True)
class _Row:
    """One completion in the making."""

    prompt: Prompt
    prompt_ids: list[int]
    generator: torch.Generator
    ids: list[int] = field(default_factory=list)
    logprob_sum: float = 0.0


class TransformersEngine:
    """Implements `records.Generator`."""

    def __init__(self, settings: ModelSettings, *, batch_size: int, use_gpu: bool) -> None:
        if use_gpu and not torch.cuda.is_available():
            raise UserError(
                "generation.use_gpu=true but torch sees no card: set it to false or choose another --profile"
            )
        self._settings = settings
        self._folder = ensure_model(settings)
        self._device = torch.device("cuda", 0) if use_gpu else torch.device("cpu")
        self._batch_size = batch_size
        self._tokenizer = load_tokenizer(self._folder)
        self._adapter: str | None = None

    def generate(
        self, requests: Sequence[Problem | Prompt], sampling: Sampling, *, adapter: str = "", protocol: str = "chat"
    ) -> list[Draft]:
        order = {request.id: index for index, request in enumerate(requests)}
        drafts = self.stream(requests, sampling, adapter=adapter, protocol=protocol)
        return sorted(drafts, key=lambda draft: order[draft.problem_id])

    def stream(
        self, requests: Sequence[Problem | Prompt], sampling: Sampling, *, adapter: str = "", protocol: str = "chat"
    ) -> Iterator[Draft]:
        self._load(adapter)
        prompts = [r if isinstance(r, Prompt) else render(r, protocol, self._tokenizer) for r in requests]
        new_rows = [self._new_row(prompt, sampling) for prompt in prompts]
        waiting = deque(sorted(new_rows, key=lambda row: -len(row.prompt_ids)))  # alike lengths pad each other least
        rows: list[_Row] = []
        state = _DecodeState(self._model, self._device, self._pad_id)
        with torch.inference_mode():
            while rows or waiting:
                if rows:
                    state.step([row.ids[-1] for row in rows])
                if waiting and len(rows) <= self._batch_size // 2:
                    joining = [waiting.popleft() for _ in range(min(len(waiting), self._batch_size - len(rows)))]
                    state.join([row.prompt_ids for row in joining])
                    rows += joining
                self._choose(rows, state.logits, sampling)
                finished = {index: draft for index, row in enumerate(rows) if (draft := self._finish(row, sampling))}
                if finished:
                    kept = [index for index in range(len(rows)) if index not in finished]
                    state.keep(kept)
                    rows = [rows[index] for index in kept]
                    for draft in finished.values():
                        yield draft

    def _load(self, adapter: str) -> None:
        """Make the base model, or base and adapter merged, the current model."""
        if adapter == self._adapter:
            return
        if adapter and not (Path(adapter) / "adapter_config.json").is_file():
            raise UserError(f"adapter {adapter!r} is no PEFT folder: it has no adapter_config.json")
        self._model = self._adapter = None  # frees the memory, and a load that fails leaves nothing half there
        model = load_model(self._folder, self._settings, self._device)
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self._model = model.eval()
        self._adapter = adapter
        eos = model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        self._eos_ids = set(eos if isinstance(eos, list) else [eos]) | {self._tokenizer.eos_token_id}
        self._pad_id = self._tokenizer.pad_token_id or self._tokenizer.eos_token_id

    def _new_row(self, prompt: Prompt, sampling: Sampling) -> _Row:
        seed = int.from_bytes(hashlib.sha256(f"{sampling.seed}:{prompt.id}".encode()).digest()[:7], "big")
        ids = self._tokenizer(prompt.text, add_special_tokens=False).input_ids
        return _Row(prompt, ids, torch.Generator().manual_seed(seed))

    def _choose(self, rows: list[_Row], logits: torch.Tensor, sampling: Sampling) -> None:
        """Append one token to each row. logits: [rows, vocabulary]."""
        logprobs = torch.log_softmax(logits.float(), dim=-1).cpu()
        if sampling.temperature == 0:
            chosen = logprobs.argmax(dim=-1).tolist()
        else:
            scaled = torch.softmax(logprobs / sampling.temperature, dim=-1)
            chosen = [
                _sample(probabilities, sampling.top_p, row.generator)
                for probabilities, row in zip(scaled, rows, strict=True)
            ]
        for row, token, row_logprobs in zip(rows, chosen, logprobs, strict=True):
            row.ids.append(token)
            row.logprob_sum += row_logprobs[token].item()

    def _finish(self, row: _Row, sampling: Sampling) -> Draft | None:
        """The draft, if the row's last token ended it."""
        ended = row.ids[-1] in self._eos_ids
        text = None
        if sampling.stop:
            text = self._tokenizer.decode(row.ids, skip_special_tokens=True)
            cuts = [position for stop in sampling.stop if (position := text.find(stop)) >= 0]
            if cuts:
                text, ended = text[: min(cuts)], True
        if not ended and len(row.ids) < sampling.max_new_tokens:
            return None
        return Draft(
            problem_id=row.prompt.id,
            text=self._tokenizer.decode(row.ids, skip_special_tokens=True) if text is None else text,
            num_prompt_tokens=len(row.prompt_ids),
            num_tokens=len(row.ids),
            mean_logprob=row.logprob_sum / len(row.ids),
            finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
            adapter=self._adapter or "",
            seed=sampling.seed,
        )


class _DecodeState:
    """The rows' key-value cache, attention mask [rows, columns] and next logits [rows, vocabulary]; left-padded."""

    def __init__(self, model: torch.nn.Module, device: torch.device, pad_id: int) -> None:
        self._model, self._device, self._pad_id = model, device, pad_id
        self._cache: DynamicCache | None = None
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.logits = torch.empty(0)

    def step(self, tokens: list[int]) -> None:
        """Feed each row its last token."""
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self.logits = self._forward(torch.tensor(tokens, device=self._device)[:, None], self._mask, self._cache)

    def join(self, prompts: list[list[int]]) -> None:
        """Prefill new rows and append them to the batch."""
        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad_id] * (width - len(p)) + p for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        cache = DynamicCache(config=self._model.config)
        logits = self._forward(ids, mask, cache)
        if self._cache is None or not len(self._mask):
            self._cache, self._mask, self.logits = cache, mask, logits
            return
        columns = max(width, self._mask.shape[1])
        for old, new in zip(self._cache.layers, cache.layers, strict=True):
            old.keys = torch.cat([_pad_left(old.keys, columns), _pad_left(new.keys, columns)])
            old.values = torch.cat([_pad_left(old.values, columns), _pad_left(new.values, columns)])
        pad = torch.nn.functional.pad
        self._mask = torch.cat([pad(m, (columns - m.shape[1], 0)) for m in (self._mask, mask)])
        self.logits = torch.cat([self.logits, logits])

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these, and the columns that only they needed."""
        index = torch.tensor(rows, dtype=torch.long, device=self._device)
        self._mask, self.logits = self._mask[index], self.logits[index]
        if not rows:
            self._cache = None
            return
        first = int(self._mask.any(dim=0).nonzero()[0])
        self._mask = self._mask[:, first:]
        assert self._cache is not None
        for layer in self._cache.layers:
            layer.keys = layer.keys[index, :, first:]
            layer.values = layer.values[index, :, first:]

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache | None) -> torch.Tensor:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]


def _pad_left(states: torch.Tensor, columns: int) -> torch.Tensor:
    """states: [rows, heads, columns, head size] -> the same with `columns` columns."""
    return torch.nn.functional.pad(states, (0, 0, columns - states.shape[2], 0))


def _sample(probabilities: torch.Tensor, top_p: float, generator: torch.Generator) -> int:
    """Nucleus sampling (arXiv 1904.09751) from one distribution [vocabulary].

    The largest p / Exp(1) is distributed as p. Unlike a walk along the cumulative sum it does not turn on the last bits
    of thousands of other probabilities, which differ with the batch that a row happens to share.
    """
    if top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        outside = ordered.cumsum(0) - ordered >= top_p
        probabilities = probabilities.clone()
        probabilities[order[outside]] = 0
    return int((probabilities / torch.empty_like(probabilities).exponential_(generator=generator)).argmax())
