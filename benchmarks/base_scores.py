"""Scores of an untouched model on several suites, in this process with the transformers engine, and what changed since.

Prints one JSON line: passes by suite, and with --against FOLDER (an earlier --out, of another version of this project
for one) every draft whose verdict changed, counted by its cause: the reply is another one (`reply`; `reply, ended
sooner` where the new one is the beginning of the old), the same reply gave another program (`extraction`), the same
program another verdict (`sandbox`). Samples stay under --out, and what is there is not drawn again.
Run: python -m benchmarks.base_scores --model FOLDER --out FOLDER [--suite mbpp=FILE] [--gpu [--gib 8]]
     [--against FOLDER]
"""

import argparse
import json
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from app.evaluation.measure import measure_candidate, plan_measurement
from app.evaluation.stage import measurement, read_result
from app.evaluation.suites.registry import get_suite
from app.generation.transformers_engine import TransformersEngine
from app.models.base import ensure_model, load_tokenizer
from app.models.sizes import GIB
from app.overrides import with_overrides
from app.profiles import get_profile
from app.runs import Run
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement


def samples(run: Run, label: str) -> dict[tuple[str, int], dict[str, Any]]:
    lines = run.suite_samples(label, "base").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return {(row["draft"]["problem_id"], row["draft"]["sample"]): row for row in rows}


def changes(before: dict[tuple[str, int], dict[str, Any]], after: dict[tuple[str, int], dict[str, Any]]) -> Any:
    """Drafts by cause and by the two statuses."""
    counted: Counter[str] = Counter()
    for key in before.keys() & after.keys():
        old, new = before[key], after[key]
        statuses = old["verdict"]["status"], new["verdict"]["status"]
        if statuses[0] == statuses[1]:
            continue
        texts = old["draft"]["text"], new["draft"]["text"]
        cause = "sandbox"
        if texts[0] != texts[1]:
            cause = "reply, ended sooner" if texts[0].startswith(texts[1].rstrip()) else "reply"
        elif old.get("program") != new.get("program"):
            cause = "extraction"
        counted[f"{cause}: {statuses[0]} to {statuses[1]}"] += 1
    return dict(counted.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="an earlier --out")
    parser.add_argument("--suite", action="append", metavar="NAME[=FILE]")
    parser.add_argument("--protocol", default="chat")
    parser.add_argument("--new-tokens", type=int, default=640)
    parser.add_argument("--problems", type=int, help="of each suite, evenly spaced; all if left out")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--gib", type=float, help="of the card's memory, and no more; all of it if left out")
    arguments = parser.parse_args()
    if arguments.gib:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(arguments.gib * GIB / total)
    device = ["generation.use_gpu=true", "model.dtype=bfloat16"] if arguments.gpu else []
    model = ["model.source=path", f"model.name={arguments.model}", "generation.engine=transformers"]
    profile = with_overrides(get_profile("laptop"), [*model, *device, *arguments.overrides])
    settings = profile.evaluation.model_copy(
        update={"max_new_tokens": arguments.new_tokens, "temperature": 0.0, "num_problems": arguments.problems}
    )
    run, tokenizer = Run(arguments.out), load_tokenizer(ensure_model(profile.model))
    result: dict[str, Any] = {"benchmark": "base_scores", "model": Path(arguments.model).name, "suites": {}}
    with closing(LocalJudges(profile.sandbox, confinement())) as judges:
        generator = TransformersEngine(profile.model, profile.generation)
        for text in arguments.suite or ["humaneval"]:
            name, _, path = text.partition("=")
            suite = get_suite(name)
            tasks = suite.load(Path(path) if path else None)
            what = measurement(settings, profile, suite, arguments.protocol, "base", "", tasks)
            start = time.perf_counter()
            measure_candidate(run, plan_measurement(run, what, {}, tokenizer), {}, tokenizer, generator, judges)
            found = read_result(run.suite_result(what.label, "base"))
            row: dict[str, Any] = {"passed": found.num_passed, "samples": found.num_samples}
            row["seconds"] = round(time.perf_counter() - start)
            if arguments.gpu:
                row["reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 2)
            if arguments.against:
                row["changed"] = changes(samples(Run(arguments.against), what.label), samples(run, what.label))
            result["suites"][what.label] = row
            print(what.label, row, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
