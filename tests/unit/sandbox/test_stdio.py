"""What a script printed and what it should have printed: when they are the same; and all that was printed counts."""

from collections.abc import Iterator

import pytest

from app.records import Status
from app.sandbox.stdio import same_output
from app.sandbox.supervisor import Supervisor
from tests.costs import takes_less_than
from tests.unit.sandbox.test_supervisor import SETTINGS, stdio


@pytest.fixture(scope="module")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor(SETTINGS) as made:
        yield made


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("6.0", "6"),
        ("5", "5.0"),
        ("1 2.0\n-3.00 4", "1 2\n-3 4"),
        ("0.3333333", "0.33333333"),
        ("0.5", "0.500000"),
        ("1e-7", "0.0"),
        ("1e6", "1000000.0"),
        ("1e6", "1000000"),
        ("2.50", "2.5"),
        ("Case #1: 0.33333330", "Case #1: 0.3333333333"),
        ("12345678901234567890.0", "12345678901234567890"),
        ("  a", "a"),
        ("a \n\n b\t\n", "a\n b"),
        ("1  2", "1 2"),
        ("a\r\nb", "a\nb"),
        ("", "\n"),
    ],
)
def test_the_same_output_in_another_form_is_the_same(printed: str, expected: str) -> None:
    assert same_output(printed, expected)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("1.1", "1.10"),
        ("version 1.1", "version 1.10"),
        ("2", "2.00"),
        ("v 2", "v 2.0"),
        ("v 2.0", "v 2"),
        ("7", "007"),
        ("007", "7"),
        ("6.000001", "6"),
        ("1000001.0", "1000000"),
        ("12345678901234567891.0", "12345678901234567890"),
        ("0.3334", "0.3333"),
        ("nan", "0.5"),
        ("inf", "1e400"),
        ("1_0.0", "10"),
        ("0", "1e400"),
        ("-07", "-7"),
        ("+7", "7"),
        ("6,0", "6"),
        ("*\n***", "  *\n ***"),
        ("x", "    x"),
        ("\tx", "    x"),
        ("1\n1 1", "  1\n 1 1"),
        ("1 2 3", "1\n2 3"),
        ("1\n2", "1 2"),
        ("12", "1 2"),
        ("b a", "a b"),
        ("", "0"),
        ("0", ""),
    ],
)
def test_another_text_is_another_answer(printed: str, expected: str) -> None:
    assert not same_output(printed, expected)


@pytest.mark.parametrize(
    "number", ["1" + "0" * 300_000 + ".0", "1e9999", "1e-9999", "9" * 300_000 + "e9", "1" * 300_000 + "x"]
)
def test_a_number_made_to_be_slow_is_compared_at_once(number: str) -> None:
    with takes_less_than(0.5):
        assert same_output(number, "1" + "0" * 300_000) == ("." in number)
        assert not same_output(number, "1.5") and not same_output("1.5", number)


@pytest.mark.parametrize(
    "program",
    [
        "import sys\nsys.__stdout__.write('6\\n')",
        "import sys\nsys.stdout.buffer.write(b'6\\n')",
        "out = open(1, 'w')\nout.write('6\\n')",
        "import os\nout = os.fdopen(1, 'w')\nprint(6, file=out)",
        "import os\nout = os.fdopen(os.dup(1), 'wb')\nout.write(b'6')",
        "import io, sys\nsys.stdout = io.TextIOWrapper(open(1, 'wb', 0, closefd=False), write_through=False)\nprint(6)",
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), line_buffering=False)\nprint(6)",
        "import io, sys\nkeep = [io.BufferedWriter(io.FileIO(1, 'w'))]\nkeep.append(keep)\nkeep[0].write(b'6')",
        "def main():\n    global out\n    out = open(1, 'w')\n    out.write('6')\nmain()\nraise SystemExit",
        "import sys, io\nreal, sys.stdout = sys.stdout, io.StringIO()\nprint('no')\nreal.write('6')",
        "import codecs, sys\ncodecs.getwriter('utf-8')(sys.stdout.buffer).write('6')",
        "import sys\nprint(sys.__stdin__.readline().strip())",
    ],
)
def test_whatever_was_written_to_the_standard_output_is_there_at_the_end(supervisor: Supervisor, program: str) -> None:
    verdict = supervisor.judge(stdio(("6", "6\n")), program)
    assert verdict.status == Status.PASSED, verdict


def test_what_an_ended_process_did_not_write_is_not_there(supervisor: Supervisor) -> None:
    program = "import os\nout = open(1, 'w')\nout.write('6')\nos._exit(0)"
    assert supervisor.judge(stdio(("", "6")), program).status == Status.WRONG_ANSWER
