"""Prompts are dealt to engines by what each has to draw: everything once, evenly, and more to a fast one."""

import pytest

from app.generation.dealing import Dealing, cores_each, even_shares
from app.records import Prompt


def prompts(samples: list[int]) -> list[Prompt]:
    return [Prompt(id=str(n), text="x" * (n + 1), samples=tuple(range(count))) for n, count in enumerate(samples)]


def deal(asked: list[Prompt], speeds: list[int], batch_size: int) -> list[list[list[tuple[str, int]]]]:
    """What each engine got, piece by piece; the engines draw by turns as many drafts as their speed says."""
    dealing = Dealing(asked, engines=len(speeds), batch_size=batch_size)
    got: list[list[list[tuple[str, int]]]] = [[] for _ in speeds]
    left = [0] * len(speeds)
    while True:
        for engine, piece in dealing.pieces():
            got[engine].append([(one.id, sample) for one in piece for sample in one.samples])
            left[engine] += len(got[engine][-1])
        if not any(left):
            return got
        for engine, speed in enumerate(speeds):
            for _ in range(min(speed, left[engine])):
                left[engine] -= 1
                dealing.drawn(engine)


@pytest.mark.parametrize("samples", [[], [0], [1], [7] * 20, [100], [1, 50, 3, 0, 200]])
@pytest.mark.parametrize("engines", [1, 2, 3, 8])
def test_every_draft_is_dealt_once(samples: list[int], engines: int) -> None:
    asked = prompts(samples)
    dealt = [draft for pieces in deal(asked, [1] * engines, 4) for piece in pieces for draft in piece]
    assert sorted(dealt) == sorted((one.id, sample) for one in asked for sample in one.samples)


def test_equal_engines_draw_equally_much_but_for_the_last_batches() -> None:
    totals = [sum(map(len, pieces)) for pieces in deal(prompts([10] * 100), [1, 1, 1, 1], 16)]
    assert sum(totals) == 1000 and max(totals) - min(totals) <= 2 * 16


def test_a_slow_engine_draws_less_and_a_fast_one_more() -> None:
    slow, fast = (sum(map(len, pieces)) for pieces in deal(prompts([10] * 100), [1, 3], 8))
    assert (slow, fast) == (376, 624), "the first piece of the slow one is all that it gets"


def test_few_drafts_go_out_at_once_in_equal_parts_and_one_prompt_is_shared() -> None:
    assert [list(map(len, pieces)) for pieces in deal(prompts([16]), [1, 1], 64)] == [[8], [8]]
    assert [list(map(len, pieces)) for pieces in deal(prompts([1] * 5), [1, 1], 64)] == [[3], [2]]


def test_many_drafts_go_out_in_two_pieces_and_the_second_fills_a_batch() -> None:
    assert [list(map(len, pieces)) for pieces in deal(prompts([10] * 64), [1, 1], 64)] == [[256, 64], [256, 64]]


@pytest.mark.parametrize("seconds", [(1.0, 1.0), (1.0, 1.05), (1.0, 1.1), (1.3, 1.0), (1.0, 1.1, 1.2, 1.05)])
def test_engines_whose_batches_end_at_once_waste_less_than_a_batch_on_small_pieces(seconds: tuple[float, ...]) -> None:
    dealing, batch = Dealing(prompts([64] * 64), engines=len(seconds), batch_size=256), 256
    waiting: list[list[int]] = [[] for _ in seconds]
    ends: list[tuple[float, int, int]] = []
    free = [0.0] * len(seconds)

    def deal_out(now: float) -> None:
        for engine, piece in dealing.pieces():
            number = sum(len(one.samples) for one in piece)
            waiting[engine] += [min(batch, number - start) for start in range(0, number, batch)]
            for rows in waiting[engine]:
                free[engine] = max(free[engine], now) + seconds[engine]
                ends.append((free[engine], engine, rows))
            waiting[engine].clear()

    deal_out(0.0)
    while ends:
        now, engine, rows = min(ends)
        ends.remove((now, engine, rows))
        for _ in range(rows):
            dealing.drawn(engine)
            deal_out(now)
    ideal = 64 * 64 / batch / sum(1 / one for one in seconds)
    assert max(free) <= ideal + max(seconds)


def test_the_longest_prompts_go_first() -> None:
    (first, *_), *_ = deal(prompts([1] * 40), [1, 1], 4)
    assert first[0] == ("39", 0)


def test_scored_pairs_are_shared_by_size() -> None:
    assert even_shares([5, 900, 7, 1000, 6, 5], 2) == [[3, 2, 0], [1, 4, 5]]
    assert even_shares([1], 4) == [[0]] and even_shares([], 2) == []


@pytest.mark.parametrize(
    ("machines", "number", "left", "cores"),
    [
        ([4], 1, 0, 4),
        ([4], 1, 1, 3),
        ([1], 1, 1, 1),
        ([4], 2, 0, 2),
        ([4], 2, 1, 1),
        ([4, 4], 2, 0, 4),
        ([8, 2], 2, 0, 4),
        ([2, 2, 2], 3, 0, 2),
        ([16, 0], 1, 0, 16),
        ([2], 5, 0, 1),
    ],
)
def test_engines_without_cards_have_the_most_cores_that_all_can_have(
    machines: list[int], number: int, left: int, cores: int
) -> None:
    assert cores_each(machines, number, left=left) == cores
