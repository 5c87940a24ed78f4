"""The process that forks the tests' commands and workers."""

from pathlib import Path

from tests.commands import context


def draw(place: Path) -> None:
    from ray import ObjectRef

    place.write_text(ObjectRef.from_random().hex())


def test_forked_workers_draw_numbers_of_their_own(tmp_path: Path) -> None:
    """Those of Ray's objects; where two are the same, a worker ends now and then, and Ray waits for it."""
    places = [tmp_path / str(number) for number in range(2)]
    for place in places:
        process = context().Process(target=draw, args=(place,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert places[0].read_text() != places[1].read_text()
