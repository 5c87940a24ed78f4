"""Whatever bytes cross the border, plain data arrives or WireError is raised: both directions, fuzzed."""

import array
import datetime as dt
import enum
import fcntl
import json
import os
import random
import struct
import sys
import threading
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.sandbox import candidate as candidate_side
from app.sandbox import decoder as tagged
from app.sandbox import judge as judge_side
from app.sandbox import wire
from app.sandbox.decoder import from_json
from app.sandbox.iterators import Lender
from app.sandbox.marks import mark_assertions
from app.sandbox.values import MAX_BYTES, MAX_DEPTH, MAX_ITEMS, WireError, to_json
from app.sandbox.wire import Frames, pack, unpack
from tests.costs import takes_less_than

NUM_FRAMES = 2_000
SECONDS = 1.0
"""CPU time that a refusal may take."""
PLAIN = {
    type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, deque, Counter,
    OrderedDict, range, Decimal, Fraction, dt.datetime, dt.date, dt.time, dt.timedelta, type, array.array,
    MappingProxyType, type({}.keys()), type({}.values()), type({}.items()),
}  # fmt: skip
fuzzed = settings(
    max_examples=250, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def over_the_wire(value: Any) -> Any:
    return from_json(unpack(pack({"value": to_json(value)})[4:])["value"])


def is_plain(value: Any) -> bool:
    """Whether it is of exactly the allowed types, all the way down."""
    kind = type(value)
    if issubclass(kind, dict):
        return kind in PLAIN and all(is_plain(key) and is_plain(item) for key, item in value.items())
    if kind is MappingProxyType:
        return is_plain(dict(value))
    if kind in (list, tuple, set, frozenset, deque, type({}.keys()), type({}.values()), type({}.items())):
        return all(is_plain(item) for item in value)
    if kind is type:
        return value in (int, float, complex, str, bytes, bool, list, tuple, set, frozenset, dict)
    return kind in PLAIN and type(getattr(value, "tzinfo", None)) in (type(None), dt.timezone)


def is_same(sent: Any, arrived: Any) -> bool:
    """Equal, of the same types and in the same order; NaN is the same as NaN."""
    kind = type(sent)
    if type(arrived) is not kind:
        return False
    if kind in (float, complex, Decimal):
        return repr(sent) == repr(arrived)
    if kind in (set, frozenset):
        return sent == arrived and Counter(map(type, sent)) == Counter(map(type, arrived))
    if kind is deque and sent.maxlen != arrived.maxlen:
        return False
    if issubclass(kind, dict):
        sent, arrived = list(sent.items()), list(arrived.items())
    elif kind not in (list, tuple, deque):
        return sent == arrived
    return len(sent) == len(arrived) and all(is_same(*pair) for pair in zip(sent, arrived, strict=True))


texts = st.text(st.characters(exclude_categories=()), max_size=20)
zones = st.none() | st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone)
keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(1 << 200), 1 << 200) | texts | st.binary(max_size=20)
    | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False) | st.decimals(allow_nan=False) | st.fractions()
    | st.dates() | st.times(timezones=zones) | st.datetimes(timezones=zones) | st.timedeltas()
    | st.builds(range, st.integers(), st.integers(), st.integers(1) | st.integers(max_value=-1)),
    lambda part: st.lists(part, max_size=4).map(tuple) | st.frozensets(part, max_size=4),
    max_leaves=5,
)  # fmt: skip
values = st.recursive(
    keys | st.floats() | st.complex_numbers() | st.decimals() | st.binary().map(bytearray)
    | st.sampled_from([int, dict]) | st.sets(keys, max_size=4)
    | st.dictionaries(keys, st.integers(), max_size=4).map(Counter),
    lambda part: st.lists(part, max_size=4) | st.lists(part, max_size=4).map(tuple)
    | st.dictionaries(keys, part, max_size=4) | st.dictionaries(keys, part, max_size=4).map(OrderedDict)
    | st.builds(deque, st.lists(part, max_size=4), st.none() | st.integers(0, 5)),
    max_leaves=8,
)  # fmt: skip
hints = st.sampled_from(
    "0x1 -0x0 0xff 1E+999999999999999999 sNaN123 -Infinity NaN 00ff 2020-01-01 24:00 2020-W53-7 12:30:59.9 int type"
    " 2020-01-01T00:00:00+23:59:59.999999 0001-01-01T00:00:00-23:00 2020-02-30 id ok args kwargs error".split()
)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([0, 1, -1, 1 << 63, 1 << 64]) | st.floats() | texts
    | hints | st.from_regex(r"\A\d{4}-?(W?\d\d)(-?\d\d?)?([T ]\d\d(:?\d\d(:?\d\d(\.\d+)?)?)?)?([+-]\d\d:\d\d)?Z?\Z"),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(texts | hints, part, max_size=2)
    | st.builds(lambda tag, payload: {tag: payload}, st.sampled_from(sorted(tagged._BUILDERS)), part),
    max_leaves=10,
)  # fmt: skip


