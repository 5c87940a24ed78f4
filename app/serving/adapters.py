"""The adapters of a run directory as model names of a running engine.

A name is there as soon as its stage is complete, and its weights are loaded when somebody first asks for it. What is
loaded is a copy under a path of its own: a retrained adapter gets another path, so neither the engine's prefix cache
nor a request that is under way mixes the two.
"""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.models.adapters import WEIGHTS, check_adapter, check_rank, check_servable
from app.runs import Run
from app.serving.engine_protocol import EngineLostError

CONFIG = "adapter_config.json"
PREFIX = "pocketcoder-adapters-"


class Adapters:
    def __init__(self, run: Path | None, base: Path, registry: Any, max_rank: int) -> None:
        """Serve the adapters of a run, if one is given. registry: vLLM's OpenAIServingModels."""
        self._run = Run(run) if run else None
        self._base = base
        self._registry = registry
        self._max_rank = max_rank
        self._copies = _copies_folder()
        self._loaded: dict[str, str] = {}  # name -> version
        self._lock = asyncio.Lock()

    def names(self) -> list[str]:
        return sorted(self._found())

    async def load(self, name: str) -> None:
        """See to it that the engine has this adapter in its present version; a name of no adapter is left to the
        engine.

        Raises UserError when the folder does not fit the base model or the engine, EngineLostError when that died.
        """
        folder = self._found().get(name)
        async with self._lock:
            if folder is None:
                self._registry.lora_requests.pop(name, None)
                self._loaded.pop(name, None)
                return
            version = _version(name, folder)
            if self._loaded.get(name) == version:
                return
            copy = self._copies / f"{name}-{version}"
            await asyncio.to_thread(self._check_and_copy, folder, copy)
            await self._register(name, copy)
            self._loaded[name] = version
            self._drop_old(name)

    def close(self) -> None:
        shutil.rmtree(self._copies, ignore_errors=True)

    def _found(self) -> dict[str, Path]:
        return self._run.adapters() if self._run else {}

    def _check_and_copy(self, folder: Path, copy: Path) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        check_adapter(copy, self._base)
        check_servable(copy)
        check_rank(copy, self._max_rank, "serving.max_lora_rank")

    async def _register(self, name: str, folder: Path) -> None:
        """Register an adapter under a new number, and then under its name in one step: at no moment is the name
        nowhere, and answers that are under way keep the weights they began with. (vLLM's own reload keeps the
        number.)"""
        from vllm.lora.request import LoRARequest

        number = self._registry.lora_id_counter.inc(1)
        request = LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(folder))
        try:
            await self._registry.engine_client.add_lora(request)
        except Exception as error:  # whatever vLLM finds wrong with the files
            if self._registry.engine_client.errored:
                raise EngineLostError("the engine died of an adapter, or under it", may_repeat=False) from None
            raise UserError(f"adapter {name!r} can't be served ({error}): train it again") from None
        self._registry.lora_requests[name] = request

    def _drop_old(self, name: str) -> None:
        """All copies but the last two: answers that are under way may have to load theirs again."""
        copies = sorted(self._copies.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime)
        for copy in copies[:-2]:
            shutil.rmtree(copy, ignore_errors=True)


def _version(name: str, folder: Path) -> str:
    try:
        stats = [(folder / file).stat() for file in (WEIGHTS, CONFIG)]
    except OSError as error:
        raise UserError(f"adapter {name!r} can't be read ({error}): train it again") from None
    return "-".join(f"{stat.st_mtime_ns:x}.{stat.st_size:x}" for stat in stats)


def _copies_folder() -> Path:
    """A folder of this process; those of processes that were killed are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
