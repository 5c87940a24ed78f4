"""vLLM's async engine and its OpenAI app in this process, asked by path and body, without Ray.

`actors.llm_server` hosts it. vLLM's routes are reached only through `Engine.call`: nothing here listens on a port. The
engine itself (EngineCore) is a child process; when it dies, `check_health` raises, and the host starts all of it anew.
Facts: vLLM 0.32 has no public way to its app but the functions its own server calls; they are pinned with it.
"""

import asyncio
import json
import logging
import os
from argparse import Namespace
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.hardware import card_gib
from app.models.base import ensure_model, load_tokenizer
from app.models.gguf_source import short_name
from app.prompting.turn_ends import stop_ids
from app.serving.adapters import Adapters
from app.serving.completion_prompts import Prompts
from app.serving.engine_protocol import EngineLostError, Head
from app.serving.errors import ApiError, from_engine, invalid
from app.serving.plan import ServingPlan, plan_serving
from app.settings import NGRAM_LOOKUP, ModelSettings, ServingSettings

logger = logging.getLogger(__name__)
CPU_WORKER = "app.generation.vllm_cpu.Worker"


class Engine:
    """Made by `start`. Names are the base model's and those of `adapters`."""

    def __init__(
        self,
        app: Any,
        engine: Any,
        adapters: Adapters,
        name: str,
        plan: ServingPlan,
        prompts: Prompts,
        stops: list[int],
        guesses: bool,
    ) -> None:
        """Hold what `start` made. stops: ids of the tokens that end a turn. guesses: whether all requests are guessed
        for."""
        self.name = name
        self.plan = plan
        self._app = app
        self._engine = engine
        self._adapters = adapters
        self._prompts = prompts
        self._always_guesses = guesses
        self._stop_ids = stops

    @classmethod
    async def start(cls, model: ModelSettings, settings: ServingSettings, run: Path | None) -> "Engine":
        """Load the weights; half a minute without a card. Raises UserError when they don't fit."""
        prepare_environment(settings)
        folder = ensure_model(model)
        plan = plan_serving(folder, model, settings)
        tokenizer = load_tokenizer(folder)
        engine, app = await _build(server_arguments(folder, model, settings, plan, tokenizer))
        await engine.collective_rpc("end_with_parent", args=(os.getpid(),))
        adapters = Adapters(run, folder, app.state.openai_serving_models, settings.max_lora_rank)
        guesses = settings.use_gpu and settings.speculation != "none"
        size = engine.model_config.get_vocab_size()
        stops = sorted(token for token in stop_ids(tokenizer) if token < size)
        return cls(app, engine, adapters, served_name(model), plan, Prompts(tokenizer), stops, guesses)

    def models(self) -> list[str]:
        return [self.name, *self._adapters.names()]

    async def call(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Head | bytes, None]:
        """POST to one of vLLM's routes: first a Head, then the body as it grows. Closing it aborts the request.

        Raises EngineLostError; ApiError for an adapter that can't be used, or for what this engine or model can't do.
        """
        if self._engine.errored:
            raise EngineLostError("the engine had died before this request", may_repeat=True)
        if body["model"] != self.name:
            try:
                await self._adapters.load(body["model"])
            except UserError as error:
                raise invalid(str(error), "model") from None
        if self._always_guesses:
            _check_guessing(body)
        if "prompt" in body:
            body = await asyncio.to_thread(self._prompts.prepare, body)
        body = body | {"stop_token_ids": self._stop_ids}  # whatever the generation config says
        async with aclosing(_ask(self._app, path, json.dumps(body).encode())) as parts:
            async for part in parts:
                refused = await _refusal(part, parts) if isinstance(part, Head) and part.status >= 400 else None
                if self._engine.errored:  # what vLLM says of it is not an answer
                    raise EngineLostError("the engine died of this request, or under it", may_repeat=False)
                if refused is not None:
                    raise refused
                yield part

    def check_health(self) -> None:
        """Raise EngineLostError where the engine has died."""
        if self._engine.errored:
            raise EngineLostError("the engine has died: see its log", may_repeat=True)

    def close(self) -> None:
        self._engine.shutdown()
        self._adapters.close()


def _check_guessing(body: dict[str, Any]) -> None:
    """Refuse two fields that vLLM leaves out when it verifies guessed tokens; on a card no request goes without
    guesses."""
    for field in ("min_p", "logit_bias"):
        if body.get(field):
            raise invalid(
                f"{field} does not go with guessed tokens on a card: leave it out, or start the server with "
                "serving.speculation=none",
                field,
            )


def served_name(model: ModelSettings) -> str:
    if model.source == "gguf":
        return short_name(model.name)
    return Path(model.name).name if model.source == "path" else model.name


