"""`python -m app serve`: start Ray, deploy a serve config, say when it answers and where, and end with Ctrl-C.

With RAY_ADDRESS it deploys on that cluster instead and leaves the applications there. A key for this session is made
and shown with the page's address; only its hash is passed on. The configs also go by Ray's own commands, `serve run
FILE` and `serve deploy FILE`, with a key from `python -m app keys add NAME`.
"""

import argparse
import os
import re
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cluster.session import connected, joined_address, require_resources
from app.docsearch.network_mode import ONLINE
from app.errors import UserError
from app.files.user_files import user_path
from app.models.base import load_tokenizer, pulled_folder
from app.overrides import with_overrides
from app.profiles import PROFILES, get_profile, profile_of_machine
from app.progress import say
from app.prompting.turn_ends import check_chat
from app.runs import REPOSITORY, Run
from app.serving.arguments import LATEST, NONE, LLMArguments
from app.serving.config import ARGUMENTS, EVERY_ADDRESS, IDE, LLM, LOOPBACK, TOOLS, is_public, load_config
from app.serving.keys import Keys, hash_key, new_key
from app.settings import ModelSettings, Profile

if TYPE_CHECKING:
    from ray.serve.schema import ApplicationStatusOverview

POLL_S = 1.0
DEPLOY_TIMEOUT_S = 1800.0
"""A first start may fetch the weights."""
DASHBOARD_TIMEOUT_S = 60.0
DEFAULT_PORT = 8000
"""Of Serve."""


def serve(arguments: argparse.Namespace) -> None:
    """Run `python -m app serve`. Raises UserError for a bad config or run, or when the applications don't come up."""
    config, profile = prepare(arguments)
    key = new_key()
    for application in config["applications"]:
        application["args"]["session_keys"] = [hash_key(key)]
    _check(config)
    if not joined_address():
        require_free_port(config["http_options"]["host"], config["http_options"].get("port", DEFAULT_PORT))
    with connected(profile.cluster.model_copy(update={"dashboard": True})) as dashboard:
        require_resources("serving", num_cpus=1, num_gpus=int(profile.serving.use_gpu))
        _client(dashboard).deploy_applications(config)
        _wait_until_ready([application["name"] for application in config["applications"]])
        _print_addresses(config, key, dashboard)
        if joined_address():
            say("the applications stay on the cluster; `serve shutdown -y` ends them")
            return
        say("Ctrl-C ends it")
        with suppress(KeyboardInterrupt):
            signal.pause()
        say("ending")


def prepare(arguments: argparse.Namespace) -> tuple[dict[str, Any], Profile]:
    """The config with what the command line changes, and the profile that it names."""
    named = arguments.profile or (None if arguments.config else profile_of_machine())
    config = load_config(arguments.config or config_of(str(named)))
    for application in config["applications"]:
        given = application.setdefault("args", {})
        given["overrides"] = [*given.get("overrides", ()), *arguments.overrides]
        if named:
            given["profile"] = named
        if application["import_path"] in (LLM, IDE) and arguments.run is not None:
            given["run"] = (
                arguments.run if arguments.run in (LATEST, NONE) else str(user_path(arguments.run).absolute())
            )
        if application["import_path"] == TOOLS:
            # A cluster that is joined has an environment of its own: here it is this command's that counts.
            given["env"] = ONLINE if os.environ.get("ENV") == ONLINE else "offline"
    for option, value in (("host", arguments.host), ("port", arguments.port)):
        if value is not None:
            config["http_options"][option] = value
    first = config["applications"][0]["args"]
    return config, with_overrides(get_profile(first["profile"]), first["overrides"])


def config_of(profile: str) -> Path:
    """serve_configs/<profile>.yaml, or the one of its kind of machine."""
    get_profile(profile)
    own = REPOSITORY / "serve_configs" / f"{profile}.yaml"
    kind = "rtx3070" if PROFILES[profile]().serving.use_gpu else "laptop"
    return own if own.exists() else own.with_name(f"{kind}.yaml")


