"""Drawing completions with vLLM, in this process: the faster engine, for a card and for a CPU alike.

Requests are fed as earlier ones finish, so memory does not grow with the samples; a prompt's samples share its prefill
through vLLM's prefix cache. On a card an adapter lies beside the base; each version of its folder goes to vLLM under a
number and a name of its own, and the one before is dropped. Without a card it is merged into the weights in place (the
same PEFT merge as in `app.generation.transformers_engine`), because there unmerged LoRA halves decoding speed. Limits
of length, and prompts without room, as there. Runs without Ray; `actors.generator` is its shell.
Limits: a process holds one engine; float32 without a card, because bfloat16 is hundreds of times slower on most CPUs.
Runs with vLLM 0.26 to 0.32.
"""

import gc
import importlib.util
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from app.errors import UserError
from app.files.user_files import user_path
from app.generation.dealing import in_order
from app.generation.scoring import Pair, check_scored
from app.generation.transformers_engine import cut_at_stop, no_room, require_card, sample_seed
from app.hardware import card_gib
from app.models.adapters import adapter_version, check_adapter, check_rank, check_servable, load_merged
from app.models.base import ensure_model, load_tokenizer
from app.prompting.turn_ends import stop_ids
from app.records import Draft, FinishReason, Prompt, Sampling
from app.settings import NGRAM_LOOKUP, VLLM_BESIDE_GIB, GenerationSettings, ModelSettings

