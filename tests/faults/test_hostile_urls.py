"""A hundred thousand URLs made of hostile parts: none that the gate allows leaves the list for any of three parsers."""

import random

import pytest

from tests.hostile_urls import complaints, urls


@pytest.mark.parametrize("seed", range(4))
def test_no_url_of_twenty_five_thousand_leaves_the_list(seed: int) -> None:
    allowed, found = complaints(urls(random.Random(seed), 25_000))
    assert not found
    assert allowed > 2000
