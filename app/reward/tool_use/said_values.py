"""Values as people say them, each with the form in which its format wants it written."""

import datetime
from dataclasses import dataclass
from typing import Any

from app.corpus.draws import Draws
from app.reward.tool_use.format_words import Format, Wording

FIRST_DAY, DAYS = datetime.date(2026, 1, 1), 1000
"""Dates are drawn from the 1,000 days that begin with this one."""
_NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_HOURS = tuple(hour for hour in range(7, 22) if hour not in (11, 12))
"""Of the clock, without those after which a quarter to the next one would be noon."""
_CLOCK_MINUTES = (5, 10, 15, 20, 25, 35, 40, 50, 55)
_DURATION_MINUTES = (10, 20, 25, 40, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidValue:
    """Example: SaidValue(said="half past seven in the evening", written="19:30"). Made by `drawn`."""

    said: str
    written: Any


def drawn(form: Format, draws: Draws) -> SaidValue:
    """One value of the format."""
    if not form.computed:
        said = draws.one_of(list(form.pairs))
        return SaidValue(said=said, written=form.pairs[said])
    match form.computed:
        case "date":
            return _date(form, draws)
        case "time":
            return _time(form, draws)
        case "duration":
            return _duration(form, draws)
        case "amount":
            return _amount(form, draws)
        case "percent":
            number = 2 + draws.below(79)
            return SaidValue(said=draws.one_of(form.said).say.format(n=number), written=number / 100)
        case "phone":
            wording = draws.one_of(form.said)
            digits = {"two": f"{draws.below(100):02}", "three": f"{draws.below(1000):03}"}
            return SaidValue(said=wording.say.format(**digits), written=wording.write.format(**digits))


def _date(form: Format, draws: Draws) -> SaidValue:
    day = FIRST_DAY + datetime.timedelta(days=draws.below(DAYS))
    said = draws.one_of(form.said).say.format(
        day=day.day, nth=_nth(day.day), month=_MONTHS[day.month - 1], year=day.year, weekday=_WEEKDAYS[day.weekday()]
    )
    return SaidValue(said=said, written=day.strftime(form.write))


def _time(form: Format, draws: Draws) -> SaidValue:
    wording, hour = draws.one_of(form.said), draws.one_of(_HOURS)
    minute = draws.one_of(_CLOCK_MINUTES) if wording.minute is None else wording.minute
    part = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    said = wording.say.format(
        hour=_NUMBERS[(hour - 1) % 12],
        next=_NUMBERS[hour % 12],
        number=(hour - 1) % 12 + 1,
        minute=f"{minute:02}",
        part=part,
        half=draws.one_of(("am", "a.m.") if hour < 12 else ("pm", "p.m.")),
    )
    return SaidValue(said=said, written=datetime.time(hour, minute).strftime(form.write))


def _duration(form: Format, draws: Draws) -> SaidValue:
    number, minutes = 2 + draws.below(5), draws.one_of(_DURATION_MINUTES)
    wording = draws.one_of(form.said)
    seconds = wording.seconds + wording.per * number + (60 * minutes if "{m}" in wording.say else 0)
    return SaidValue(said=wording.say.format(n=_NUMBERS[number - 1], m=minutes), written=seconds // int(form.write))


def _amount(form: Format, draws: Draws) -> SaidValue:
    wording: Wording = draws.one_of(form.said)
    whole, cents = 2 + draws.below(180), 5 + 5 * draws.below(19)
    written = whole * int(form.write) + (cents if "{cents}" in wording.say else 0)
    return SaidValue(said=wording.say.format(whole=whole, cents=f"{cents:02}"), written=written)


def _nth(day: int) -> str:
    ending = "th" if 10 <= day <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"
