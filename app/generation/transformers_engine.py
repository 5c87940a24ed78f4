"""Drawing completions with transformers: continuous batching over one KV cache, log-probabilities on the way.

A batch is kept full: finished rows leave the cache a quarter of the batch at a time, and when half of the rows are
free, waiting ones are prefilled together (each prompt once, whatever its samples) and join, as many as the cache's
share of the memory allows. That keeps the matrix products wide, where `model.generate` carries every row until the last
one ends. No forward pass has more than generation.max_num_batched_tokens tokens: the rest joins in later ones, and the
rows that are there draw a token in between. Rows are made as they join, so memory does not grow with the samples. An
adapter is merged into a freshly loaded base, because unmerged LoRA halves decoding speed on a CPU; changing the adapter
therefore costs one load. Runs without Ray; `actors.generator` is its shell.

Every engine: prompt and completion together have at most generation.max_model_len tokens. A completion that meets
the limit ends there; a prompt that leaves no room gives an empty draft of 0 tokens with FinishReason.LENGTH.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from app.errors import UserError
from app.generation.batching import Row, Waiting
from app.generation.dealing import in_order
from app.generation.decoding import DecodeState
from app.generation.kv_cache import bytes_per_token, use_grouped_attention
from app.generation.scoring import Pair, check_scored, log_probabilities
from app.models.adapters import adapter_version, check_adapter, load_merged
from app.models.base import ensure_model, load_tokenizer
from app.prompting.turn_ends import stop_ids
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings


class TransformersEngine:
    """An implementation of `records.Generator`."""

    def __init__(self, model: ModelSettings, settings: GenerationSettings) -> None:
        require_card(settings)
        # The cache's size changes all the time; fixed segments leave holes that fill the card.
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
        self._settings = model
        self._folder = ensure_model(model)
        self._device = torch.device("cuda", 0) if settings.use_gpu else torch.device("cpu")
        self._batch_size = min(settings.batch_size, settings.max_num_batched_tokens)
        self.max_tokens = settings.max_num_batched_tokens
        """The most tokens of a forward pass. A caller whose card runs out of memory may lower it between two calls."""
        self._max_model_len = settings.max_model_len
        self._cache_bytes = settings.kv_cache_bytes
        self._tokenizer = load_tokenizer(self._folder)
        self._pieces: dict[int, str] = {}
        self._model: Any = None
        self._loaded: tuple[str, tuple[int, ...]] | None = None
        """The adapter, and its version, that the model holds."""

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        return in_order(prompts, self.stream(prompts, sampling, adapter=adapter))

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        self._load(adapter)
        tokenised = [(prompt, self._tokenise(prompt.text)) for prompt in prompts]
        yield from no_room(tokenised, self._limit, sampling, adapter)
        waiting = Waiting(self._rows(tokenised, sampling), self._batch_size, self._cache_tokens, self.max_tokens)
        rows: list[Row] = []
        full, is_filling = 0, True
        state = DecodeState(self._model, self._device, self._pad_id, self.max_tokens)
        # A consumer may do torch work of its own between two drafts: the mode must not reach it.
        while True:
            with torch.inference_mode():
                if rows:
                    state.step()
                if is_filling or len(rows) <= full // 2:
                    joining, is_filling = waiting.joining(len(rows), state.columns)
                    self._join(state, joining)
                    rows += joining
                    full = len(rows) if joining else full
                if not rows:
                    return
                self._draw(rows, state, sampling)
                finished = [draft for row in rows if row.open and (draft := self._finish(row, sampling))]
                kept = [index for index, row in enumerate(rows) if row.open]
                if len(kept) <= 0.75 * len(rows):  # each time copies the cache
                    state.keep(kept)
                    rows = [rows[index] for index in kept]
            yield from finished

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        ids = [(self._tokenise(prompt), self._tokenise(completion)) for prompt, completion in pairs]
        return self.score_ids(ids, adapter=adapter)

    def score_ids(self, pairs: Sequence[Pair], *, adapter: str = "") -> list[list[float]]:
        self._load(adapter)
        check_scored(pairs, self._limit)
        return log_probabilities(
            self._model, pairs, batch_size=self._batch_size, max_tokens=self.max_tokens, pad_id=self._pad_id
        )

    def sleep(self) -> None:
        self._model = self._loaded = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _load(self, adapter: str) -> None:
        """Make the base model, or base and adapter merged, the current model."""
        wanted = adapter_version(adapter)
        if wanted == self._loaded:
            return
        if adapter:
            check_adapter(Path(adapter), self._folder)
        self._model = self._loaded = None  # frees the memory, and a load that fails leaves nothing half there
        self._model = model = load_merged(self._folder, self._settings, self._device, adapter)
        use_grouped_attention(model)
        self._cache_tokens = self._cache_bytes // bytes_per_token(model)
        self._loaded = wanted
        self._limit = min(self._max_model_len, model.config.max_position_embeddings)
        configs = (model.config.get_text_config(decoder=True), model.generation_config)
        self._stop_ids = stop_ids(self._tokenizer, *(getattr(config, "eos_token_id", None) for config in configs))
        self._pad_id = self._tokenizer.pad_token_id or 0

    def _tokenise(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def _rows(self, tokenised: list[tuple[Prompt, list[int]]], sampling: Sampling) -> Iterator[Row]:
        """Rows to draw, the longest prompts first: alike lengths pad each other least."""
        for prompt, ids in sorted(tokenised, key=lambda pair: -len(pair[1])):
            room = min(sampling.max_new_tokens, self._limit - len(ids))
            if room > 0:
                for sample in prompt.samples:
                    yield Row(prompt, sample, ids, sample_seed(sampling, prompt, sample), room)

    def _join(self, state: DecodeState, rows: list[Row]) -> None:
        if rows:
            groups = [(ids, len(list(group))) for ids, group in groupby(rows, key=lambda row: row.prompt_ids)]
            state.join([ids for ids, _ in groups], [count for _, count in groups])

    def _draw(self, rows: list[Row], state: DecodeState, sampling: Sampling) -> None:
        """Append one token to each row."""
        hot = sampling.temperature > 0
        seeds = [(row.seed + len(row.ids) * 0x9E3779B97F4A7C15) & (2**64 - 1) for row in rows] if hot else ()
        for row, token, logprob in zip(rows, *state.choose(sampling, seeds), strict=True):
            if row.open:
                row.ids.append(token)
                row.logprobs.append(logprob)

    def _finish(self, row: Row, sampling: Sampling) -> Draft | None:
        """The draft, if the row's last token ended it."""
        ended = row.ids[-1] in self._stop_ids
        if not ended and len(row.ids) < row.room and not self._may_stop(row, sampling.stop):
            return None
        text = self._tokenizer.decode(row.ids[: -1 if ended else None], skip_special_tokens=True)
        text, stopped = cut_at_stop(text, sampling.stop)
        if not stopped and not ended and len(row.ids) < row.room:
            return None
        row.open = False
        return Draft(
            problem_id=row.prompt.id,
            text=text,
            num_prompt_tokens=len(row.prompt_ids),
            num_tokens=len(row.ids),
            mean_logprob=sum(row.logprobs) / len(row.ids),
            finish_reason=FinishReason.STOP if ended or stopped else FinishReason.LENGTH,
            adapter=self._loaded[0] if self._loaded else "",
            seed=sampling.seed,
            sample=row.sample,
            token_ids=tuple(row.ids),
            token_logprobs=tuple(row.logprobs),
        )

    def _may_stop(self, row: Row, stops: Sequence[str]) -> bool:
        """Whether the row's last characters hold a stop text. Decoding every row whole at every step would cost more
        than the model; characters that span tokens may be missed here and are found at the row's end."""
        if not stops:
            return False
        piece = self._piece(row.ids[-1])
        row.tail = row.tail[-max(map(len, stops)) :] + piece
        return any(stop in row.tail for stop in stops)

    def _piece(self, token: int) -> str:
        """What a token adds to a text: decoded after another one, because some tokenizers drop a leading space."""
        if token not in self._pieces:
            before = self._tokenise("a")
            whole = self._tokenizer.decode([*before, token], skip_special_tokens=True)
            self._pieces[token] = whole[len(self._tokenizer.decode(before, skip_special_tokens=True)) :]
        return self._pieces[token]


