"""The documentation search on a real Ray: one budget for all who call it, in whatever process."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

from actors.docs_search import DocsSearchClient
from app.docsearch.records import Refused
from app.settings_docsearch import DocsearchSettings

SETTINGS = DocsearchSettings(offline_packages=("pluggy",))


@pytest.fixture(scope="module")
def client(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocsSearchClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENV", "training")
        made = DocsSearchClient(SETTINGS, tmp_path_factory.mktemp("docsearch"))
    with contextlib.closing(made):
        yield made


def verdict(client: DocsSearchClient, query: str, request: str) -> str:
    try:
        return client.search(query, request=request).refused[0].reason
    except Refused as refused:
        return refused.reason


def test_training_is_answered_by_what_is_on_the_machine(client: DocsSearchClient) -> None:
    answer = client.search("json.loads", "python", request=client.begin())
    assert answer.found[0].title == "json.loads" and answer.is_offline
    assert [refusal.reason for refusal in answer.refused] == ["offline"]


def test_five_of_eight_parallel_searches_of_a_request_run(client: DocsSearchClient) -> None:
    one, other = client.begin(), client.begin()
    with ThreadPoolExecutor(16) as threads:
        asked = [threads.submit(verdict, client, "json.loads", request) for request in (one, other) * 8]
        came = [future.result(timeout=60) for future in asked]
    for verdicts in (came[::2], came[1::2]):
        assert sorted(verdicts) == ["budget"] * 3 + ["offline"] * 5


def test_a_copy_in_another_process_shares_the_budget(client: DocsSearchClient) -> None:
    @ray.remote(num_cpus=0)
    def search_there(copy: DocsSearchClient, request: str) -> int:
        return copy.search("json.loads", request=request).searches_left

    request = client.begin()
    assert client.search("json.loads", request=request).searches_left == 4
    assert ray.get(search_there.remote(client, request), timeout=60) == 3
    assert client.search("json.loads", request=request).searches_left == 2


def test_a_refusal_is_no_error_of_rays(client: DocsSearchClient) -> None:
    with pytest.raises(Refused) as refused:
        client.search("open ~/.ssh/id_rsa", request=client.begin())
    assert refused.value.reason == "secret" and "id_rsa" not in str(refused.value)


def test_requests_end_with_the_process_and_new_ones_go_on(client: DocsSearchClient) -> None:
    request = client.begin()
    pid = ray.get(client._actor.__ray_call__.remote(lambda _: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    end, came = time.monotonic() + 60, ""
    while came != "request" and time.monotonic() < end:
        with contextlib.suppress(Exception):  # until Ray has started it anew
            came = verdict(client, "json.loads", request)
        time.sleep(0.2)
    assert came == "request"
    assert client.search("json.loads", request=client.begin()).is_offline
