"""`python -m app` as a test's user starts it, without its imports: a process that has made them forks one a command.

Torch, transformers and peft take five to seven seconds of a core to import, and the tests start dozens of commands.
What an environment says before those imports (Hugging Face's variables, threads) holds for the process that made them:
where a command's differs, it is started as any other.
"""

import atexit
import os
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRELOADED = (
    *("peft", "transformers.models.auto.tokenization_auto", "transformers.models.qwen3.modeling_qwen3"),
    *("app.cli", "app.pipeline", "app.training.sft", "app.evaluation.stage", "tests.commands"),
)
READ_BY_IMPORTS = ("HF_", "TRANSFORMERS_", "OMP_", "TORCH")
Done = subprocess.CompletedProcess[str]


def before_imports(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment decides how modules are imported."""
    return {name: value for name, value in env.items() if name.startswith(READ_BY_IMPORTS)}


def run(arguments: Sequence[str], env: Mapping[str, str], imported_under: Mapping[str, str], timeout: float) -> Done:
    """Run `python -m app` in the repository root. imported_under: `before_imports` of the environment that this process
    was begun with. Raises subprocess.TimeoutExpired, with the command ended."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    if before_imports(env) != imported_under:
        command = [sys.executable, "-m", "app", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=dict(env))
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = context.Process(target=_be, args=(list(arguments), dict(env), outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout, *(path.read_bytes() for path in outputs))
        return subprocess.CompletedProcess(
            list(arguments), process.exitcode, *(path.read_text(errors="replace") for path in outputs)
        )


def _be(arguments: list[str], env: dict[str, str], outputs: list[Path]) -> None:
    """The forked process: from here on the command."""
    for fd, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), fd)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    sys.argv = ["app", *arguments]
    try:
        runpy.run_module("app", run_name="__main__", alter_sys=True)
    finally:  # multiprocessing ends a process without what Python does at its end
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
