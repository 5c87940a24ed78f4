"""The Ray cluster a command runs on: joined when RAY_ADDRESS names one, started here otherwise.

Ray waits many minutes for a cluster that is gone, so one that is to be joined is asked first. Its sockets lie in its
temporary folder, whose path must be short (`app.cluster.folders`).

A started cluster listens on this machine's addresses (Ray has no loopback-only mode), so token authentication stays
on and the token file is made private; see docs of Ray, "Token authentication".
"""

import contextlib
import functools
import logging
import os
from collections.abc import Iterator
from typing import Any

from app.cluster.folders import choose_temporary_folder, make_private_token, object_store_folder
from app.cluster.offline import MODE
from app.cluster.signals import interrupt_by_sigterm
from app.cluster.watch import watched, watched_joining
from app.errors import UserError, first_line
from app.files.home import cache_root
from app.progress import say
from app.runs import REPOSITORY
from app.settings import ClusterSettings, GenerationSettings

FORWARDED = ("POCKETCODER_CACHE", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", MODE)
"""What the driver's environment says of weights and of the network, for workers on other machines."""
JOIN_S = 8.0
"""How long a cluster may take to answer each of two questions."""


@contextlib.contextmanager
def connected(settings: ClusterSettings) -> Iterator[str]:
    """Connect to Ray for the duration of the block; a block inside such a block shares its connection.

    Workers have the ENV of this moment for as long as the connection lasts (`app.cluster.offline`).
    Yields the dashboard's address, empty where there is none and in the inner block. Raises UserError when RAY_ADDRESS
    answers nothing.
    """
    import ray

    if ray.is_initialized():
        yield ""
        return
    address = joined_address()
    # A submitted job already runs in a copy of the repository that every worker gets; setting it twice is an error.
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if address:
        context = _join(address, in_job)
    else:
        # Workers inherit the environment. A runtime_env would say the same, but each worker would start anew for it.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        # Says on each start that the token is on; Ray has no setting for that, only the logger's private name.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        choose_temporary_folder()
        make_private_token()
        store = object_store_folder(settings.object_store_bytes)
        with watched(""):  # where Ray's head is lost while it starts, `ray.init` ends this process without a word
            context = ray.init(
                address="local",
                num_cpus=settings.num_cpus,
                object_store_memory=settings.object_store_bytes,
                _plasma_directory=store,
                include_dashboard=settings.dashboard,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
        where = f", dashboard at http://{context.dashboard_url} (token: `ray get-auth-token`)"
        say("started Ray on this machine" + (where if context.dashboard_url else ""))
    interrupt_by_sigterm()
    _show_no_ray_data_progress()
    try:
        with watched(address):
            yield f"http://{context.dashboard_url}" if context.dashboard_url else ""
    finally:
        ray.shutdown()


def joined_address() -> str:
    """What RAY_ADDRESS names; empty where Ray is to be started here."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if address == "local" else address


def _join(address: str, in_job: bool) -> Any:
    """What `ray.init` returns."""
    import ray
    from ray.exceptions import AuthenticationError

    host, _, port = address.rpartition(":")
    if "://" in address or address != "auto" and not (host and port.isdigit()):
        raise UserError(f"RAY_ADDRESS={address!r} is no cluster address: give HOST:6379, or unset it to start Ray here")
    env_vars = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    if "POCKETCODER_CACHE" in env_vars:
        env_vars["POCKETCODER_CACHE"] = str(cache_root())
    runtime_env = {"env_vars": env_vars} if in_job else {"env_vars": env_vars, "working_dir": str(REPOSITORY)}
    os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"] = "1"  # else a variable that the job was submitted with is an error here
    try:
        place = _ask(address)
        with watched_joining(address, functools.partial(_check_alive, place)):
            context = ray.init(runtime_env=runtime_env, logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, AuthenticationError) as error:
        raise UserError(
            f"the Ray cluster at RAY_ADDRESS={address!r} can't be joined ({first_line(error)}): "
            "check that it runs, RAY_AUTH_MODE and the token, or unset RAY_ADDRESS to start one here"
        ) from None
    say(f"joined the Ray cluster at {ray.get_runtime_context().gcs_address}")
    return context


def _ask(address: str) -> str:
    """Raise ConnectionError unless a Ray cluster answers there within JOIN_S, and this machine is one of its nodes.
    Returns its head's HOST:PORT.

    By private members of Ray 2.60: `ray.init` waits for minutes for a cluster that is gone and takes no limit, and
    `ray.util.state` asks the dashboard, which a cluster need not have.
    """
    import ray
    from ray._private import services
    from ray.core.generated import gcs_pb2

    place = str(services.canonicalize_bootstrap_address_or_die(address))
    _check_alive(place)
    if address == "auto":  # found among this machine's processes
        return place
    alive = ray._raylet.GcsClient(address=place).get_all_node_info(
        timeout=JOIN_S, state_filter=gcs_pb2.GcsNodeInfo.GcsNodeState.ALIVE
    )
    if not {node.hex() for node in alive} & set(services.find_node_ids()):
        raise ConnectionError(
            f"this machine does not belong to it: run `ray start --address={place}` here first, or submit the command "
            "as a job, with `ray job submit`"
        )
    return place


def _check_alive(place: str) -> None:
    """Raise ConnectionError unless a Ray cluster answers there within JOIN_S."""
    import grpc  # type: ignore[import-untyped]
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

    with init_grpc_channel(place, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            stub.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=JOIN_S)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError(f"nothing that is Ray answers at {place}: {error.details()}") from None
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                raise ConnectionError(f"what answers at {place} is not Ray") from None
            # Another answer is Ray's, about the token for one: joining says it better.


def require_resources(what: str, *, num_cpus: int, num_gpus: int) -> None:
    """Raise UserError when the nodes that are up can't grant this; Ray itself would wait for ever."""
    import ray

    there = ray.cluster_resources()
    for kind, wanted in (("CPU", num_cpus), ("GPU", num_gpus)):
        if there.get(kind, 0) < wanted:
            raise UserError(
                f"{what} needs {wanted} {kind}(s) and the Ray cluster has {there.get(kind, 0):.0f}: lower the setting, "
                "add nodes, or take another --profile (laptop needs no card; cluster.num_cpus=2 lets one core do)"
            )


def require_engines(settings: GenerationSettings) -> None:
    """Raise UserError when the nodes that are up have no room for the engines that draw."""
    number = settings.num_workers or 1
    what = "generation" if number == 1 else f"generation.num_workers={number}"
    require_resources(what, num_cpus=number, num_gpus=number * settings.use_gpu)


def _show_no_ray_data_progress() -> None:
    """The stages show their own progress; Ray Data's stays in the session's log files."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)