def _check(config: dict[str, Any]) -> None:
    """Raise UserError for what can be found wrong before Ray is started."""
    for application in config["applications"]:
        arguments = ARGUMENTS[application["import_path"]].model_validate(application["args"])
        if isinstance(arguments, LLMArguments):
            place = arguments.resolve()
            say(f"serving {place.profile.model.name} {_beside(place.run)}")
            _say_without_chat(place.profile.model)
        if is_public(config) and not Keys(arguments.key_store()).any:
            raise UserError(
                f"http_options.host={config['http_options']['host']} opens the server to others, and there is no "
                "lasting API key: make one with `python -m app keys add NAME`, or keep host 127.0.0.1"
            )


def require_free_port(host: str, port: int) -> None:
    """Raise UserError where something listens there: Serve would listen beside it (SO_REUSEPORT), and each would get
    some of the requests."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {host} can't be listened on ({error.strerror}): end what uses it, or give --port PORT"
            ) from None


def _beside(run: str | None) -> str:
    if not run:
        return "alone"
    held = Run(Path(run)).adapters()
    return f"and the adapters of {run}" if held else f"alone for now: {run} has no adapter that was kept"


def _say_without_chat(model: ModelSettings) -> None:
    """Tell of a model that is served, but can't be talked to; one that has still to be fetched isn't looked at."""
    if folder := pulled_folder(model):
        try:
            check_chat(load_tokenizer(folder), "/v1/chat/completions and the page need", "ask /v1/completions")
        except UserError as error:
            say(f"  {error}")


def _client(dashboard: str) -> Any:
    """A client of the dashboard's REST interface, as `serve deploy` makes it: no public call in Python takes a
    config."""
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    if not dashboard:
        raise UserError("the Ray cluster has no dashboard, which takes serve configs: start it with one")
    deadline = time.monotonic() + DASHBOARD_TIMEOUT_S
    while True:
        try:
            return ServeSubmissionClient(dashboard)
        except (ConnectionError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise UserError(f"Ray's dashboard at {dashboard} does not answer ({error}): see its log") from None
            time.sleep(POLL_S)


def _wait_until_ready(names: list[str]) -> None:
    """Say what changes until every application runs."""
    from ray import serve

    start = time.monotonic()
    said: dict[str, str] = {}
    while True:
        applications = serve.status().applications
        for name in names:
            line = _line(applications.get(name))
            if said.get(name) != line:
                said[name] = line
                say(f"  {name}: {line} ({time.monotonic() - start:.0f} s)")
            if name in applications and applications[name].status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise UserError(_why(name, applications[name]))
        if all(name in applications and applications[name].status == "RUNNING" for name in names):
            return
        if time.monotonic() - start > DEPLOY_TIMEOUT_S:
            raise UserError(f"{', '.join(names)} did not come up within {DEPLOY_TIMEOUT_S:.0f} s: see the dashboard")
        time.sleep(POLL_S)


def _line(application: "ApplicationStatusOverview | None") -> str:
    if application is None:
        return "not started"
    parts = []
    for name, deployment in application.deployments.items():
        states = [state.lower() for state, count in deployment.replica_states.items() for _ in range(count)]
        parts.append(f"{name} {'/'.join(states) or deployment.status.lower()}")
    return application.status.lower().replace("_", " ") + (f": {', '.join(parts)}" if parts else "")


def _why(name: str, application: "ApplicationStatusOverview") -> str:
    """The sentence of a UserError that Serve reports as a traceback, or its own message's last line."""
    messages = [application.message, *(deployment.message for deployment in application.deployments.values())]
    text = "\n".join(messages)
    ours = re.findall(r"UserError[^:]*: (.+)", text)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "no reason was given")
    return ours[-1] if ours else f"{name} did not come up ({last.strip()}): its log is in the dashboard, under Serve"


def _print_addresses(config: dict[str, Any], key: str, dashboard: str) -> None:
    options = config["http_options"]
    host = LOOPBACK[0] if options["host"] in EVERY_ADDRESS else options["host"]
    base = f"http://{host}:{options['port']}"
    for application in config["applications"]:
        if application["import_path"] == IDE:
            print(f"page       {base}{application['route_prefix']}/?key={key}")
        if application["import_path"] == TOOLS:
            print(f"tools      {base}{application['route_prefix']}   (MCP; Authorization: Bearer {key})")
    print(f"API        {base}/v1   (OpenAI's; Authorization: Bearer {key})")
    print(f"dashboard  {dashboard}   (token: `ray get-auth-token`)", flush=True)
