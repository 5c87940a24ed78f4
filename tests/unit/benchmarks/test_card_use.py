"""What a command takes: told as JSON, on a machine without a card too, with the command's own code."""

import json
import shutil
import sys

import pytest

from benchmarks.card_use import main, peaks_of_tenths


def test_a_command_on_a_machine_without_a_card_has_its_memory_and_its_code_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("benchmarks.card_use.EVERY_SECONDS", 0.02)
    program = "import time; time.sleep(0.3); raise SystemExit(3)"
    monkeypatch.setattr(sys, "argv", ["card_use", "--", sys.executable, "-c", program])
    assert main() == 3

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    told = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert told["card_gib"] is None and told["host_gib"] >= 0 and told["code"] == 3 and told["seconds"] >= 0.3


def test_the_peak_of_each_tenth_of_the_time_is_of_the_moments_in_it() -> None:
    moments = [(second, 10.0 - second, dict[str, float]()) for second in (0.5, 1.5, 9.5, 10.0)]
    assert peaks_of_tenths(moments) == [9.5, 8.5, 0, 0, 0, 0, 0, 0, 0, 0.5]
