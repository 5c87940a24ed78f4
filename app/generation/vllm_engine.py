"""Drawing completions with vLLM, in this process: the faster engine, for a card and for a CPU alike.

Requests are fed as earlier ones finish, so memory does not grow with the samples; a prompt's samples share its prefill
through vLLM's prefix cache. On a card adapters lie beside the base; each version of a folder goes to vLLM under a
number and a name of its own. Several threads can draw there at the same time, with an adapter each, in one batch.
Without a card an adapter is merged into the weights in place (the same PEFT merge as in
`app.generation.transformers_engine`), because there unmerged LoRA halves decoding speed; who draws with another one
waits. Limits of length, and prompts without room, as there. Runs without Ray; `actors.generator` is its shell.
Limits: a process holds one engine; float32 without a card, because bfloat16 is hundreds of times slower on most CPUs.
Runs with vLLM 0.26 to 0.32.
"""

import importlib.util
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from app.errors import UserError
from app.generation.dealing import in_order
from app.generation.own_garbage import own_garbage
from app.generation.scoring import Pair, check_scored
from app.generation.sharing import Places, Turns
from app.generation.transformers_engine import cut_at_stop, no_room, require_card, sample_seed
from app.generation.vllm_arguments import engine_arguments, for_sharers, length_limit
from app.models.adapters import adapter_version, check_adapter, check_rank, check_servable, load_merged
from app.models.base import ensure_model, load_tokenizer
from app.prompting.turn_ends import stop_ids
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings

