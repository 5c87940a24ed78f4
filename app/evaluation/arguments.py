"""The options of the command `evaluate`. Light: `--help` loads it."""

import argparse

from app.files.user_files import user_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--run",
        type=user_path,
        metavar="DIR",
        help="measure this run's base and adapter, or keep --model's results there",
    )
    add("--adapter", type=user_path, metavar="DIR", help="another PEFT folder instead of the run's adapter")
    add("--model", metavar="NAME_OR_PATH", help="measure this causal LM: a folder or a name on the Hugging Face Hub")
    add("--samples", type=user_path, metavar="FILE.jsonl", help="score these samples instead")
    add("--against", type=user_path, metavar="FILE.jsonl", help="compare --samples with these, problem by problem")
    add("--suite", metavar="NAME[,NAME]", help="what to measure on; an unknown name lists them all")
    add(
        "--problems", action="append", default=[], metavar="[SUITE=]PATH", help="a suite's file or folder, if not Hub's"
    )
    add(
        "--best-of",
        type=int,
        metavar="N",
        help="beside pass@1, draw N drafts and let the question's own examples choose: a system's score",
    )
    add("--full", action="store_true", help="all problems in the chat and the completion protocol")
    add("--show-prompt", metavar="ID", help="print the exact prompt of this problem and end")
    add("--contamination", action="store_true", help="how much of each problem stands in the run's training data")
    add("--profile", help="settings to begin with; left out, the run's own, or for --model this machine's")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="evaluation.num_problems=40")
    add("--json", action="store_true", help="print the results as one JSON object")
