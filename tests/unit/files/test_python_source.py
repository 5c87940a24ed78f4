"""Python's parser in several threads."""

import ast
import gc
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.files.python_source import parse
from app.sandbox import supervisor


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as can be, and each garbage collection lets another one run."""
    interval, gives_way = sys.getswitchinterval(), lambda *_: time.sleep(0)
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(gives_way)
    yield
    gc.callbacks.remove(gives_way)
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless")
def test_threads_that_parse_at_once_don_t_disturb_each_other() -> None:
    source = Path(supervisor.__file__).read_text()
    expected = ast.dump(ast.parse(source))
    with ThreadPoolExecutor(4) as threads:
        assert all(ast.dump(tree) == expected for tree in threads.map(parse, [source] * 40))
