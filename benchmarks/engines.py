"""What the parts of `benchmarks.engine` measure: engines, each in a process of its own, the same prompts, random
adapters. Not run by itself; `start_*` and what asks the engine run in the engine's process."""

import multiprocessing
import os
import time
from argparse import Namespace as Options
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from app.evaluation.suites import humaneval
from app.models.base import ensure_model, load_tokenizer
from app.prompting.protocols import ask, chat_prompt
from app.records import Draft, Prompt, Sampling
from app.settings import GenerationSettings, ModelSettings
from benchmarks.random_adapters import write_adapter

_engine: Any = None


def engine() -> Any:
    """That of this process."""
    return _engine


def model_of(name: str, options: Options) -> ModelSettings:
    source = "gguf" if name.endswith(".gguf") else "path"
    return ModelSettings(source=source, name=name, dtype="float32" if options.cpu else "bfloat16")


def settings_of(options: Options, **changes: Any) -> GenerationSettings:
    values: dict[str, Any] = {
        "engine": "vllm", "batch_size": options.batch_size, "max_model_len": options.max_model_len,
        "use_gpu": not options.cpu, "vram_gib": options.gib, "kv_cache_bytes": (1 if options.cpu else 4) << 30,
    }  # fmt: skip
    return GenerationSettings(**values | changes)


def ours(options: Options, **changes: Any) -> Any:
    from app.generation.vllm_engine import VllmEngine

    return VllmEngine(model_of(options.model, options), settings_of(options, **changes), merges=False)


def prompts(options: Options, *, samples: int = 1, number: int | None = None, edits: bool = False) -> list[Prompt]:
    """Chat prompts of HumanEval's problems, evenly spaced; edits: to write a solution again with another name."""
    tokenizer = load_tokenizer(ensure_model(model_of(options.model, options)))
    tasks = humaneval.load()
    number = number or options.problems
    found = []
    for task in tasks[:: max(1, len(tasks) // number)][:number]:
        text = ask(task.problem.prompt)
        if edits:
            code = f"{task.problem.prompt}{task.canonical_solution}"
            name = task.problem.entry_point
            text = f"Rename the function {name} to {name}_2 and write the whole program again:\n```python\n{code}\n```"
        text = chat_prompt(tokenizer, [{"role": "user", "content": text}])
        found.append(Prompt(id=task.problem.id, text=text, samples=tuple(range(samples))))
    return found


class Apart:
    """A process that holds one engine; `call` runs a function of this module in it."""

    def __init__(self, environment: dict[str, str]) -> None:
        # An executor's processes, unlike a pool's, may have children: vLLM's engine in a process of its own.
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=set_environment, initargs=(environment,))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(function, *arguments).result()

    def end(self) -> None:
        """End the process, which gives back what its engine holds."""
        self._pool.shutdown()


def set_environment(values: dict[str, str]) -> None:
    os.environ.update(values)


def start_ours(options: Options, changes: dict[str, Any] | None = None) -> None:
    global _engine
    _engine = ours(options, **changes or {})
    _engine.generate([Prompt(id="warm-up", text="x")], Sampling(max_new_tokens=2))


def start_peer(options: Options) -> None:
    from app.generation.transformers_engine import TransformersEngine

    global _engine
    _engine = TransformersEngine(model_of(options.model, options), settings_of(options, engine="transformers"))
    _engine.generate([Prompt(id="warm-up", text="x")], Sampling(max_new_tokens=2))


def start_bare(options: Options) -> None:
    from vllm import LLM

    global _engine
    engine = ours(options)
    _engine = LLM(**engine._arguments()), engine
    bare_rate(prompts(options, number=1), Sampling(max_new_tokens=2), True)


def rate(wanted: list[Prompt], sampling: Sampling) -> float:
    """Tokens a second. What vLLM has kept of earlier rounds' prompts is thrown away, so that each prefills them."""
    if getattr(_engine, "_engine", None) is not None:
        _engine._engine.reset_prefix_cache()
    start = time.perf_counter()
    drafts = _engine.generate(wanted, sampling)
    return sum(draft.num_tokens for draft in drafts) / (time.perf_counter() - start)


def bare_rate(wanted: list[Prompt], sampling: Sampling, seeds: bool) -> float:
    llm, engine = _engine
    llm.reset_prefix_cache()
    start = time.perf_counter()
    ids = [(prompt, engine._tokenise(prompt.text)) for prompt in wanted]
    params = [engine._params(sampling, prompt, row, sample) for prompt, row in ids for sample in prompt.samples]
    if not seeds:
        for one in params:
            one.seed = None
    tokens = [{"prompt_token_ids": row} for prompt, row in ids for _ in prompt.samples]
    outputs = llm.generate(tokens, params, use_tqdm=False)
    drawn = sum(len(output.outputs[0].token_ids) for output in outputs)
    return drawn / (time.perf_counter() - start)


def drafts_of(wanted: list[Prompt], sampling: Sampling, adapter: str = "") -> list[Draft]:
    return _engine.generate(wanted, sampling, adapter=adapter)


def scores_of(pairs: list[tuple[str, str]]) -> tuple[list[list[float]], float]:
    start = time.perf_counter()
    return _engine.score(pairs), time.perf_counter() - start


def random_adapter(options: Options, folder: Path, seed: int) -> None:
    write_adapter(ensure_model(model_of(options.model, options)), folder, seed=seed, share=options.adapter_share)
