"""Which drafts selection needs: a few of each problem at first, more where individuals are close, and fresh ones of the
final choice; all together within selection's share of a generation's tokens.

The best of several measured ones looks better than it is. What is said of the final choice is therefore measured again,
on drafts that had no part in choosing it (`fresh_draws`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from app.corpus.draws import by_hash
from app.errors import UserError
from app.evolution.records import Metrics
from app.evolution.selection import Measured, Pair, Ranking, pairs_against, replacements
from app.stage_settings.evolve import EvolveSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Drafts to ask of one individual.

    Example: Draw(name="g1-2", problems=("MBPP/601", "MBPP/602"), samples=(2, 3))
    """

    name: str
    problems: tuple[str, ...]
    samples: tuple[int, ...]
    """Numbers of the drafts of each problem (`app.records.Prompt`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """Made by `further_draws`."""

    draws: tuple[Draw, ...]
    close: tuple[Pair, ...]
    """That decide about a replacement and are not decided, the nearest to it first."""
    unpaid: tuple[Pair, ...]
    """Those of close for which the tokens do not suffice."""


def first_draws(
    names: Sequence[str],
    problems: Sequence[str],
    settings: EvolveSettings,
    *,
    tokens_a_draft: float,
    budget: int,
    seed: int = 0,
) -> tuple[Draw, ...]:
    """The same problems for all: those that the budget pays for, drawn by hash. Raises UserError for none.

    budget: see `budget_of`."""
    cost = len(names) * settings.drafts * tokens_a_draft
    number = min(len(problems), int(budget / cost))
    if not number:
        raise UserError(
            f"selection may draw {budget} tokens, and one problem for {len(names)} individuals takes {cost:.0f}: raise "
            "evolve.selection_share, or give a generation more tokens"
        )
    kept = set(sorted(problems, key=lambda problem: by_hash(f"{seed}:selection:{problem}"))[:number])
    asked = tuple(problem for problem in problems if problem in kept)
    return tuple(Draw(name=name, problems=asked, samples=tuple(range(settings.drafts))) for name in names)


def further_draws(measured: Measured, ranking: Ranking, settings: EvolveSettings, *, budget: int) -> Further:
    """Twice the drafts, up to the most, for individuals whose replacement is not decided and for their donors.

    Ask again once they are judged and added (`with_more`): there are none when all is decided, or has the most drafts.
    budget: that all of measured draw, what they have drawn included (`budget_of`)."""
    undecided = [one.name for one in replacements(measured, ranking, settings) if not one.donor]
    pairs = chain.from_iterable(pairs_against(measured, name, ranking.survivors, settings) for name in undecided)
    close = sorted(pairs, key=lambda pair: -pair.errors)
    left = float(budget) - sum(one.num_tokens for one in measured.values())
    draws: dict[str, Draw] = {}
    unpaid = []
    for pair in close:
        wanted = [_doubled(name, measured[name], settings) for name in (pair.ahead, pair.behind) if name not in draws]
        more = [draw for draw in wanted if draw.samples]
        cost = sum(_cost(draw, measured[draw.name]) for draw in more)
        if cost > left:
            unpaid.append(pair)
            continue
        left -= cost
        draws |= {draw.name: draw for draw in more}
    return Further(draws=tuple(draws.values()), close=tuple(close), unpaid=tuple(unpaid))


def fresh_draws(names: Sequence[str], problems: Sequence[str], settings: EvolveSettings) -> tuple[Draw, ...]:
    """As many drafts of each problem as the closest were judged by, with numbers that no selection asks for.

    names: the final choice, and what it is to be compared with."""
    fresh = tuple(range(settings.most_drafts, 2 * settings.most_drafts))
    return tuple(Draw(name=name, problems=tuple(problems), samples=fresh) for name in names)


def budget_of(total_tokens: int, settings: EvolveSettings) -> int:
    """Tokens that a generation's selection may draw. total_tokens: the whole generation's, selection included; of an
    experiment that measures its final choice, less what that will take."""
    return int(total_tokens * settings.selection_share)


def selection_budget(settings: EvolveSettings) -> int:
    """Tokens that a generation's selection may draw: its share of all that the generation may spend."""
    spent = settings.population * settings.generation_tokens
    return budget_of(round(spent / (1 - settings.selection_share)), settings)


def with_more(before: Metrics, more: Metrics) -> Metrics:
    """The drafts of both; KL and speeds are the ones before."""
    rates = dict(before.rates)
    for problem, (passed, counted) in more.rates.items():
        had = rates.get(problem, (0, 0))
        rates[problem] = (had[0] + passed, had[1] + counted)
    return Metrics(
        rates=rates,
        drafts=before.drafts + more.drafts,
        num_tokens=before.num_tokens + more.num_tokens,
        kl=before.kl,
        speeds=before.speeds,
    )


def _doubled(name: str, metrics: Metrics, settings: EvolveSettings) -> Draw:
    wanted = min(2 * metrics.drafts, settings.most_drafts)
    return Draw(name=name, problems=tuple(metrics.rates), samples=tuple(range(metrics.drafts, wanted)))


def _cost(draw: Draw, metrics: Metrics) -> float:
    """Tokens, by the length of the individual's drafts before."""
    return metrics.num_tokens / metrics.drafts * len(draw.samples)
