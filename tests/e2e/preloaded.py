"""What workers that serve find imported besides `tests/preloaded.py`: vLLM, Gradio and Ray Serve."""

import importlib

from app.profiles import smoke
from app.serving.engine import prepare_environment

prepare_environment(smoke().serving)
for name in (
    *("actors.llm_server", "actors.ide", "app.ide.application", "app.generation.vllm_cpu"),
    *("vllm.engine.arg_utils", "vllm.v1.engine.async_llm"),
    *(f"vllm.entrypoints.launchers.{name}" for name in ("api_server.app_state", "app", "cli_args")),
    *(f"ray.serve._private.{name}" for name in ("controller", "proxy", "replica")),
):
    importlib.import_module(name)
