"""The sub-command `sandbox`: a catalogue of programs, each judged, and which of them came out as expected."""

import argparse
import json

from app.files.user_files import user_path


def add_sandbox_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cases", required=True, type=user_path, metavar="FILE.jsonl", help="lines of id, input, expected")
    add("--timeout", type=float, default=2.0, metavar="S", help="CPU seconds a program may use")
    add("--json", action="store_true", help="print the outcome as one JSON object")


def sandbox(arguments: argparse.Namespace) -> None:
    from app.overrides import parse_settings
    from app.sandbox.catalogue import read_cases, run_catalogue
    from app.sandbox.tiers import confinement
    from app.settings import SandboxSettings

    cases = read_cases(arguments.cases)
    settings = parse_settings(SandboxSettings, {"timeout_s": arguments.timeout}, "--timeout")
    outcome = run_catalogue(cases, settings, confinement(unsafe=arguments.unsafe))
    if arguments.json:
        print(json.dumps(outcome))
        return
    for row in outcome["differing"]:
        print(f"{row['id']}: {row['verdict']}, expected {' or '.join(row['expected'])}: {row['detail']}")
    print(f"sandbox: {outcome['as_expected']} of {outcome['total']} cases as expected, tier {outcome['tier']}")
