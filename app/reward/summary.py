"""What a complete self-reward stage came to, for the report and the model card: read from grm/meta.json and the figures
of the arm that was kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from app.errors import UserError
from app.files.json_files import read_json, read_json_lines
from app.records import Score
from app.reward.by_reward.watch import StepFigures
from app.reward.critic.measures import Table, table_from
from app.reward.drafts.audit import Audit
from app.reward.drafts.solve_rates import BANDS
from app.runs import Run

BAND_NAMES = dict(zip(BANDS, ("never", "to ¼", "to ½", "to ¾", "more", "always"), strict=True))
"""Of solve rates, for a table's head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """Problems of one source and licence."""

    source: str
    licence: str
    given: int
    learnt: int
    untested: int
    """Those without tests."""
    solve_rates: Mapping[str, int]
    """Problems by how often the untouched model solves them (`solve_rates.BANDS`); empty where it was not asked."""

    @property
    def is_judged(self) -> bool:
        """Whether a problem of them has tests."""
        return self.untested < self.given


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedBy:
    """What ranked drafts that no test tells apart, and what rankings are worth: grm/critic/metrics.json."""

    used: str
    why: str
    model: str
    """The name of the model that the critic is made of."""
    learnt: Mapping[str, Any] | None
    """What the critic has learnt from (`critic.training.Learnt`); None without a critic."""
    table: Table | None
    """None where there was nothing to compare by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The stage in numbers. Made by `summary_of`; read by the report and the model card."""

    arm: str
    base: str
    sources: Sequence[SourceRow]
    rate_drafts: int
    """Drafts of a problem by the untouched model; 0 where it drew none."""
    pass_at: Mapping[str, Score]
    """Of the untouched model, by name, as "pass@16"."""
    steps: int
    drafts: int
    tokens: int
    """Drawn."""
    learnt_tokens: int
    seconds: float
    why_ended: str
    figures: Sequence[StepFigures]
    """Of each step; none of an arm that does not draw at each step."""
    rounds: Sequence[Mapping[str, Any]]
    """Of an arm that imitates in rounds, as `rounds.RoundFigures` has them; none of another."""
    ranked_by: RankedBy | None
    """None where tests alone decided."""
    audit: Audit | None
    """None in a run of before there were audits."""

    @property
    def untested(self) -> int:
        """Problems without tests."""
        return sum(row.untested for row in self.sources)

    @property
    def only_ranked(self) -> bool:
        """Whether rft had no problem with tests, so that a ranking alone chose."""
        return self.arm == "rft" and self.untested == sum(row.given for row in self.sources)

    @property
    def peak_gib(self) -> float:
        return max(one.peak_gib for one in self.figures)

    @property
    def drafting_speed(self) -> float:
        """Tokens a second, over the steps that drew."""
        return _speed([(one.num_tokens, one.drafting_seconds) for one in self.figures])

    @property
    def training_speed(self) -> float:
        """Tokens a second, padding included."""
        pairs = [(one.training_tokens_per_second * one.training_seconds, one.training_seconds) for one in self.figures]
        return _speed(pairs)


def summary_of(run: Run) -> Summary | None:
    """None where the stage is not complete. Raises UserError for files that were changed by hand."""
    if not run.grm_meta.exists():
        return None
    meta = read_json(run.grm_meta)
    try:
        untouched = meta["untouched"] or {"drafts_a_problem": 0}
        return Summary(
            arm=meta["arm"],
            base=meta["model"]["name"],
            sources=[SourceRow(**({"solve_rates": {}, "untested": 0} | row)) for row in meta["problems"]],
            rate_drafts=untouched["drafts_a_problem"],
            pass_at={name: Score(**score) for name, score in untouched.items() if name.startswith("pass@")},
            steps=meta["steps"],
            drafts=meta["drafts"],
            tokens=meta["tokens"],
            learnt_tokens=meta["learnt_tokens"],
            seconds=meta["seconds"],
            why_ended=meta["why_ended"],
            figures=figures_of(run, meta["arm"]),
            rounds=meta.get("rounds", ()),
            ranked_by=_ranked_by(meta.get("ranking")),
            audit=audit_of(meta.get("audit")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{run.grm_meta} can't be read as the end of self-reward ({type(error).__name__}: {error}): restore it, or "
            "remove it and give `python -m app grm` again"
        ) from None


def draw(axes: Sequence[Any], figures: Sequence[StepFigures]) -> None:
    """Reward, entropy and length over the steps, on three of Matplotlib's axes."""
    steps = [one.step for one in figures]
    reward, entropy, length = axes
    reward.plot(steps, [_none(one.reward_mean) for one in figures], color="#1f77b4", marker=".", label="reward")
    reward.plot(
        steps, [one.share_with_variance for one in figures], color="#ff7f0e", alpha=0.7, label="groups that vary"
    )
    reward.set(title="Reward, share of groups")
    reward.legend(fontsize="small", framealpha=0.6)
    entropy.plot(steps, [_none(one.entropy) for one in figures], color="#2ca02c", marker=".")
    entropy.set(title="Entropy, nats a token")
    length.plot(steps, [one.mean_tokens for one in figures], color="#9467bd", marker=".")
    length.set(title="Tokens of a draft")
    for one in axes:
        one.margins(y=0.08)
        one.set(xlabel="step", ylim=(0, one.get_ylim()[1]))
        one.grid(alpha=0.3)


def _none(value: float | None) -> float:
    return float("nan") if value is None else value


def _speed(pairs: Sequence[tuple[float, float]]) -> float:
    """pairs: tokens and seconds; those of no time, as of drafts that were there already, are left out."""
    tokens, seconds = (sum(pair[place] for pair in pairs if pair[1] > 0) for place in (0, 1))
    return tokens / seconds if seconds else 0.0


def figures_of(run: Run, arm: str) -> list[StepFigures]:
    """Of the steps that were taken so far; none of an arm that does not draw at each step."""
    known = {field.name for field in fields(StepFigures)}
    rows = [row for row in read_json_lines(run.arm(arm).metrics) if "reward_mean" in row]
    return [StepFigures(**{name: value for name, value in row.items() if name in known}) for row in rows]


def _ranked_by(held: dict[str, Any] | None) -> RankedBy | None:
    if held is None:
        return None
    table = table_from(held["measured"]) if held["measured"] else None
    model = held["model"]["name"]
    return RankedBy(used=held["used"], why=held["why"], model=model, learnt=held["learnt"], table=table)


def audit_of(held: Mapping[str, Any] | None) -> Audit | None:
    """Out of a meta.json."""
    if held is None:
        return None
    by_source = {source: (audited, false) for source, (audited, false) in held["by_source"].items()}
    rate = Score(**held["rate"]) if held["rate"] else None
    return Audit(**dict(held) | {"rate": rate, "by_source": by_source})
