"""Values that are written otherwise than they are said: right by calendars, clocks and lists of others, and not to be
had by repeating the request.
"""

import datetime
import importlib.resources
import json
import locale
import os
import re
from collections import Counter, defaultdict

import phonenumbers
import pytest
from dateutil import parser as dates
from pydantic import ValidationError

from app.corpus.draws import Draws
from app.prompting.tool_calls import Call, call_text, parse_calls
from app.reward.tool_use.format_words import Format, FormattedTool, load_format_words, places_of
from app.reward.tool_use.formats import as_function, asked_for, drawn_forms, formatted_problems
from app.reward.tool_use.judge import graded
from app.reward.tool_use.making import expected, made_problems, side_of
from app.reward.tool_use.names import forms_of
from app.reward.tool_use.said_values import SaidValue, drawn
from tests.unit.reward.tool_use.made import TOOLS

WORDS = load_format_words()
NUMBERS = {
    word: place for place, word in enumerate("one two three four five six seven eight nine ten eleven".split(), 1)
}
ORDERS = {"date_iso": (r"(\d{4})-(\d\d)-(\d\d)", "ymd"), "date_us": (r"(\d\d)/(\d\d)/(\d{4})", "mdy"),
          "date_dotted": (r"(\d\d)\.(\d\d)\.(\d{4})", "dmy")}  # fmt: skip
STATES = set(
    "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA "
    "RI SC SD TN TX UT VT VA WA WV WI WY".split()
)
CITIES = """CA San Jose, San Diego, San Francisco, Fresno, Sacramento, Oakland; CO Denver; WA Seattle, Spokane, Tacoma
IL Chicago
TX Houston, San Antonio, Dallas, Austin, El Paso; AZ Phoenix, Tucson; PA Philadelphia, Pittsburgh; IN Indianapolis
MA Boston; MI Detroit, Ann Arbor; TN Memphis, Chattanooga, Knoxville; KY Louisville; MD Baltimore; WI Milwaukee
NM Albuquerque, Santa Fe; NE Omaha; GA Atlanta; FL Miami, Tampa, Orlando, Tallahassee; MN Minneapolis; OK Tulsa
LA New Orleans, Baton Rouge; KS Wichita; OH Cleveland, Cincinnati; HI Honolulu; AK Anchorage; ID Boise; IA Des Moines
UT Salt Lake City; AR Little Rock; SD Sioux Falls; ND Fargo; NV Reno, Las Vegas; NC Raleigh; CT Hartford; WY Cheyenne
FR Lyon, Marseille; DE Hamburg, Munich; CH Basel; IT Milan, Turin, Naples; ES Seville; PT Porto; NO Bergen
GB Manchester, Glasgow, Edinburgh; SE Gothenburg; DK Aarhus; FI Tampere; NL Rotterdam; BE Ghent; CZ Brno; PL Krakow
GR Thessaloniki; JP Osaka, Kyoto; VN Hanoi; ZA Cape Town; CA Montreal"""
CODE_OF_CITY = {city: line[:2] for line in re.split("; |\n", CITIES) for city in line[3:].split(", ")}
"""Those that the zones of time do not name."""
NAMES_ELSEWHERE = {"Holland": "Netherlands", "South Korea": "Korea (South)", "United Kingdom": "Britain (UK)",
                   "Great Britain": "Britain (UK)", "US": "United States"}  # fmt: skip


def of(name: str, number: int = 150) -> list[SaidValue]:
    form = WORDS.formats[name]
    return [drawn(form, Draws(f"{name} {turn}")) for turn in range(number)]


def table(name: str) -> list[list[str]]:
    text = importlib.resources.files("tzdata").joinpath(f"zoneinfo/{name}").read_text()
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_a_date_is_the_day_that_was_said_with_its_weekday(name: str) -> None:
    pattern, order = ORDERS[name]
    for value in of(name):
        said = dates.parse(value.said.replace("the ", "").replace(" of", ""))
        match = re.fullmatch(pattern, value.written)
        assert match, value
        written = dict(zip(order, map(int, match.groups()), strict=True))
        assert said.date() == datetime.date(written["y"], written["m"], written["d"]), value
        if "," in value.said and value.said.split(",")[0].endswith("day"):
            assert value.said.startswith(f"{said:%A}"), value
    for value in of("month_of_year"):
        assert datetime.datetime.strptime(value.written, "%Y-%m") == datetime.datetime.strptime(
            value.said.replace(" of", ""), "%B %Y"
        )