QUIET = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # engine and worker in this process: three times as fast on two cores
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""vLLM reads these when it is imported."""


class VllmEngine:
    """An implementation of `records.Generator`."""

    def __init__(self, model: ModelSettings, settings: GenerationSettings, *, merges: bool | None = None) -> None:
        """merges: whether adapters are merged into the base's weights; None: they are, unless there is a card."""
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
        self._model = model
        self._settings = settings
        self._folder = ensure_model(model)
        self._tokenizer = load_tokenizer(self._folder)
        self._engine: Any = None
        self._merges = not settings.use_gpu if merges is None else merges
        self._held = adapter_version("")
        """The adapter, and its version, that is merged or lies beside the base."""
        self._lora: Any = None
        self._num_versions = 0
        self._asleep = False
        self._number = 0

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> list[Draft]:
        return in_order(prompts, self.stream(prompts, sampling, adapter=adapter))

    def stream(self, prompts: Sequence[Prompt], sampling: Sampling, *, adapter: str = "") -> Iterator[Draft]:
        self._wake(adapter)
        tokenised = [(prompt, self._tokenise(prompt.text)) for prompt in prompts]
        yield from no_room(tokenised, self._limit, sampling, adapter)
        tokenised.sort(key=lambda pair: -len(pair[1]))
        wanted = (
            (prompt, ids, sample) for prompt, ids in tokenised if len(ids) < self._limit for sample in prompt.samples
        )
        requests = (
            (ids, self._params(sampling, prompt, ids, sample), (prompt, sample)) for prompt, ids, sample in wanted
        )
        for output, (prompt, sample) in self._run(requests, adapter):
            yield self._draft(output, prompt, sample, sampling, adapter)

    def score(self, pairs: Sequence[tuple[str, str]], *, adapter: str = "") -> list[list[float]]:
        ids = [(self._tokenise(prompt), self._tokenise(completion)) for prompt, completion in pairs]
        return self.score_ids(ids, adapter=adapter)

    def score_ids(self, pairs: Sequence[Pair], *, adapter: str = "") -> list[list[float]]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        self._wake(adapter)
        check_scored(pairs, self._limit)
        # vLLM draws at least one token; its log-probability is not asked for.
        params = SamplingParams(
            max_tokens=1,
            temperature=0,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        requests = (([*prompt, *following], params, number) for number, (prompt, following) in enumerate(pairs))
        scores = {}
        for output, number in self._run(requests, adapter):
            scores[number] = _logprobs(output.prompt_logprobs, len(pairs[number][0]))
        return [scores[number] for number in range(len(pairs))]

    def sleep(self) -> None:
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
        self._engine.engine_core.shutdown()
        self._engine, self._lora, self._held = None, None, adapter_version("")
        gc.collect()
        cleanup_dist_env_and_memory()

    def _wake(self, adapter: str) -> None:
        """An engine that answers as the base, or as base and adapter."""
        wanted = adapter_version(adapter)
        is_other = wanted != self._held and bool(adapter or self._merges)  # the base is there beside an adapter
        if is_other and adapter:
            check_adapter(Path(adapter), self._folder)
            if not self._merges:
                check_servable(Path(adapter))
                check_rank(Path(adapter), self._settings.max_lora_rank, "generation.max_lora_rank")
        if self._engine is None:
            self._engine = self._start()
        if self._asleep:
            self._engine.wake_up()
            self._asleep = False
        if is_other:
            (self._merge if self._merges else self._exchange)(adapter)
            self._engine.reset_prefix_cache()
            self._held = wanted

    def _merge(self, adapter: str) -> None:
        merged = load_merged(self._folder, self._model, torch.device("cpu"), adapter)
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": merged.named_parameters()})

    def _exchange(self, adapter: str) -> None:
        """vLLM goes by number and name: under those of another version it would answer from that one's weights and
        prefixes."""
        from vllm.lora.request import LoRARequest

        if self._lora is not None:
            self._engine.remove_lora(self._lora.lora_int_id)
            self._lora, self._held = None, adapter_version("")
        self._num_versions += 1
        lora = LoRARequest(f"{adapter}#{self._num_versions}", self._num_versions, adapter)
        self._engine.add_lora(lora)
        self._lora = lora

    def _start(self) -> Any:
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        return LLMEngine.from_engine_args(EngineArgs(**self._arguments()))

    def _arguments(self) -> dict[str, Any]:
        """What vLLM is started with."""
        from transformers import AutoConfig

        settings = self._settings
        config = AutoConfig.from_pretrained(self._folder).get_text_config(decoder=True)
        positions = config.max_position_embeddings
        # vLLM adds the generation config's own.
        found = stop_ids(self._tokenizer, getattr(config, "eos_token_id", None))
        self._stop_ids = sorted(token for token in found if token < config.vocab_size)
        self._limit = min(settings.max_model_len, positions - 1)  # scoring draws one token more
        options: dict[str, Any] = {
            "dtype": "float32",
            "kv_cache_memory_bytes": settings.kv_cache_bytes,
            # A prompt prefilled in parts fails with a seed: vLLM takes draws back by the offset of a CUDA generator.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": self._limit + 1,
            "worker_cls": "app.generation.vllm_cpu.Worker",
        }
        if settings.use_gpu:
            options = {
                "dtype": self._model.dtype,
                "gpu_memory_utilization": card_share(settings.vram_gib),
                "max_num_batched_tokens": max(settings.max_num_batched_tokens, settings.batch_size),
                "enable_sleep_mode": True,
            }
        if not self._merges:
            options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": settings.max_lora_rank}
        if settings.num_speculative_tokens:
            options["speculative_config"] = speculative_config(settings, config.vocab_size)
        return options | {
            "model": str(self._folder),
            "max_model_len": self._limit + 1,
            "max_num_seqs": settings.batch_size,
            "enforce_eager": not settings.use_gpu,
            "disable_log_stats": True,
        }

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

    def _run(self, requests: Iterator[tuple[list[int], Any, Any]], adapter: str) -> Iterator[tuple[Any, Any]]:
        """Each finished output with what its request brought along, as it finishes."""
        lora = self._lora if adapter else None
        waiting: dict[str, Any] = {}
        try:
            while True:
                for ids, params, ticket in islice(requests, 2 * self._settings.batch_size - len(waiting)):
                    self._number += 1
                    waiting[str(self._number)] = ticket
                    self._engine.add_request(str(self._number), {"prompt_token_ids": ids}, params, lora_request=lora)
                if not waiting:
                    return
                for output in self._engine.step():
                    yield output, waiting.pop(output.request_id)
        finally:  # nobody wants the rest
            if waiting:
                self._engine.abort_request(list(waiting))

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


def card_share(vram_gib: float) -> float:
    """The share of the card that vLLM may plan with, to take that much of it in all."""
    total = card_gib()
    return (min(vram_gib, total) - VLLM_BESIDE_GIB) / total


def speculative_config(settings: GenerationSettings, vocab_size: int) -> dict[str, Any]:
    """vLLM's own names for how tokens are guessed. Raises UserError for a draft model of another vocabulary."""
    from transformers import AutoConfig

    tokens = {"num_speculative_tokens": settings.num_speculative_tokens}
    if not settings.draft_model:
        return {"method": "ngram", **tokens, **NGRAM_LOOKUP}
    folder = user_path(settings.draft_model)
    name = str(folder) if folder.is_dir() else settings.draft_model
    size = AutoConfig.from_pretrained(name).get_text_config(decoder=True).vocab_size
    if size != vocab_size:
        raise UserError(
            f"generation.draft_model={settings.draft_model} has a vocabulary of {size} and the model one of "
            f"{vocab_size}, so it can't guess its tokens: take a smaller model of the same family"
        )
    return {"method": "draft_model", "model": name, **tokens}
