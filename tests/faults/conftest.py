"""The Ray of the tests and the submitted job's run, as tests/ray and tests/e2e have them."""

from tests.e2e.conftest import job, jobs  # noqa: F401
from tests.ray.conftest import local_ray  # noqa: F401
