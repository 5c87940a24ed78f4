"""The sub-command `docsearch`: its arguments and what it does. The command line imports this, so nothing heavy here."""

import argparse
import json

from app.errors import UserError
from app.files.user_files import user_path


def add_docsearch_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--check-urls", type=user_path, metavar="FILE.jsonl", help="check the guard: lines of id, input, expected")
    add("--json", action="store_true", help="print the outcome as one JSON object")


def docsearch(arguments: argparse.Namespace) -> None:
    if arguments.check_urls is None:
        raise UserError("docsearch has nothing to do: give --check-urls FILE.jsonl")
    from app.docsearch.check_cases import check_cases

    outcome = check_cases(arguments.check_urls)
    if arguments.json:
        print(json.dumps(outcome))
        return
    for row in outcome["differing"]:
        print(f"{row['id']}: {row['verdict']}, expected {row['expected']}")
    print(f"docsearch: {outcome['as_expected']} of {outcome['total']} cases as expected")
