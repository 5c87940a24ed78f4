"""Rows of `benchmarks.tool_arms rows` with their requests in a model's words (`app.reward.tool_use.rephrasing`).

    python -m benchmarks.tool_rephrase --rows OUT --out SAID --model FOLDER --gpu --tooluse BFCL_FOLDER

Writes SAID/rows (train.jsonl, validation.jsonl, attribution and rights) for `benchmarks.tool_arms grpo --out SAID`.
What the model's words then touch of a guarded suite is left as it was. Prints one JSON line a side: how many requests
were asked for, taken, and why the others were not. Limits: one wording is drawn of each, by --seed; --number takes the
first rows.
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

from app import rights
from app.corpus.clean.decontamination import Decontaminator
from app.evaluation.guarded_suites import guard_for
from app.models.base import ensure_model, load_tokenizer
from app.models.licences import public_name
from app.prompting.protocols import chat_prompt
from app.records import FinishReason, Prompt, Sampling
from app.reward.tool_use.reading import untouched
from app.reward.tool_use.records import ToolProblem, read_problems, write_problems
from app.reward.tool_use.rephrasing import can_be_said_anew, rephrasing_turns, said_anew, what_is_wrong
from benchmarks.reward import profile_of
from benchmarks.sft_arms import engine_of

SAMPLING = Sampling(max_new_tokens=160, temperature=0.7, top_p=0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True, metavar="OUT")
    parser.add_argument("--out", type=Path, required=True, metavar="SAID")
    parser.add_argument("--model", metavar="FOLDER", help="SmolLM2's package if left out")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--tooluse", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--number", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    arguments = parser.parse_args()
    if arguments.out.resolve() == arguments.rows.resolve():
        parser.error(f"--out {arguments.out} is where the rows are, and would lose them: give another folder")

    profile = profile_of(arguments)
    engine, tokenizer = engine_of(profile), load_tokenizer(ensure_model(profile.model))
    told = profile.evaluation.model_copy(update={"problems": (f"tooluse={arguments.tooluse}",)})
    guard = Decontaminator(signs=guard_for(told).signs())
    given, folder = arguments.rows / "rows", arguments.out / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("train", "validation"):
        problems = read_problems(given / f"{side}.jsonl")[: arguments.number]
        asked = [one for one in problems if can_be_said_anew(one)]
        prompts = [
            Prompt(id=one.problem.id, text=chat_prompt(tokenizer, rephrasing_turns(one)), samples=(arguments.seed,))
            for one in asked
        ]
        new, why = dict[str, ToolProblem](), Counter[str]()
        for problem, draft in zip(asked, engine.generate(prompts, SAMPLING), strict=True):
            assert draft.problem_id == problem.problem.id
            wording = draft.text.strip()
            reason = "cut" if draft.finish_reason is FinishReason.LENGTH else what_is_wrong(problem, wording)
            if not reason and not untouched([made := said_anew(problem, wording)], guard):
                reason = "touches a guarded suite"
            why[reason or "taken"] += 1
            if not reason:
                new[problem.problem.id] = made
        write_problems(folder / f"{side}.jsonl", [new.get(one.problem.id, one) for one in problems])
        line = {"benchmark": "tool_rephrase", "side": side, "rows": len(problems), "asked": len(asked), **why}
        print(json.dumps(line), flush=True)
    shutil.copy(given / "attribution.csv", folder)
    held = rights.read(given) or rights.Rights()
    remark = f"Requests were said anew by {public_name(profile.model)}."
    rights.write(folder, rights.union(held, rights.Rights(remarks=(remark,))), {})


if __name__ == "__main__":
    main()
