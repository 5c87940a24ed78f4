"""The Ray cluster a command runs on: joined when RAY_ADDRESS names one, started here otherwise.

A started cluster listens on this machine's addresses (Ray has no loopback-only mode), so token authentication stays
on and the token file is made private; see docs of Ray, "Token authentication".
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from app.errors import UserError
from app.progress import say
from app.runs import REPOSITORY
from app.settings import ClusterSettings


@contextlib.contextmanager
def connected(settings: ClusterSettings) -> Iterator[None]:
    """Connect to Ray for the duration of the block; a block inside such a block shares its connection.

    Raises UserError when RAY_ADDRESS answers nothing.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    joining = "RAY_ADDRESS" in os.environ
    # A submitted job already runs in a copy of the repository that every worker gets; setting it twice is an error.
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if joining:
        runtime_env = {} if in_job else {"working_dir": str(REPOSITORY)}
        try:
            ray.init(runtime_env=runtime_env, logging_level=logging.WARNING, log_to_driver=False)
        except ConnectionError as error:
            raise UserError(
                f"no Ray cluster answers at RAY_ADDRESS={os.environ['RAY_ADDRESS']!r} ({str(error).splitlines()[0]}): "
                "start it, or unset RAY_ADDRESS to start one here"
            ) from None
        say(f"joined the Ray cluster at {ray.get_runtime_context().gcs_address}")
    else:
        # Workers inherit the environment. A runtime_env would say the same, but each worker would start anew for it.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # says that the token is on
        old_umask = os.umask(0o077)  # Ray writes its token with the permissions of the umask
        try:
            ray.init(
                address="local",
                num_cpus=settings.num_cpus,
                object_store_memory=settings.object_store_bytes,
                include_dashboard=settings.dashboard,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
        finally:
            os.umask(old_umask)
        token = Path.home() / ".ray" / "auth_token"
        if token.exists() and token.stat().st_uid == os.getuid():
            token.chmod(0o600)
        url = ray.get_runtime_context().worker.node.webui_url if settings.dashboard else ""
        say(
            "started Ray on this machine"
            + (f", dashboard at http://{url} (token: `ray get-auth-token`)" if url else "")
        )
    _show_no_ray_data_progress()
    try:
        yield
    finally:
        ray.shutdown()


def require_resources(what: str, *, num_cpus: int, num_gpus: int) -> None:
    """Raise UserError when the cluster can never grant this; Ray itself would wait for ever."""
    import ray

    there = ray.cluster_resources()
    for kind, wanted in (("CPU", num_cpus), ("GPU", num_gpus)):
        if there.get(kind, 0) < wanted:
            raise UserError(
                f"{what} needs {wanted} {kind}(s) and the Ray cluster has {there.get(kind, 0):.0f}: lower the setting, "
                "add nodes, or take another --profile (laptop needs no card; cluster.num_cpus=2 lets one core do)"
            )


def _show_no_ray_data_progress() -> None:
    """The stages show their own progress; Ray Data's stays in the session's log files."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.ERROR)
