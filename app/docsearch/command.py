"""The sub-command `docsearch`: its arguments and what it does. The command line imports this, so nothing heavy here."""

import argparse
import json

from app.errors import UserError
from app.files.user_files import user_path
from app.prompting.tool_schema import SOURCES


def add_docsearch_arguments(parser: argparse.ArgumentParser) -> None:
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--check-urls", type=user_path, metavar="FILE.jsonl", help="check the guard: lines of area, id, input, expected"
    )
    one.add_argument("--query", metavar="TEXT", help="search, and show what came and why the rest was refused")
    one.add_argument("--self-check", action="store_true", help="try each source once and say what came")
    add = parser.add_argument
    add("--source", choices=SOURCES, help="where --query searches; left out, where it fits")
    add("--json", action="store_true", help="print the outcome as one JSON object")


def docsearch(arguments: argparse.Namespace) -> None:
    if arguments.source and arguments.query is None:
        raise UserError(f"--source {arguments.source} says where --query searches: give --query TEXT with it")
    if arguments.query is not None or arguments.self_check:
        _search(arguments)
        return
    if arguments.check_urls is None:
        raise UserError("docsearch has nothing to do: give --query TEXT, --self-check or --check-urls FILE.jsonl")
    from app.docsearch.check_cases import check_cases

    outcome = check_cases(arguments.check_urls)
    if arguments.json:
        print(json.dumps(outcome))
        return
    for row in outcome["differing"]:
        print(f"{row['id']}: {row['verdict']}, expected {row['expected']}")
    print(f"docsearch: {outcome['as_expected']} of {outcome['total']} cases as expected")


def _search(arguments: argparse.Namespace) -> None:
    from app.docsearch.asking import ask, self_check
    from app.overrides import with_overrides
    from app.profiles import get_profile, profile_of_machine

    profile = get_profile(arguments.profile or profile_of_machine())
    settings = with_overrides(profile, arguments.overrides).docsearch
    if arguments.self_check:
        self_check(settings, as_json=arguments.json)
    else:
        ask(settings, arguments.query, arguments.source, as_json=arguments.json)