@pytest.mark.parametrize(("name", "form"), [("time", "%H:%M"), ("time_with_seconds", "%H:%M:%S")])
def test_a_time_is_what_the_clock_shows_when_it_is_said(name: str, form: str) -> None:
    past = {"half past": 30, "a quarter past": 15, "twenty past": 20, "a quarter to": -15, "ten to": -10, "": 0}
    for value in of(name):
        plain = value.said.replace(".", "").replace("o'clock ", "")
        if re.search(r"\d", plain):
            clock = datetime.datetime.strptime(plain, "%I:%M %p" if ":" in plain else "%I %p")
        else:
            begin, hour, part = re.fullmatch(r"(.*?) ?(\w+) in the (\w+)", plain).groups()  # type: ignore[union-attr]
            afternoon = 0 if part == "morning" else 12
            clock = datetime.datetime(2026, 1, 1, NUMBERS[hour] + afternoon) + datetime.timedelta(minutes=past[begin])
            assert part != "evening" or clock.hour >= 17
        assert clock.strftime(form) == value.written, value


@pytest.mark.parametrize(("name", "unit"), [("minutes", 60), ("seconds", 1), ("seconds_of_hours", 1)])
def test_a_duration_is_as_long_as_its_words_add_up_to(name: str, unit: int) -> None:
    for value in of(name):
        total = Counter[str]()
        text = value.said.replace("a quarter of an hour", "15 minutes").replace(
            "three quarters of an hour", "45 minutes"
        )
        text = text.replace("half an hour", "30 minutes")
        thing = "hour" if "hour" in text else "minute"
        text = re.sub(r"^(\w+) and a half (\w+)", r"\1 \2 and a half", text)
        for part in text.split(" and "):
            if part in ("a half", "a quarter"):
                total["second"] += {"hour": 3600, "minute": 60}[thing] // {"a half": 2, "a quarter": 4}[part]
            else:
                count, of_what = part.split()
                number = {"a": 1, "an": 1, **NUMBERS}.get(count) or int(count)
                total[of_what.rstrip("s")] += number
        assert total["second"] + 60 * total["minute"] + 3600 * total["hour"] == value.written * unit, value


def test_amounts_percentages_and_numbers_of_phones_are_what_was_said() -> None:
    for value in of("cents"):
        whole, _, rest = value.said.strip("€$").replace(" euros and ", ".").partition(".")
        assert int(re.match(r"\d+", whole)[0]) * 100 + int((re.match(r"\d*", rest)[0]) or 0) == value.written  # type: ignore[index]
    for value in of("fraction"):
        assert f"{value.written:.0%}" == re.sub(r" ?%| per ?cent", "%", value.said)
    regions = {"UK": "GB", "British": "GB", "US": "US", "American": "US", "German": "DE", "French": "FR",
               "Australian": "AU", "Swedish": "SE"}  # fmt: skip
    for value in of("phone"):
        region = next(code for word, code in regions.items() if f"my {word} " in value.said)
        number = phonenumbers.parse(re.search(r"[(\d].*", value.said)[0], region)  # type: ignore[index]
        assert phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) == value.written


def test_codes_of_countries_cities_and_states_are_those_of_others_lists() -> None:
    countries = {row[1]: row[0] for row in table("iso3166.tab")}
    for said, written in WORDS.formats["country"].pairs.items():
        name = said.removeprefix("the ")
        assert countries[NAMES_ELSEWHERE.get(name, name)] == written, said
    capitals = {row[2].rpartition("/")[2].replace("_", " "): row[0] for row in table("zone.tab")}
    known = 0
    for said, written in WORDS.formats["city_country"].pairs.items():
        city, _, code = str(written).partition(", ")
        assert city == said and code in countries.values() and (capitals | CODE_OF_CITY)[said] == code, said
        known += said in capitals
    assert known > 30
    states = WORDS.formats["us_state"].pairs
    assert set(states.values()) == STATES and len(states) == 50
    for said, written in states.items():
        first, second = str(written)
        assert said[0] == first and second in said[1:].upper(), said
    for said, written in WORDS.formats["city_state"].pairs.items():
        city, _, code = str(written).partition(", ")
        assert city == said and code == CODE_OF_CITY[said] and code in STATES