def require_card(settings: GenerationSettings) -> None:
    if settings.use_gpu and not torch.cuda.is_available():
        raise UserError("generation.use_gpu=true but torch sees no card: set it to false or choose another --profile")


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop text, and whether there was one."""
    cuts = [position for stop in stops if (position := text.find(stop)) >= 0]
    return text[: min(cuts, default=len(text))], bool(cuts)


def sample_seed(sampling: Sampling, prompt: Prompt, sample: int) -> int:
    """64 bits for the random stream of one draft."""
    return int.from_bytes(hashlib.sha256(f"{sampling.seed}:{prompt.id}:{sample}".encode()).digest()[:8], "big")


def no_room(
    tokenised: Sequence[tuple[Prompt, list[int]]], limit: int, sampling: Sampling, adapter: str
) -> Iterator[Draft]:
    """The empty drafts of prompts that leave no room for a token."""
    for prompt, ids in tokenised:
        if len(ids) >= limit:
            for sample in prompt.samples:
                yield Draft(
                    problem_id=prompt.id,
                    text="",
                    num_prompt_tokens=len(ids),
                    num_tokens=0,
                    mean_logprob=0.0,
                    finish_reason=FinishReason.LENGTH,
                    adapter=adapter,
                    seed=sampling.seed,
                    sample=sample,
                )
