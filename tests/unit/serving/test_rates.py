"""What one key may ask and use in a minute, and what becomes of it when it does not use what was set aside."""

import pytest

from app.serving.errors import ApiError
from app.serving.rates import Rate, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_may_use_its_minute_at_once_and_then_as_it_is_filled_again() -> None:
    clock = Clock()
    rates = Rates(lambda _: Rate(requests_per_minute=3), clock)
    for _ in range(3):
        rates.take_request("laptop")
    with pytest.raises(ApiError, match="3 requests a minute: try again in 20 s") as caught:
        rates.take_request("laptop")
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (429, "rate_limit_exceeded", 20.0)
    clock.now += 20
    rates.take_request("laptop")
    with pytest.raises(ApiError):
        rates.take_request("laptop")


def test_each_key_has_a_rate_of_its_own() -> None:
    rates = Rates(lambda owner: Rate(requests_per_minute={"a": 1, "b": 2}.get(owner, 0)), Clock())
    for owner in ("a", "b", "b", *["free"] * 50):
        rates.take_request(owner)
    for owner in ("a", "b"):
        with pytest.raises(ApiError):
            rates.take_request(owner)


def test_tokens_that_were_set_aside_and_not_used_are_there_again() -> None:
    rates = Rates(lambda _: Rate(tokens_per_minute=100), Clock())
    settle = rates.take_tokens("a", 80)
    with pytest.raises(ApiError, match="may use 100 tokens a minute, and this request may need 30"):
        rates.take_tokens("a", 30)
    settle(10)
    rates.take_tokens("a", 90)
    with pytest.raises(ApiError):
        rates.take_tokens("a", 1)


def test_what_was_filled_again_meanwhile_is_not_put_back_a_second_time() -> None:
    clock = Clock()
    rates = Rates(lambda _: Rate(tokens_per_minute=100), clock)
    settle = rates.take_tokens("a", 100)
    clock.now += 60
    rates.take_tokens("a", 100)
    settle(0)
    with pytest.raises(ApiError):
        rates.take_tokens("a", 1)


def test_a_request_larger_than_the_minute_is_let_in_when_the_bucket_is_full_and_paid_for_afterwards() -> None:
    clock = Clock()
    rates = Rates(lambda _: Rate(tokens_per_minute=60), clock)
    rates.take_tokens("a", 300)(300)
    with pytest.raises(ApiError) as caught:
        rates.take_tokens("a", 1)
    assert caught.value.retry_after == pytest.approx(241.0)
    clock.now += 300
    rates.take_tokens("a", 300)


def test_a_new_rate_holds_at_once() -> None:
    allowed = {"requests_per_minute": 1}
    rates = Rates(lambda _: Rate(**allowed), Clock())
    rates.take_request("a")
    with pytest.raises(ApiError):
        rates.take_request("a")
    allowed["requests_per_minute"] = 0
    rates.take_request("a")