def test_codes_of_languages_and_currencies_are_those_of_others_lists() -> None:
    known = 0
    for said, written in WORDS.formats["language"].pairs.items():
        alias = locale.locale_alias.get(said.lower(), f"{written}_")
        assert re.fullmatch("[a-z]{2}", str(written)) and alias.partition("_")[0] in (written, "iw"), said
        known += said.lower() in locale.locale_alias
    assert known >= 20
    countries = {row[0]: row[1] for row in table("iso3166.tab")}
    kinds, unlike = defaultdict(set), set()
    for said, written in WORDS.formats["currency"].pairs.items():
        code = str(written)
        assert re.fullmatch("[A-Z]{3}", code), said
        if os.path.commonprefix([said, countries.get(code[:2], "")]) in ("", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
            unlike.add((said, code))
        kinds[said.rpartition(" ")[2]].add(code[2])
    assert unlike == {
        ("euros", "EUR"), ("pounds sterling", "GBP"), ("US dollars", "USD"), ("American dollars", "USD"),
        ("Danish kroner", "DKK"), ("South Korean won", "KRW"),
    }  # fmt: skip
    for kind, letter in {"dollars": "D", "pounds": "P", "francs": "F", "yen": "Y", "rupees": "R", "lira": "Y"}.items():
        assert kinds[kind] == {letter}


def test_weekdays_months_and_days_are_counted_as_their_descriptions_say() -> None:
    monday = datetime.date(2026, 6, 1)
    for day in (monday + datetime.timedelta(days=turn) for turn in range(7)):
        name = f"{day:%A}"
        assert WORDS.formats["weekday_from_one"].pairs[name] == day.isoweekday()
        assert WORDS.formats["weekday_from_zero"].pairs[name] == day.weekday()
        assert WORDS.formats["weekday_from_sunday"].pairs[name] == int(f"{day:%w}")
    for month in range(1, 13):
        assert WORDS.formats["month"].pairs[f"{datetime.date(2026, month, 1):%B}"] == month
    counts = NUMBERS | {"a": 1}
    for said, written in WORDS.formats["days"].pairs.items():
        text = said.replace("a fortnight", "two weeks").replace("two and a half weeks", "two weeks and three days")
        parts = [part.split() for part in text.split(" and ")]
        assert sum(counts[one[0]] * (7 if "week" in one[-1] else 1) for one in parts) == written, said


def test_nothing_is_written_as_it_is_said_and_no_description_gives_a_value_away() -> None:
    forms = {**WORDS.formats}
    forms |= {f"{tool.name}.{one.name}": one.own_format for tool in WORDS.tools for one in tool.parameters if one.pairs}
    for name, form in forms.items():
        for said, written in form.pairs.items():
            assert re.sub(r"[ ,./\-_*^]", "", said).lower() != re.sub(r"[ ,./\-_*^]", "", str(written)).lower(), name
            if isinstance(written, str) and not form.enumerated:
                assert not any(re.search(rf"\b{re.escape(written)}\b", text) for text in form.descriptions), written
        assert len(set(form.descriptions)) == len(form.descriptions) and (form.computed or len(form.pairs) > 2)


@pytest.mark.parametrize("tool", WORDS.tools, ids=lambda tool: tool.name)
def test_the_judge_wants_the_written_form_and_the_request_says_the_other(tool: FormattedTool) -> None:
    for turn in range(12):
        draws = Draws(f"{tool.name} {turn}")
        forms = drawn_forms(tool, WORDS, draws)
        function, asked = as_function(tool, forms, draws), asked_for(tool, forms, draws)
        tests = {"expect": "calls", "language": "python", "calls": [expected(function, asked.arguments)]}
        assert graded(call_text([Call(name=tool.name, arguments=asked.arguments)]), tests).points == 1
        assert {one.name for one in function.needed} <= asked.values.keys()
        for name, value in asked.values.items():
            assert value.said.lower().rstrip(".") in asked.request.lower()
            if name in forms:
                other = {**asked.arguments, name: value.said}
                assert graded(call_text([Call(name=tool.name, arguments=other)]), tests).points < 1, value
            else:
                assert str(value.written).lower() in asked.request.lower()
        assert not re.search(r"\.\.|[{}]|[.?!] [a-z]", re.sub(r"[ap]\.m\.", "", asked.request)), asked.request


def test_a_default_may_be_given_where_nothing_was_said_and_left_out_where_it_was() -> None:
    tool = next(one for one in WORDS.tools if one.name == "hire_power_tool")
    seen = set()
    for turn in range(40):
        draws = Draws(str(turn))
        forms = drawn_forms(tool, WORDS, draws)
        asked = asked_for(tool, forms, draws)
        (call,) = [expected(as_function(tool, forms, draws), asked.arguments)]
        values = call["parameters"]["insurance"]["values"]
        said = asked.arguments.get("insurance")
        assert values == {True: [True], False: [False, ""], None: ["", False]}[said]
        seen.add(said)
    assert seen == {True, False, None}


def test_no_plain_value_has_an_article_which_a_call_may_do_without() -> None:
    values = [value for tool in WORDS.tools for one in tool.parameters for value in one.values]
    assert values and not [value for value in values if re.match("(a|an|the|my|our|some) ", value)]


def test_a_seed_gives_the_same_problems_and_no_tool_is_on_both_sides() -> None:
    train, validation = (formatted_problems(60, 5, side, frozenset()) for side in ("train", "validation"))
    assert formatted_problems(60, 5, "train", frozenset()) == train != formatted_problems(60, 6, "train", frozenset())
    offered = [{tool["function"]["name"] for one in held for tool in one.tools} for held in (train, validation)]
    assert offered[0] and offered[1] and not offered[0] & offered[1]
    assert {side_of(name, 5) for name in offered[1]} == {"validation"}
    assert len({one.problem.prompt for one in train}) == len(train) > 55


def test_one_tool_is_called_that_is_offered_once_among_at_most_three_others() -> None:
    problems = formatted_problems(120, 0, "train", frozenset())
    assert {len(one.tools) for one in problems} == {1, 2, 3, 4}
    for one in problems:
        (call,) = parse_calls(one.reply)
        names = [tool["function"]["name"] for tool in one.tools]
        assert names.count(call.name) == 1 and len(set(names)) == len(names)
        assert one.form == one.problem.difficulty == "formatted" and one.problem.licence == "MIT" and not one.origins
        assert graded(one.reply, json.loads(one.problem.tests)).points == 1


def test_a_tool_that_a_benchmark_has_is_neither_called_nor_offered() -> None:
    banned = next(iter(formatted_problems(1, 0, "train", frozenset()))).tools[0]["function"]["name"]
    problems = formatted_problems(120, 0, "train", frozenset(forms_of(banned.title())))
    assert problems and all(tool["function"]["name"] != banned for one in problems for tool in one.tools)


def test_the_other_forms_are_made_elsewhere() -> None:
    assert "formatted" not in {one.form for one in made_problems(TOOLS, 100, 0)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"requests": ["Go to {place}."]}, "it has to say \\['day', 'place'\\]"),
        ({"requests": ["Go to {place} on {day} by {bus}."]}, "of \\['day', 'place'\\] alone"),
        (
            {"parameters": [{"name": "place", "description": "d", "values": ["a"], "between": [1, 2]}]},
            "one of them alone",
        ),
    ],
)
def test_sentences_that_leave_something_out_are_refused(change: dict[str, object], told: str) -> None:
    parameters = [
        {"name": "place", "description": "d", "values": ["a", "b"]},
        {"name": "day", "description": "d", "format": ["date_iso"]},
    ]
    given = {"name": "go", "description": "Go.", "parameters": parameters, "requests": ["To {place} on {day}."]}
    assert places_of(FormattedTool.model_validate(given).requests[0]) == {"place", "day"}
    with pytest.raises(ValidationError, match=told):
        FormattedTool.model_validate(given | change)


def test_a_format_has_values_of_one_type() -> None:
    for pairs in ({}, {"a": 1, "b": "2"}):
        with pytest.raises(ValidationError, match="pairs of one type"):
            Format(descriptions=("{what}",), pairs=pairs)