QUIET = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # engine and worker in this process: three times as fast on two cores
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""vLLM reads these when it is imported."""

SHARE_ADMITTED = 8
"""On a card requests follow when an eighth of the batch is free."""


class VllmEngine:
    """An implementation of `records.Generator`."""

    def __init__(
        self, model: ModelSettings, settings: GenerationSettings, *, merges: bool | None = None, sharers: int = 1
    ) -> None:
        """merges: whether adapters are merged into the base's weights; None: they are, unless there is a card.
        sharers: threads that draw at the same time, where none is merged, each with an adapter of its own and, where a
        card has room for their logits, as many drafts at once as one alone would have."""
        if importlib.util.find_spec("vllm") is None:
            raise UserError(
                "generation.engine=vllm but vLLM is not installed: run `make setup`, or take "
                "--set generation.engine=transformers"
            )
        require_card(settings)
        if not settings.use_gpu and model.dtype != "float32":
            raise UserError(
                f"model.dtype={model.dtype} with vLLM and no card: it is hundreds of times slower on most CPUs, so set "
                "model.dtype=float32"
            )
        os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
        self._model, self._folder = model, ensure_model(model)
        self._merges = not settings.use_gpu if merges is None else merges
        self._num_places = 1 if self._merges else sharers
        self._settings = for_sharers(settings, self._num_places, self._folder)
        self._tokenizer = load_tokenizer(self._folder)
        self._engine: Any = None
        self._places = Places[tuple[str, tuple[int, ...]]](self._num_places)
        self._turns = Turns()
        self._merged = adapter_version("")
        self._owners: dict[str, deque[Any]] = {}
        """By request who waits for its output."""
        self._eager: set[int] = set()
        """Who waits for a turn and has more requests to come."""
        self._latest = 0
        """Whose requests followed last."""
        self._num_versions = 0
        self._asleep = False
        self._number = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        return in_order(prompts, self.stream(prompts, sampling, adapter=adapter))

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        with self._using(adapter) as lora:
            yield from self._stream(prompts, sampling, adapter, lora)

    def _stream(self, prompts: Sequence[Prompt], sampling: Sampling, adapter: str, lora: Any) -> Iterator[Draft]:
        tokenised = [(prompt, self._tokenise(prompt.text)) for prompt in prompts]
        yield from no_room(tokenised, self._limit, sampling, adapter)
        tokenised.sort(key=lambda pair: -len(pair[1]))
        wanted = (
            (prompt, ids, sample) for prompt, ids in tokenised if len(ids) < self._limit for sample in prompt.samples
        )
        requests = (
            (ids, self._params(sampling, prompt, ids, sample), (prompt, sample)) for prompt, ids, sample in wanted
        )
        for output, (prompt, sample) in self._run(requests, lora):
            yield self._draft(output, prompt, sample, sampling, adapter)

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        ids = [(self._tokenise(prompt), self._tokenise(completion)) for prompt, completion in pairs]
        return self.score_ids(ids, adapter=adapter)

    def score_ids(self, pairs: Sequence[Pair], *, adapter: str = "") -> list[list[float]]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        # vLLM draws at least one token; its log-probability is not asked for.
        params = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=0, flat_logprobs=True, detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )  # fmt: skip
        requests = (([*prompt, *following], params, number) for number, (prompt, following) in enumerate(pairs))
        scores = {}
        with self._using(adapter) as lora:
            check_scored(pairs, self._limit)
            for output, number in self._run(requests, lora):
                scores[number] = _logprobs(output.prompt_logprobs, len(pairs[number][0]))
        return [scores[number] for number in range(len(pairs))]

    def sleep(self) -> None:
        """Waits until nobody draws."""
        with self._places.idle():
            if self._engine is None or self._asleep:
                return
            if self._settings.use_gpu:
                self._engine.sleep(level=1)  # weights move to main memory
                self._asleep = True
            else:
                self._drop()

    def _drop(self) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory
        from vllm.platforms import current_platform

        # The kernels stay replaced; a second search for them through all modules trips over one that numba loads.
        type(current_platform).register_triton_kernel_overrides = staticmethod(lambda: None)
        with own_garbage(is_start=False, use_gpu=self._settings.use_gpu):
            self._engine.engine_core.shutdown()
            self._engine, self._merged = None, adapter_version("")
            self._places.forget()
            cleanup_dist_env_and_memory()

    def _using(self, adapter: str) -> AbstractContextManager[Any]:
        """The engine answers as the base, or as base and adapter, as long as this is held; gives vLLM's request for the
        adapter, None where it is merged or there is none."""
        needs_place = bool(adapter or self._merges)  # the base is there beside adapters
        wanted = adapter_version(adapter)
        if adapter and not self._places.has(wanted):  # before an engine is started for it
            self._check(Path(adapter))
        return self._places.using(
            wanted, lambda: self._put(adapter, wanted), self._take_away, wake=self._wake, needs_place=needs_place
        )

    def _check(self, adapter: Path) -> None:
        check_adapter(adapter, self._folder)
        if not self._merges:
            check_servable(adapter)
            check_rank(adapter, self._settings.max_lora_rank, "generation.max_lora_rank")

    def _wake(self) -> None:
        if self._engine is None:
            self._engine = self._start()
        if self._asleep:
            self._engine.wake_up()
            self._asleep = False

    def _put(self, adapter: str, version: tuple[str, tuple[int, ...]]) -> Any:
        """vLLM goes by number and name: under those of another version it would answer from that one's weights and
        prefixes."""
        if self._merges:
            if version != self._merged:
                merged = load_merged(self._folder, self._model, torch.device("cpu"), adapter)
                self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": merged.named_parameters()})
                self._engine.reset_prefix_cache()
                self._merged = version
            return None
        from vllm.lora.request import LoRARequest

        self._num_versions += 1
        lora = LoRARequest(f"{adapter}#{self._num_versions}", self._num_versions, adapter)
        with self._turns:
            self._engine.add_lora(lora)
        return lora

    def _take_away(self, lora: Any) -> None:
        if lora is not None:
            with self._turns:
                self._engine.remove_lora(lora.lora_int_id)

    def _start(self) -> Any:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        options = self._arguments()
        with own_garbage(is_start=True, use_gpu=self._settings.use_gpu):
            return LLMEngine.from_engine_args(EngineArgs(**options))

    def _arguments(self) -> dict[str, Any]:
        """vLLM's, and what requests are made by."""
        config = AutoConfig.from_pretrained(self._folder).get_text_config(decoder=True)
        # vLLM adds the generation config's own.
        found = stop_ids(self._tokenizer, getattr(config, "eos_token_id", None))
        self._stop_ids = sorted(token for token in found if token < config.vocab_size)
        self._limit = length_limit(self._settings, config)
        adapters = 0 if self._merges else self._num_places
        return engine_arguments(self._model, self._settings, self._folder, config, adapters=adapters)

    def _tokenise(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False).input_ids

    def _params(self, sampling: Sampling, prompt: Prompt, ids: list[int], sample: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=min(sampling.max_new_tokens, self._limit - len(ids)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sample_seed(sampling, prompt, sample) >> 1,  # 63 bits
            stop=list(sampling.stop),
            stop_token_ids=self._stop_ids,
            detokenize=bool(sampling.stop),  # token by token, to find a stop text; else `_draft` does it at once
            logprobs=0,  # of the drawn token
            flat_logprobs=True,  # without an object a token
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _run(self, requests: Iterator[tuple[list[int], Any, Any]], lora: Any) -> Iterator[tuple[Any, Any]]:
        """Each finished output with what its request brought along, as it finishes."""
        waiting: dict[str, Any] = {}
        finished: deque[Any] = deque()
        own, more = id(finished), True
        try:
            while more or waiting:
                if more:
                    self._eager.add(own)
                with self._turns:
                    self._eager.discard(own)
                    room = self._room(own) if more else 0
                    following = list(islice(requests, room))
                    more = more and len(following) == room
                    for ids, params, ticket in following:
                        self._number += 1
                        name = str(self._number)
                        waiting[name], self._owners[name] = ticket, finished
                        self._engine.add_request(name, {"prompt_token_ids": ids}, params, lora_request=lora)
                    if self._owners and not finished:
                        for output in self._engine.step():
                            self._owners.pop(output.request_id).append(output)
                while finished:
                    output = finished.popleft()
                    yield output, waiting.pop(output.request_id)
        finally:  # nobody wants the rest
            self._eager.discard(own)
            if waiting:
                with self._turns:
                    unfinished = [name for name in waiting if self._owners.pop(name, None) is not None]
                    self._engine.abort_request(unfinished)

    def _room(self, own: int) -> int:
        """How many requests may follow now. None waits in vLLM, so that all who draw share its batch. On a card several
        come at once, since a step that reads prompts beside the drafts is slower than one that only draws. Whoever came
        last leaves the room to those who wait: drafts of one length end together, and could always end before the turn
        of the same thread."""
        size = self._settings.batch_size
        free = size - len(self._owners)
        is_enough = free >= (size / SHARE_ADMITTED if self._settings.use_gpu else 1)
        if not is_enough or (self._latest == own and self._eager):
            return 0
        self._latest = own
        return free

    def _draft(self, output: Any, prompt: Prompt, sample: int, sampling: Sampling, adapter: str) -> Draft:
        drawn = output.outputs[0]
        ids = tuple(drawn.token_ids)
        logprobs = tuple(_logprobs(drawn.logprobs))
        text = drawn.text
        if not sampling.stop:
            ended = drawn.finish_reason == "stop"
            text = self._tokenizer.decode(ids[: -1 if ended else None], skip_special_tokens=True)
        text, stopped = cut_at_stop(text, sampling.stop)
        return Draft(
            problem_id=prompt.id,
            text=text,
            num_prompt_tokens=len(output.prompt_token_ids),
            num_tokens=len(ids),
            mean_logprob=sum(logprobs) / len(ids),
            finish_reason=FinishReason.LENGTH if drawn.finish_reason == "length" and not stopped else FinishReason.STOP,
            adapter=adapter,
            seed=sampling.seed,
            sample=sample,
            token_ids=ids,
            token_logprobs=logprobs,
        )


def _logprobs(flat: Any, first: int = 0) -> list[float]:
    """Take the log-probability of each token from place `first` on. flat: vLLM's FlatLogprobs, in which the token that
    was drawn or given comes first at each place."""
    return [flat.logprobs[start] for start in flat.start_indices[first:]]
