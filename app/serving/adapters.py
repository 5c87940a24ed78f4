"""The adapters of a run directory as model names of a running engine.

A name is there as soon as its stage is complete, and its weights are loaded when somebody first asks for it. What is
loaded is a copy under a path of its own: a retrained adapter gets another path, so neither the engine's prefix cache
nor a request that is under way mixes the two.
"""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from app.adapters import WEIGHTS, check_adapter
from app.errors import UserError
from app.runs import Run

CONFIG = "adapter_config.json"


class Adapters:
    def __init__(self, run: Path | None, base: Path, registry: Any, max_rank: int) -> None:
        """registry: vLLM's OpenAIServingModels."""
        self._run = Run(run) if run else None
        self._base = base
        self._registry = registry
        self._max_rank = max_rank
        self._copies = Path(tempfile.mkdtemp(prefix="pocketcoder-adapters-"))
        self._loaded: dict[str, str] = {}  # name -> version
        self._lock = asyncio.Lock()

    def names(self) -> list[str]:
        return sorted(self._found())

    async def load(self, name: str) -> None:
        """See to it that the engine has this adapter in its present version; a name that is none is left to the engine.

        Raises UserError when the folder does not fit the base model or the engine.
        """
        folder = self._found().get(name)
        async with self._lock:
            if folder is None:
                await self._unload(name)
                return
            version = _version(folder)
            if self._loaded.get(name) == version:
                return
            copy = self._copies / f"{name}-{version}"
            await asyncio.to_thread(self._check_and_copy, folder, copy)
            await self._unload(name)
            await self._register(name, copy)
            self._loaded[name] = version

    def close(self) -> None:
        shutil.rmtree(self._copies, ignore_errors=True)

    def _found(self) -> dict[str, Path]:
        return self._run.adapters() if self._run else {}

    def _check_and_copy(self, folder: Path, copy: Path) -> None:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        check_adapter(copy, self._base)
        config = json.loads((copy / CONFIG).read_text())
        rank = max([config["r"], *config.get("rank_pattern", {}).values()])
        if rank > self._max_rank:
            raise UserError(
                f"adapter {str(folder)!r} has rank {rank}, and this server takes {self._max_rank}: raise "
                "serving.max_lora_rank, or truncate the adapter"
            )

    async def _register(self, name: str, folder: Path) -> None:
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        answer = await self._registry.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=name, lora_path=str(folder)))
        if not isinstance(answer, str):
            raise UserError(f"adapter {name!r} can't be served: {answer.error.message}")

    async def _unload(self, name: str) -> None:
        from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

        if self._loaded.pop(name, None):
            await self._registry.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))


def _version(folder: Path) -> str:
    stats = [(folder / name).stat() for name in (WEIGHTS, CONFIG)]
    return "-".join(f"{stat.st_mtime_ns:x}.{stat.st_size:x}" for stat in stats)
