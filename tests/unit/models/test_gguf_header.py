"""A GGUF from anywhere: read as `gguf` reads it, or refused in one sentence, whatever its numbers say."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFReader

from app.errors import UserError
from app.models.gguf_header import MAX_HEADER, read_header
from tests.unit.models import gguf_files

HUGE = 1 << 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "m.gguf", gguf_files.model("qwen2"), "Q8_0")


def said_of(path: Path) -> str:
    with pytest.raises(UserError) as raised:
        read_header(path)
    text = str(raised.value)
    assert text.startswith(str(path)) and "\n" not in text and ": " in text
    return text.removeprefix(f"{path} ")


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: str = "a", shape: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def file_of(*keys: bytes, tensors: tuple[bytes, ...] = (), data: int = 64, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def test_a_header_is_what_gguf_reads(whole: Path) -> None:
    ours, theirs = read_header(whole), GGUFReader(whole)
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for held in theirs.tensors:
        found = ours.tensors[held.name]
        assert (found.start, found.num_bytes, found.kind) == (held.data_offset, held.n_bytes, held.tensor_type)
        assert list(reversed(found.shape)) == held.shape.tolist()
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            value = field.contents()
            assert ours.metadata[name] == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (b"", "is no GGUF file (it begins with b''"),
        (b"PK\x03\x04 and so on", "is no GGUF file (it begins with b'PK\\x03\\x04'"),
        (b"GGUF\x03", "is cut short"),
        (b"GGUF\x03\0\0\0", "is cut short (its header goes on after byte 8"),
        (file_of(version=1), "is GGUF of version 1, and versions 2 and 3 are read"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian"),
        (file_of(key("split.count", 2, struct.pack("<H", 3))), "is one of 3 parts of a model: join them"),
        (file_of(key("a", 4, bytes(4)), key("a", 4, bytes(4))), "is broken (it has the key 'a' twice)"),
        (file_of(key("a", 99, bytes(4))), "is broken (a value of type 99"),
        (file_of(key("a", 9, struct.pack("<IQ", 9, 1) + bytes(64))), "is broken (a value of type 9"),
        (file_of(key("a", 8, struct.pack("<Q", 2) + b"\xff\xff")), "is no UTF-8"),
        (file_of(key("general.alignment", 4, struct.pack("<I", 24))), "is broken (general.alignment is 24)"),
        (file_of(tensors=(tensor(), tensor())), "is broken (it has the tensor 'a' twice)"),
        (file_of(tensors=(tensor(shape=()),)), "is broken (tensor 'a' has 0 dimensions)"),
        (file_of(tensors=(tensor(shape=(0,)),)), "is broken (tensor 'a' is empty)"),
        (file_of(tensors=(tensor(shape=(33,), kind=8),)), "rows of tensor 'a' do not divide into blocks"),
        (file_of(tensors=(tensor(kind=36),)), "has tensor 'a' in the type number 36, which can't be unpacked: take a"),
        (file_of(tensors=(tensor(kind=9, shape=(32,)),)), "has tensor 'a' in the type Q8_1, which can't be unpacked"),
        (file_of(tensors=(tensor(shape=(17,)),)), "is cut short (tensor 'a' ends at byte 132, the file at 128)"),
        (file_of(tensors=(tensor(offset=HUGE),)), "is cut short (tensor 'a' ends at byte 1,152,921"),
        (file_of(tensors=(tensor(shape=(HUGE, HUGE, HUGE)),)), "is cut short (tensor 'a' ends at byte"),
    ],
)
def test_a_broken_file_is_told_in_one_sentence(held: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(held)
    assert said in said_of(path)


def _counts() -> list[bytes]:
    """A number of 2^60 in each place that announces how much follows."""
    huge = struct.pack("<Q", HUGE)
    lists = [key("a", 9, struct.pack("<I", kind) + huge) for kind in (0, 4, 6, 8, 12)]
    return [
        b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + huge,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key("a", 8, huge),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + text("a") + struct.pack("<I", 0xFFFFFFFF),
        *(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + held for held in lists),
    ]


@pytest.mark.parametrize("head", _counts())
def test_a_count_of_any_size_takes_no_memory(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(head + bytes(1000))
    tracemalloc.start()
    said = said_of(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert "is broken (" in said


def test_a_header_may_not_fill_memory_by_being_long(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    held = struct.pack("<IQ", 0, 1 << 22) + bytes(1 << 22)
    path.write_bytes(file_of(*(key(str(number), 9, held) for number in range(17))))
    assert f"its header is longer than {MAX_HEADER:,} bytes" in said_of(path)


def _cut(at: int) -> Callable[[bytes], bytes]:
    return lambda held: held[:at]


def test_a_file_cut_anywhere_is_told(whole: Path, tmp_path: Path) -> None:
    held, path = whole.read_bytes(), tmp_path / "m.gguf"
    for at in (*range(4, 200), *range(200, len(held), 1997), len(held) - 1):
        path.write_bytes(held[:at])
        assert "is cut short (" in said_of(path), at


def test_a_file_with_any_number_changed_is_read_or_told(whole: Path, tmp_path: Path) -> None:
    held, path = whole.read_bytes(), tmp_path / "m.gguf"
    end = min(tensor.start for tensor in read_header(whole).tensors.values())
    places = [*range(8, 600, 8), *range(600, end - 3000, 509), *range(end - 3000, end - 8, 24)]
    for at in places:
        for value in (b"\xff" * 8, struct.pack("<Q", HUGE), bytes(8)):
            path.write_bytes(held[:at] + value + held[at + 8 :])
            try:
                read_header(path)
            except UserError as error:
                assert str(path) in str(error)