@fuzzed
@example(dt.datetime(2000, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))))
@given(values)
def test_a_value_arrives_the_same_in_type_equality_and_order(value: Any) -> None:
    assert is_same(value, over_the_wire(value))


def decode_or_refuse(payload: bytes) -> None:
    try:
        value = from_json(unpack(payload))
    except WireError:
        return
    assert is_plain(value)


@fuzzed
@given(st.binary() | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"\xff")
@example(b"[" * 1000)
@example(b"9" * 5000)
def test_arbitrary_bytes_are_plain_data_or_refused(payload: bytes) -> None:
    decode_or_refuse(payload)


@fuzzed
@given(trees)
def test_arbitrary_json_is_plain_data_or_refused(tree: Any) -> None:
    decode_or_refuse(json.dumps(tree).encode())


@fuzzed
@given(values, st.lists(st.tuples(st.integers(0), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4))
def test_damaged_frames_are_plain_data_or_refused(value: Any, damages: list[tuple[int, int, bytes]]) -> None:
    payload = json.dumps(to_json(value)).encode()
    for place, removed, inserted in damages:
        place %= len(payload) + 1
        payload = payload[:place] + inserted + payload[place + removed :]
    decode_or_refuse(payload)


@fuzzed
@given(st.fixed_dictionaries({}, optional={"args": trees, "kwargs": trees}) | trees)
def test_a_request_of_any_form_is_answered_in_plain_data_or_refused(request: Any) -> None:
    request = unpack(json.dumps(request).encode())
    try:
        answer = candidate_side._call(lambda *args, **kwargs: [args, kwargs], request, Lender())
    except (WireError, TypeError, KeyError):
        return
    assert {"ok"} <= answer.keys() <= {"ok", "args", "kwargs"}
    assert is_plain(from_json(unpack(pack(answer)[4:])["ok"]))


def frame(payload: bytes | dict[str, Any]) -> bytes:
    payload = payload if type(payload) is bytes else json.dumps(payload).encode()
    return struct.pack("<I", len(payload)) + payload


LOADED = frame({"id": 0, "ok": None})
RIGHT = frame({"id": 1, "ok": "right"})


def problem_tests(source: str) -> judge_side.Tests:
    fields = {"style": "asserts", "prelude": "", "setup": "", "entry_point": "f", "tests": mark_assertions(source)[0]}
    return judge_side.Tests(judge_side.compiled(fields))


TESTS = problem_tests("x = [3, {1: [2]}]\nassert f(x, (1, [2]), key={4}) == 'right'")


def run_against(tests: judge_side.Tests, *answers: bytes, pipe_bytes: int = 0) -> tuple[str, str]:
    """What the judge says when a fake candidate gives these answers, one a request, and closes its pipe."""
    read_request, write_request = os.pipe()
    read_response, write_response = os.pipe()
    if pipe_bytes:
        fcntl.fcntl(write_response, fcntl.F_SETPIPE_SZ, pipe_bytes)

    def answer() -> None:
        try:
            for data in answers:
                os.read(read_request, 1 << 16)
                wire.send_bytes(write_response, data)
        except BrokenPipeError:
            pass
        finally:
            os.close(write_response)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        return tests.run("", read_response, write_request)
    finally:
        os.close(read_response)
        os.close(write_request)
        thread.join()
        os.close(read_request)


def random_tree(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.randrange(8 if depth < 4 else 5)
    if kind < 5:
        return draw.choice([None, True, draw.getrandbits(70), -1, 0.5, float("nan"), "right", "\ud800é", "0x1f", "int"])
    parts = [random_tree(draw, depth + 1) for _ in range(draw.randrange(4))]
    if kind == 5:
        return parts
    names = [*tagged._BUILDERS, "id", "ok", "args", "kwargs", "error", "?"]
    return {draw.choice(names): part for part in parts} if kind == 6 else {draw.choice(names): parts}


ERRORS = ["ExceptionGroup", "AssertionError", "KeyError", "OSError", "UnicodeDecodeError", "SystemExit", "MemoryError"]


def random_frame(draw: random.Random) -> bytes:
    """What a hostile candidate may send, seldom the right answer."""
    tree = random_tree(draw)
    kind = draw.randrange(10)
    if kind == 0:
        return struct.pack("<I", draw.randrange(60)) + draw.randbytes(draw.randrange(60))
    if kind == 1:
        return frame({"id": 1, "ok": tree})
    if kind == 2:
        return RIGHT[: draw.randrange(len(RIGHT))]
    if kind == 3:
        return frame({"id": draw.choice([0, 2, -1, 1.0, True, "1", None, [1], {"i": "0x1"}, 1 << 70]), "ok": "right"})
    if kind == 4:
        return struct.pack("<I", draw.randrange(MAX_BYTES, 1 << 32)) + RIGHT
    if kind == 5:
        deep = draw.choice([b"[", b'{"t":[', b'{"d":[[1,', b'{"deque":[null,']) * draw.randrange(20, 5000)
        return frame(b'{"id":1,"ok":' + deep)
    if kind == 6:
        damaged = bytearray(RIGHT)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        return bytes(damaged)
    if kind == 7:
        name, text = draw.choice(ERRORS), draw.choice(["", "\udc80"])
        error = draw.choice([tree, [tree] * 4, ["ValueError"], [name, name, text, draw.choice([None, [], tree])]])
        return frame({"id": 1, "error": error, "ok": "right"})
    if kind == 8:
        return RIGHT + draw.randbytes(draw.randrange(1, 9))
    return frame({"id": 1, "ok": draw.choice(["wrong", tree]), "args": tree, "kwargs": random_tree(draw)})


@pytest.fixture
def only_modules_of_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge looks through all that is loaded where a draft changed something; other tests have loaded a lot more."""
    kept = {*sys.stdlib_module_names, "app"}
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in kept}
    seen = SimpleNamespace(modules=modules, stdlib_module_names=sys.stdlib_module_names)
    monkeypatch.setattr(judge_side, "sys", seen)


@pytest.mark.usefixtures("only_modules_of_judges")
def test_no_random_frame_makes_the_judge_raise_or_pass_a_wrong_answer() -> None:
    """More of them: tests/faults."""
    answer_with_random_frames(NUM_FRAMES)


def answer_with_random_frames(count: int) -> None:
    draw = random.Random(0)
    words = Counter[str]()
    assert run_against(TESTS, LOADED, RIGHT) == ("passed", "")
    for number in range(count):
        data = random_frame(draw)
        answers = (LOADED, data) if draw.random() < 0.9 else (data.replace(b'"id": 1', b'"id": 0'),)
        try:
            word, detail = run_against(TESTS, *answers)
        except BaseException as error:
            pytest.fail(f"frame {number}, {data[:200]!r}, came out as {error!r}")
        assert len(detail) <= 300
        words[word] += 1
        if word == "passed" and answers[0] is LOADED:
            payload = json.loads(data[4:])
            assert struct.unpack_from("<I", data)[0] == len(data) - 4
            assert type(payload["id"]) is int, data
            assert (payload["id"], payload["ok"]) == (1, "right") and "error" not in payload, data
    assert words.keys() <= {"passed", "protocol", "died", "wrong_answer", "runtime_error", "memory", "load_error"}
    assert min(words["protocol"], words["died"], words["wrong_answer"], words["runtime_error"]) > count / 100


@pytest.mark.parametrize("source", ["assert f(1) == 1, f(1)", "assert {1: 1}[f(1)] == 1", "assert not f(1), [f(1)]"])
def test_a_value_that_can_not_be_printed_is_a_wrong_answer(source: str) -> None:
    unprintable = [frame({"id": n, "ok": {"i": "0x1" + "0" * 5000}}) for n in (1, 2)]
    assert run_against(problem_tests(source), LOADED, *unprintable)[0] == "wrong_answer"


@pytest.mark.parametrize("name", ["ExceptionGroup", "UnicodeDecodeError", "SystemExit", "OSError", "NoSuchError"])
def test_an_error_of_any_name_is_a_runtime_error(name: str) -> None:
    assert run_against(TESTS, LOADED, frame({"id": 1, "error": [name, name, "text", None]}))[0] == "runtime_error"


MALFORMED: list[dict[str, Any]] = [
    {}, {"ok": {"t": 1}}, {"ok": {"no tag": 1}}, {"ok": {}}, {"ok": "right", "args": []},
    {"error": ["KeyError", "", 1, None]}, {"error": ["KeyError", "text"]},
    {"ok": "right", "args": 5, "kwargs": {"d": []}}, {"ok": "right", "args": [[]], "kwargs": {"d": []}},
    {"ok": "right", "args": [[], {"t": []}], "kwargs": {"d": [[[], 1]]}}, {"error": {"0": "KeyError", "1": "text"}},
]  # fmt: skip


@pytest.mark.parametrize("answer", MALFORMED, ids=repr)
def test_a_malformed_answer_breaks_the_protocol_so_that_its_judge_is_not_used_again(answer: dict[str, Any]) -> None:
    assert run_against(TESTS, LOADED, frame({"id": 1, **answer}))[0] == "protocol"


@pytest.mark.parametrize("size", [100, 1 << 16])
def test_bytes_behind_the_last_answer_are_no_pass(size: int) -> None:
    payload = json.dumps({"id": 1, "ok": "right"}).ljust(size - 4).encode()
    assert run_against(TESTS, LOADED, frame(payload), pipe_bytes=1 << 18) == ("passed", "")
    assert run_against(TESTS, LOADED, frame(payload) + b"more", pipe_bytes=1 << 18)[0] == "protocol"


@pytest.mark.parametrize("value", [[1], {1: 1}, {1}, bytearray(b"1"), Counter([1]), deque([1])], ids=repr)
def test_what_a_call_changes_in_its_arguments_is_seen_by_the_test(value: Any) -> None:
    answer = frame({"id": 1, "ok": None, "args": to_json([type(value)()]), "kwargs": {"d": []}})
    source = f"from collections import Counter, deque\nx = {value!r}\nf(x)\nassert len(x) == 0"
    assert run_against(problem_tests(source), LOADED, answer) == ("passed", "")


def refuse_quickly(action: Callable[[], Any]) -> None:
    with takes_less_than(SECONDS), pytest.raises(WireError):
        action()


def nested(kind: Callable[[Any], Any], depth: int) -> Any:
    value = kind([])
    for _ in range(depth - 1):
        value = kind([value])
    return value


def test_a_frame_longer_than_the_limit_is_refused_before_it_is_read() -> None:
    read_fd, write_fd = os.pipe()
    try:
        os.write(write_fd, struct.pack("<I", MAX_BYTES + 1))
        refuse_quickly(Frames(read_fd, write_fd).receive)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_what_is_too_large_or_too_deep_is_refused_in_a_second_before_it_is_sent() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    for value in (nested(list, 51), [0] * MAX_ITEMS, 2 ** (2**23), "a" * 10**7, b"a" * MAX_BYTES, endless):
        refuse_quickly(lambda value=value: over_the_wire(value))
    assert over_the_wire([0] * (MAX_ITEMS - 1)) == [0] * (MAX_ITEMS - 1)


HOSTILE_TEXTS = {
    "deep arrays": b"[" * (MAX_BYTES - 1),
    "deep objects": b'{"t":' * (MAX_BYTES // 5),
    "many items": b"[" + b"0," * (3 * MAX_ITEMS) + b"0]",
    "a long number": b"9" * MAX_BYTES,
    "escaped quotes outside of a text": b"[" * 101 + b'\\"' * (MAX_BYTES // 2 - 100),
    "a long text that does not end": b"[" * 101 + b'"' + b"\\u0000" * (MAX_BYTES // 6 - 100),
    "a long number in hex": b'{"i":"0x' + b"f" * (MAX_BYTES - 20) + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE_TEXTS)
def test_a_hostile_text_is_refused_in_a_second(name: str) -> None:
    refuse_quickly(lambda: from_json(unpack(HOSTILE_TEXTS[name])))


COLLIDING = [k * (2**61 - 1) for k in range(1, 20_000)]  # all have the hash 0
SLOW_TREES = {
    "colliding elements": {"s": COLLIDING},
    "colliding keys": {"d": [[key, 0] for key in COLLIDING]},
    "colliding tuples": {"s": [{"t": [key]} for key in COLLIDING]},
    "a fraction of long numbers": {"Fraction": [{"i": hex(3**750_000)[:290_000]}, {"i": hex(7**400_000)[:290_000]}]},
}


@pytest.mark.parametrize("name", SLOW_TREES)
def test_a_tree_made_to_be_slow_is_built_or_refused_in_a_second(name: str) -> None:
    payload = json.dumps(SLOW_TREES[name]).encode()
    with takes_less_than(SECONDS):
        decode_or_refuse(payload)


@pytest.mark.parametrize("kind", [list, tuple, frozenset, deque, lambda items: OrderedDict(enumerate(items))])
def test_what_the_sender_lets_through_the_receiver_takes(kind: Callable[[Any], Any]) -> None:
    depth = next(depth for depth in range(60, 0, -1) if can_be_sent(nested(kind, depth)))
    assert depth >= MAX_DEPTH // 2
    assert over_the_wire(nested(kind, depth)) == nested(kind, depth)


def can_be_sent(value: Any) -> bool:
    try:
        return bool(pack({"value": to_json(value)}))
    except WireError:
        return False


@pytest.mark.parametrize("bits", [63, 64, 10_000, 1_000_000, 1_199_999, 1_300_000])
def test_a_long_int_arrives_or_is_refused_by_the_sender(bits: int) -> None:
    assert not can_be_sent(1 << bits) or over_the_wire(1 << bits) == 1 << bits


def test_a_pair_of_surrogates_stays_two_characters() -> None:
    assert over_the_wire("\ud83d\ude00") == "\ud83d\ude00" != "\U0001f600"


def test_an_ordered_dict_arrives_in_its_order() -> None:
    value = OrderedDict(a=1, b=2)
    value.move_to_end("a")
    assert list(over_the_wire(value)) == ["b", "a"]


def test_nans_that_were_sent_apart_are_unequal() -> None:
    assert over_the_wire([float("nan")]) != over_the_wire([float("nan")])


def test_nans_in_one_set_stay_apart() -> None:
    assert len(over_the_wire({(float("nan"),), (float("nan"),)})) == 2


class AlwaysEqual:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class Spoof(AlwaysEqual):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        return int


class UnhashableClass(type):
    def __eq__(cls, other: object) -> bool:
        return True


class NumpyLiar:
    def tolist(self) -> "NumpyLiar":
        return self


NumpyLiar.__module__ = "numpy"
Plain = enum.Enum("Plain", "ONE")
REFUSED = {
    "an always equal object": AlwaysEqual(),
    "a spoofed __class__": Spoof(),
    "a generator": (n for n in [1]),
    "a lambda": lambda: 1,
    "an iterator": iter([1]),
    "a module": json,
    "a class of one's own": AlwaysEqual,
    "an enum": Plain.ONE,
    "a memoryview": memoryview(b"1"),
    "an object of an unhashable class": UnhashableClass("X", (), {})(),
    "an object that says it is numpy's": NumpyLiar(),
    "a numpy number that has no Python number": np.longdouble(1),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_plain_data_is_refused(what: str) -> None:
    for value in (REFUSED[what], [REFUSED[what]], {1: REFUSED[what]}):
        with pytest.raises(WireError):
            to_json(value)


def lying(base: type) -> type:
    """A subclass that is equal to everything and shows other contents."""
    members = {"__eq__": lambda self, other: True, "__hash__": lambda self: 0, "__iter__": lambda self: iter([7])}
    members |= {"__len__": lambda self: 7, "items": lambda self: [(7, 7)], "__str__": lambda self: "7"}
    return type("Liar", (base,), members | {"__add__": lambda *_: 7, "__getattribute__": object.__getattribute__})


BASES = [[1], (1,), {1}, frozenset([1]), {1: 2}, deque([1]), Counter([1]), OrderedDict({1: 2}), b"1", "1", 1, 1.5, 1j]


@pytest.mark.parametrize("base", BASES, ids=repr)
def test_a_lying_subclass_arrives_as_the_base_value_that_it_holds(base: Any) -> None:
    assert is_same(base, over_the_wire(lying(type(base))(base)))


Level = enum.IntEnum("Level", {"HIGH": 3})
Point = namedtuple("Point", "x y")
CONVERTED: list[tuple[Any, Any]] = [
    (Level.HIGH, 3), (Point(1, 2), (1, 2)), (np.int64(3), 3), (np.float64(0.5), 0.5), (np.bool_(True), True),
    (np.float32(0.5), 0.5), (np.str_("a"), "a"), (np.complex128(1j), 1j),
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array(5), 5), ([np.int8(1)], [1]), ({np.int64(1): Level.HIGH}, {1: 3}),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "expected"), CONVERTED, ids=repr)
def test_enums_named_tuples_and_numpy_values_arrive_plain(sent: Any, expected: Any) -> None:
    assert is_same(expected, over_the_wire(sent))


def test_what_was_unequal_stays_unequal() -> None:
    pairs = [(deque([1]), [1]), ((1,), [1]), ("1", 1), (b"1", "1"), ({1: 1}, {1}), ([1], {"t": [1]}), ("0x1", 1)]
    for left, right in pairs:
        assert over_the_wire(left) != right and over_the_wire(right) != left
