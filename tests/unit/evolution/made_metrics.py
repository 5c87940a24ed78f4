"""Made-up verdicts whose comparison is known."""

from collections.abc import Sequence

from app.evolution.records import Metrics


def solving(passed: Sequence[int], *, drafts: int = 2, kl: float = 0.0, tokens: int = 100) -> Metrics:
    """passed: how many drafts of each problem."""
    rates = {f"p{number}": (one, drafts) for number, one in enumerate(passed)}
    return Metrics(rates=rates, drafts=drafts, num_tokens=tokens * drafts * len(rates), kl=kl)


def first_of(num_solved: int, num_problems: int = 100, **others: float) -> Metrics:
    """Solves the first ones with both drafts, and no other."""
    kl, tokens = others.get("kl", 0.0), int(others.get("tokens", 100))
    return solving([2] * num_solved + [0] * (num_problems - num_solved), kl=kl, tokens=tokens)
