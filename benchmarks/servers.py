"""The servers that `benchmarks.serving` compares, and what they take of memory.

direct: vLLM's own server; bare: vLLM's app in a Serve deployment, nothing of ours before it; ours: `python -m app
serve` without the page. All three have the same engine settings. They start one after the other, since vLLM measures
the card's free memory as it starts, and a server that does not come up is told of and left out.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from app.models.base import ensure_model, load_tokenizer
from app.models.sizes import GIB
from app.runs import REPOSITORY
from app.serving.engine import prepare_environment, server_arguments
from app.serving.plan import plan_serving
from app.settings import Profile

PORTS = {"direct": 8301, "bare": 8302, "ours": 8303}
BARE = """
from pathlib import Path

from ray import serve
from app.profiles import get_profile
from app.serving.engine import Engine
from app.overrides import with_overrides

@serve.deployment(max_ongoing_requests=1000)
@serve.ingress()
class Bare:
    async def __init__(self, profile, adapters):
        self._engine = await Engine.start(profile.model, profile.serving, None)
        self._engine._adapters._found = lambda: {name: Path(folder) for name, folder in adapters.items()}
        for name in adapters:
            await self._engine._adapters.load(name)

    def __serve_build_asgi_app__(self):
        return self._engine._app

def build(args):
    profile = with_overrides(get_profile(args["profile"]), args["overrides"])
    on_card = {"num_gpus": int(profile.serving.use_gpu)}
    return Bare.options(ray_actor_options=on_card).bind(profile, args["adapters"])
"""
CONFIG = """
proxy_location: HeadOnly
http_options: {{host: 127.0.0.1, port: {port}, keep_alive_timeout_s: 90}}
applications:
  - {{name: llm, route_prefix: /, import_path: "{build}", args: {args}}}
"""
"""Those of serve_configs without the page."""


class Server:
    """A server in a process group of its own."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{PORTS[name]}/v1"
        self.key = "unused"
        self.start_s = 0.0
        self._log = log
        with open(log, "w") as file:
            self._process = subprocess.Popen(
                command, env=env, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self._process.pid

    def wait(self, timeout_s: float) -> None:
        """Raises RuntimeError with the end of its log when it has died or does not answer in time."""
        start = time.monotonic()
        while time.monotonic() - start < timeout_s and self._process.poll() is None:
            if found := [word for word in self._log.read_text().split() if word.startswith("pk-")]:
                self.key = found[-1].rstrip(")")
            with suppress(httpx.HTTPError):
                asked = httpx.get(f"{self.url}/models", headers={"Authorization": f"Bearer {self.key}"})
                if asked.status_code == 200:
                    self.start_s = time.monotonic() - start
                    return
            time.sleep(1)
        raise RuntimeError(f"{self.name} did not come up: {self._log.read_text()[-3000:]}")

    def interrupt(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGINT)

    def close(self) -> None:
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def servers(
    profile: Profile,
    overrides: list[str],
    names: list[str],
    failed: Callable[[str, Exception], None],
    *,
    timeout_s: float = 300,
    adapters: Mapping[str, Path] | None = None,
) -> Iterator[dict[str, Server]]:
    """Those that came up. failed: told the name of one that did not, and why. adapters: for "bare" alone."""
    folder = Path(tempfile.mkdtemp(prefix="serving-", dir="/tmp"))
    paths = (str(REPOSITORY), str(folder), os.environ.get("PYTHONPATH"))
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    begun: list[Server] = []
    up: dict[str, Server] = {}
    try:
        for name in names:
            try:
                command, own = _command(name, profile, overrides, folder, adapters or {})
                begun.append(Server(name, command, env | own, folder / f"{name}.log"))
                begun[-1].wait(timeout_s)
                up[name] = begun[-1]
            except Exception as error:  # whatever kept it from coming up: the others may
                failed(name, error)
        yield up
    finally:
        for server in begun:
            server.interrupt()
        for server in begun:
            server.close()


def _command(
    name: str, profile: Profile, overrides: list[str], folder: Path, adapters: Mapping[str, Path]
) -> tuple[list[str], dict[str, str]]:
    if name == "direct":
        prepare_environment(profile.serving)  # vLLM's variables, for the child
        weights = ensure_model(profile.model)
        plan = plan_serving(weights, profile.model, profile.serving)
        arguments = server_arguments(weights, profile.model, profile.serving, plan, load_tokenizer(weights))
        module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        own = {key: value for key, value in os.environ.items() if key.startswith("VLLM_")}
        return [*module, *arguments, "--host=127.0.0.1", f"--port={PORTS[name]}"], own
    config = folder / f"{name}.yaml"
    if name == "bare":
        (folder / "bare_serve.py").write_text(BARE)
        folders = {key: str(path) for key, path in adapters.items()}
        args = json.dumps({"profile": profile.name, "overrides": overrides, "adapters": folders})
        config.write_text(CONFIG.format(port=PORTS[name], build="bare_serve:build", args=args))
        return [sys.executable, "-m", "ray.serve.scripts", "run", str(config)], {}
    args = json.dumps({"profile": profile.name, "overrides": overrides, "run": "none"})
    config.write_text(CONFIG.format(port=PORTS[name], build="actors.llm_server:build", args=args))
    return [sys.executable, "-m", "app", "serve", "--config", str(config)], {}


class MemoryWatch:
    """What each server's processes take. On the card once a second, CUDA contexts included, as nvidia-smi has it."""

    def __init__(self, there: Mapping[str, Server]) -> None:
        self._there = there
        self._peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "MemoryWatch":
        if shutil.which("nvidia-smi"):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def report(self) -> dict[str, Any]:
        """Peaks on the card so far in MiB, and main memory as it is now in GiB, shared pages counted once."""
        report: dict[str, Any] = {"host_gib": {name: self._host_gib(server) for name, server in self._there.items()}}
        return report | ({"card_mib": dict(self._peaks)} if self._peaks else {})

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        while not self._stop.wait(1.0):
            lines = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
            now: dict[str, int] = {}
            for pid, taken in (line.split(",") for line in lines if line.count(",") == 1):
                with suppress(ValueError, psutil.Error):
                    name = self._server_of(int(pid))
                    now[name] = now.get(name, 0) + int(taken)
            for name, sum_now in now.items():
                self._peaks[name] = max(sum_now, self._peaks.get(name, 0))

    def _server_of(self, pid: int) -> str:
        above = {pid, *(process.pid for process in psutil.Process(pid).parents())}
        return next((name for name, server in self._there.items() if server.pid in above), "others")

    def _host_gib(self, server: Server) -> float:
        total = 0
        with suppress(psutil.Error):
            this = psutil.Process(server.pid)
            for process in (this, *this.children(recursive=True)):
                with suppress(psutil.Error, FileNotFoundError):
                    total += process.memory_full_info().pss
        return round(total / GIB, 2)