def prepare_environment(settings: ServingSettings) -> None:
    """What vLLM reads when it is imported; a value that is set already stays."""
    caps = {"VLLM_MAX_STOP_STRINGS": "16", "VLLM_MAX_COMPLETION_PROMPTS": "2048"}  # those of `requests.Limits`
    values = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING", **caps}
    if not settings.use_gpu:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        # In-process executor: a worker process of its own made two cores three times slower.
        values |= {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray allows one thread to a worker that reserves no more than a core
    for name, value in values.items():
        os.environ.setdefault(name, value)


def server_arguments(
    folder: Path, model: ModelSettings, settings: ServingSettings, plan: ServingPlan, tokenizer: Any
) -> list[str]:
    """The command line of vLLM's own server that says the same."""
    options: dict[str, Any] = {
        "model": folder,
        "served-model-name": served_name(model),
        "dtype": model.dtype,
        "max-model-len": plan.max_model_len,
        "max-num-seqs": settings.max_num_seqs,
        "stream-interval": settings.stream_interval,
        "max-loras": settings.max_loras,
        "max-lora-rank": settings.max_lora_rank,
        "tool-call-parser": "hermes",
        "worker-extension-cls": "app.serving.vllm_worker.EndsWithParent",
        # Compact JSON: a small model that may put white space between any two tokens goes on doing so.
        "structured-outputs-config": json.dumps({"backend": "xgrammar", "disable_any_whitespace": True}),
    }
    flags = ["enable-lora", "enable-prefix-caching", "enable-auto-tool-choice", "disable-log-stats"]
    if "<think>" in tokenizer.get_vocab():
        options["reasoning-parser"] = "qwen3"
    if settings.speculation != "none":
        options["speculative-config"] = json.dumps(speculative_config(settings))
    if settings.use_gpu:
        options["gpu-memory-utilization"] = settings.gpu_memory_utilization * min(1.0, settings.vram_gib / card_gib())
    else:
        options["kv-cache-memory-bytes"] = settings.kv_cache_bytes
        options["worker-cls"] = CPU_WORKER
        flags.append("enforce-eager")
    if settings.weights == "bitsandbytes":
        options["quantization"] = "bitsandbytes"
    if settings.kv_offload_gib:
        options["kv-offloading-size"] = settings.kv_offload_gib
    return [*(f"--{name}={value}" for name, value in options.items()), *(f"--{flag}" for flag in flags)]


def speculative_config(settings: ServingSettings) -> dict[str, Any]:
    tokens = {"num_speculative_tokens": settings.num_speculative_tokens}
    if settings.speculation == "draft_model":
        return {"method": "draft_model", "model": os.path.expanduser(settings.draft_model), **tokens}
    return {"method": "ngram", **tokens, **NGRAM_LOOKUP}


async def _build(arguments: list[str]) -> tuple[Any, Any]:
    """Engine and app, as vLLM's own server builds them."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    from app.serving import vllm_tool_calls

    vllm_tool_calls.register()
    server = _server_of_vllm()
    parsed = server.make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    server.validate_parsed_serve_args(parsed)
    if parsed.worker_cls == CPU_WORKER:
        from app.generation.vllm_cpu import take_bias_with_guesses

        take_bias_with_guesses()
    context = UsageContext.OPENAI_API_SERVER
    config = AsyncEngineArgs.from_cli_args(parsed).create_engine_config(usage_context=context)
    engine = AsyncLLM.from_vllm_config(config, usage_context=context, disable_log_stats=parsed.disable_log_stats)
    tasks = await engine.get_supported_tasks()
    app = server.build_app(parsed, tasks, engine.model_config)
    await server.init_app_state(engine, app.state, parsed, tasks)
    app.state.server = Namespace(should_exit=False)  # set by vLLM's handler when the engine has died
    return engine, app


def _server_of_vllm() -> Any:
    """The four functions of vLLM's own server, all of which take the same in 0.26 and 0.32."""
    try:
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    except ImportError:  # 0.26, the release for torch 2.11, has them in one module
        from vllm.entrypoints.openai import api_server

        return api_server
    return Namespace(
        init_app_state=init_app_state,
        build_app=build_app,
        make_arg_parser=make_arg_parser,
        validate_parsed_serve_args=validate_parsed_serve_args,
    )


async def _ask(app: Any, path: str, body: bytes) -> AsyncGenerator[Head | bytes, None]:
    """One request to an ASGI app; parts that are there already come as one."""
    parts: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    gone = asyncio.Event()
    request = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in request:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        parts.put_nowait(message)

    task = asyncio.create_task(app(_scope(path, body), receive, send))
    task.add_done_callback(lambda _: parts.put_nowait(None))
    try:
        start = await parts.get()
        if start is None:
            await task
            raise RuntimeError(f"{path} ended without an answer")
        yield Head(start["status"], list(start["headers"]))
        whole = ended = False
        while not ended:
            waiting = [await parts.get()]
            while not parts.empty():
                waiting.append(parts.get_nowait())
            ended = waiting[-1] is None
            messages = [message for message in waiting if message]
            whole = whole or any(not message.get("more_body") for message in messages)
            if text := b"".join(message.get("body", b"") for message in messages):
                yield text
        if not whole:
            await task  # raises what broke the stream off
    finally:
        gone.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _refusal(head: Head, parts: AsyncGenerator[Head | bytes, None]) -> ApiError:
    body = b"".join([part async for part in parts if isinstance(part, bytes)])
    if head.status >= 500:
        logger.error("vLLM failed at a request (%d): %s", head.status, body[:2000].decode(errors="replace"))
    return from_engine(head.status, body)


def _scope(path: str, body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
