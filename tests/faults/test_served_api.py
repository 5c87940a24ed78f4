"""The served API under requests made from its own description, for minutes."""

from pathlib import Path

import pytest

from tests.e2e.fuzzing import fuzz
from tests.e2e.test_serve import Serving, serving  # noqa: F401

SECONDS = 600


@pytest.mark.timeout(2 * SECONDS)
def test_no_request_makes_the_server_fail(serving: Serving, tmp_path: Path) -> None:  # noqa: F811
    fuzz(serving.url, serving.key, tmp_path, seconds=SECONDS)
