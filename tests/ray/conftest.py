"""A local Ray of the tests' own: joined by nobody, joining nobody."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cluster.offline import offline
from app.cluster.session import connected
from app.settings import ClusterSettings
from tests.commands import workers_socket
from tests.forked_workers import forking


@pytest.fixture(scope="session")
def local_ray(cache: Path) -> Iterator[None]:
    # More logical than real cores: two trainers and their data readers must be schedulable on a small machine.
    settings = ClusterSettings(num_cpus=4, object_store_bytes=200 << 20, dashboard=False)
    with forking(workers_socket()), contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:  # for this Ray alone: commands of other tests have none
            patch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')
            patch.setenv("ENV", "online")
            with offline():  # as a pipeline starts it for a user who is online
                stack.enter_context(connected(settings))
        yield
