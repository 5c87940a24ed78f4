"""What is drawn by hash stays what it was: splits, orders and shards of corpora that were built before go by it."""

import hashlib

import pytest

from app.corpus import draws


def test_a_key_draws_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(b"0:split:numpy").digest()
    assert draws.by_hash("0:split:numpy") == digest == draws.by_hash(b"0:split:numpy")
    assert draws.bits("0:split:numpy") == 0x573DA8F3E054464F
    assert draws.uniform("0:split:numpy") == pytest.approx(draws.bits("0:split:numpy") / 2**64, abs=2**-53)


@pytest.mark.parametrize(("digest", "number"), [(b"\0" * 32, 0.0), (b"\xff" * 32, 1 - 2**-53)])
def test_a_drawn_number_is_never_one(monkeypatch: pytest.MonkeyPatch, digest: bytes, number: float) -> None:
    monkeypatch.setattr(draws, "by_hash", lambda key: digest)
    assert draws.uniform("any") == number < 1
