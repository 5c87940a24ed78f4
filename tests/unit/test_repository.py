"""The house rules that a machine can check."""

import ast
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

SOURCES = sorted(path for folder in ("app", "actors", "tune_spaces") for path in (ROOT / folder).rglob("*.py"))


def test_datasets_holds_no_python_so_that_it_never_shadows_hugging_face() -> None:
    assert not list((ROOT / "datasets").rglob("*.py"))


def test_help_answers_within_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "app", "--help"], cwd=ROOT, check=True, capture_output=True)
        times.append(time.monotonic() - start)
    assert min(times) < 1


def test_the_command_line_loads_neither_ray_nor_torch() -> None:
    modules = "app.cli, app.settings, app.profiles, app.records, app.runs"
    code = f"import sys, {modules}; print({{'ray', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_imports_go_one_way() -> None:
    allowed = {ROOT / "app/cli.py", ROOT / "app/stages.py"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            upward = {name.partition(".")[0] for name in names} & {"actors", "tune_spaces"}
            assert not upward or path in allowed or path.parent.name in upward, f"{path}:{node.lineno}"


def test_files_and_functions_stay_small() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert text.count("\n") <= 310, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 65, f"{path}:{node.lineno} {node.name}"


def test_one_torch_version_is_pinned_everywhere() -> None:
    pin = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if "torch==" in line).strip(' ",')
    assert f"TORCH := {pin}" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("mebibytes", "extra", "profile"),
    [(None, "cpu", "laptop"), (8192, "gpu", "rtx3070"), (24564, "gpu", "workstation")],
)
def test_make_run_takes_the_profile_of_the_machine(
    tmp_path: Path, mebibytes: int | None, extra: str, profile: str
) -> None:
    query = tmp_path / "nvidia-smi"
    query.write_text("#!/bin/sh\n" + (f"echo {mebibytes}\n" if mebibytes else "exit 9\n"))
    query.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    plan = subprocess.run(
        ["make", "-n", "-B", "run"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    ).stdout
    assert f"--extra {extra}" in plan and f"pipeline --profile {profile}" in plan


PINS = {name: (ROOT / f"constraints/{name}.txt").read_text() for name in ("cpu", "gpu", "clients")}


@pytest.mark.parametrize("name", PINS)
def test_constraints_hold_versions_and_no_address(name: str) -> None:
    assert "://" not in PINS[name] and "--" not in PINS[name]
    for line in PINS[name].splitlines():
        (pin,) = Requirement(line).specifier
        assert pin.operator == "==", line


@pytest.mark.parametrize("name", PINS)
def test_constraints_pin_each_requirement_to_a_version_that_it_allows(name: str) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = declared["project"]["optional-dependencies"]
    wanted = declared["project"]["dependencies"] + extras["dev"] + extras.get(name, [])
    if name == "clients":
        wanted = declared["dependency-groups"]["clients"]
    pinned = [Requirement(line) for line in PINS[name].splitlines()]
    for requirement in map(Requirement, wanted):
        pins = [next(iter(pin.specifier)).version for pin in pinned if pin.name == canonicalize_name(requirement.name)]
        assert pins and all(map(requirement.specifier.contains, pins)), f"{requirement}: run `make constraints`"


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs the tests")
def test_xdist_runs_each_group_of_tests_in_one_process(request: pytest.FixtureRequest) -> None:
    """It goes by the end of a test's name, and put nothing there under pytest 9.2."""
    assert request.node.nodeid.endswith("@unit/test_repository.py")
