"""Scores of an untouched model beside published ones: suites by ways to ask, drawn on a card, judged meanwhile.

    python -m benchmarks.published draw --model FILE.gguf --data FOLDER --out FOLDER [--gpu]
        [--parts asked,ways,rest,again] [--suite humaneval]... [--way evalplus]... [--seconds 500]
    python -m benchmarks.published judge --data FOLDER --out FOLDER [--reading uncut]... [--evalplus FOLDER]

A way to ask is the words of the question (ours, EvalPlus', or a text to continue), whether EvalPlus' beginning of an
answer is given, and whether the template's default system turn stays (`WAYS`). The parts: every suite as the product
asks it (`asked`), all ways on the halves for choosing and one change at a time elsewhere (`ways`), the same weights
quantised once more (`again`, `benchmarks.requantise`), and what has no published score (`rest`). Greedy, 768 new
tokens as in EvalPlus; nothing ends a draft but the model, so that stop texts are a matter of reading (`READINGS`).

Drafts go to OUT/drafts.jsonl.gz when a group of them is drawn, results to OUT/results.jsonl when they are judged; what
is there is neither drawn nor judged again, so `judge` also finishes what `draw` was ended in. Each result is printed
as a JSON line. FOLDER of --data holds the files that `FILES` names. `benchmarks.published_table` reads the results.
"""

import argparse
import gzip
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from app.errors import UserError
from app.evaluation.measure import render
from app.evaluation.suites.suite import Suite
from app.files.json_files import write_json
from app.overrides import with_overrides
from app.profiles import get_profile
from app.prompting.protocols import EVALPLUS_BEGINNING, evalplus_prompt
from app.records import Problem, Prompt, Sampling
from app.settings import Profile
from benchmarks.published_judging import (
    ASKED,
    ONE_CHANGE,
    PUBLISHED,
    READINGS,
    WAYS,
    Judging,
    Key,
    Suites,
    Way,
    held_drafts,
    held_results,
    report,
)

AT_ONCE = 1024
"""Drafts drawn together on a card."""
SEEDS = (1, 2, 3)
"""Draws of a second quantisation's blocks."""
SYSTEM_TURN = re.compile(r"\A<\|im_start\|>system\n.*?<\|im_end\|>\n", re.DOTALL)
PARTS = {
    "asked": [(s, w) for w in ("evalplus", "chat") for s in (*PUBLISHED, "mbpp_sanitized", "mbpp_sanitized, all")]
    + [(s, "chat") for s in ("leetcode", "ours", "repo")],
    "ways": [(s, w) for w in ASKED for s in ("mbpp_tuning", "leetcode_tuning")]
    + [(s, w) for w in ONE_CHANGE for s in PUBLISHED],
    "rest": [("tooluse", "chat")]
    + [(s, "completion") for s in (*PUBLISHED, "mbpp_sanitized", "leetcode", "ours", "repo", "tooluse")],
    "again": [(s, "evalplus") for s in PUBLISHED],
}


def prompt_of(tokenizer: Any, suite: Suite, problem: Problem, way: Way) -> str:
    if way.words == "evalplus":
        shown = problem.prompt if suite.name.startswith("leetcode") else suite.evalplus(problem)
        text = evalplus_prompt(tokenizer, shown).removesuffix("" if way.begun else EVALPLUS_BEGINNING)
    else:
        text = render(tokenizer, suite, problem, "completion" if way.words == "completion" else "chat", ()) or ""
        text += EVALPLUS_BEGINNING if way.begun else ""
    return text if way.system else SYSTEM_TURN.sub("", text)


def draw(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "model.json", {"model": Path(arguments.model).stem})
    profile, suites = profile_of(arguments), Suites(arguments.data, arguments.problems)
    with Judging(arguments, suites) as judging:
        from app.generation.vllm_engine import VllmEngine
        from app.models.base import ensure_model, load_tokenizer

        folder = ensure_model(profile.model)
        engine = VllmEngine(profile.model, profile.generation, merges=True)  # its weights can be exchanged
        drawer = Drawer(engine, load_tokenizer(folder), suites, arguments)
        there = {key for key, _ in held_drafts(arguments.out)}
        for part in arguments.parts.split(","):
            again = [f"again, draw {seed}" for seed in SEEDS[: arguments.seeds]]
            for weights in again if part == "again" else ["gguf"]:
                keys = [(weights, suite, way) for suite, way in PARTS[part] if is_asked_for(arguments, suite, way)]
                keys = [key for key in keys if key not in there]
                there |= {*keys}
                if keys and time.perf_counter() - start < arguments.seconds:
                    report(arguments.out, part=part, weights=weights, at_s=round(time.perf_counter() - start))
                    try:
                        drawer.hold(weights, Path(arguments.model), folder)
                        for key, drafts in drawer.draw(keys):
                            judging.put(key, drafts)
                    except Exception as error:  # the other parts need not be lost with this one
                        report(arguments.out, failed=part, weights=weights, error=f"{type(error).__name__}: {error}")
        report(arguments.out, drawn="all", at_s=round(time.perf_counter() - start))


def is_asked_for(arguments: argparse.Namespace, suite: str, way: str) -> bool:
    return suite in (arguments.suite or [suite]) and way in (arguments.way or [way])


def profile_of(arguments: argparse.Namespace) -> Profile:
    source = "package" if arguments.model == "SmolLM2-135M-Instruct" else "gguf"
    source = "path" if Path(arguments.model).is_dir() else source
    card = ["model.dtype=bfloat16", f"generation.batch_size={AT_ONCE}"]
    device = [f"generation.use_gpu={str(arguments.gpu).lower()}", *(card if arguments.gpu else ["model.dtype=float32"])]
    model = [f"model.source={source}", f"model.name={arguments.model}", "generation.engine=vllm"]
    return with_overrides(get_profile("laptop"), [*model, *device, *arguments.overrides])


class Drawer:
    """Draws drafts, the same prompt once, and keeps them in a file."""

    def __init__(self, engine: Any, tokenizer: Any, suites: Suites, arguments: argparse.Namespace) -> None:
        self._engine, self._tokenizer, self._suites, self._out = engine, tokenizer, suites, arguments.out
        self._new_tokens = arguments.new_tokens
        self._held, self._drawn = "gguf", dict[str, dict[str, Any]]()

    def hold(self, weights: str, source: Path, folder: Path) -> None:
        """Put these weights into the engine: the file's, or those quantised once more."""
        if weights == self._held:
            return
        from benchmarks.requantise import Errors, quantised_again

        seed = None if weights == "gguf" else int(weights.rpartition(" ")[2])
        list(self._engine.stream([Prompt(id="", text="a")], Sampling(max_new_tokens=1)))  # it loads for its first draft
        engine, errors = self._engine._engine, Errors()
        again, self._held = quantised_again(source, folder, seed, errors), ""  # nobody knows, should this fail
        engine.collective_rpc("reload_weights", kwargs={"weights_iterator": again})
        engine.reset_prefix_cache()
        self._held, self._drawn = weights, {}
        report(self._out, weights=weights, errors=errors.by_type())

    def draw(self, keys: Sequence[Key]) -> Iterator[tuple[Key, dict[str, dict[str, Any]]]]:
        """Drafts by problem, for all suites and ways that the same texts end."""
        groups: dict[tuple[str, ...], dict[Key, dict[str, str]]] = {}
        for key in keys:
            try:
                (suite, held), way = self._suites[key[1]], WAYS[key[2]]
                texts = {name: prompt_of(self._tokenizer, suite, problem, way) for name, problem in held.items()}
            except Exception as error:  # the other suites need not be lost with this one
                report(self._out, failed=key, error=f"{type(error).__name__}: {error}")
                continue
            groups.setdefault(suite.stop if way.words == "completion" else (), {})[key] = texts
        for stop, asked in groups.items():
            wanted = {text for named in asked.values() for text in named.values()} - self._drawn.keys()
            self._draw(sorted(wanted), Sampling(max_new_tokens=self._new_tokens, stop=stop))
            made = {key: {name: self._drawn[text] for name, text in named.items()} for key, named in asked.items()}
            with gzip.open(self._out / "drafts.jsonl.gz", "at") as file:
                file.writelines(json.dumps({"key": key, "drafts": drafts}) + "\n" for key, drafts in made.items())
            yield from made.items()

    def _draw(self, texts: Sequence[str], sampling: Sampling) -> None:
        start, tokens = time.perf_counter(), 0
        prompts = [Prompt(id=str(number), text=text) for number, text in enumerate(texts)]
        for draft in self._engine.stream(prompts, sampling):
            tokens += draft.num_tokens
            kept = {"text": draft.text, "num_tokens": draft.num_tokens, "mean_logprob": draft.mean_logprob}
            self._drawn[texts[int(draft.problem_id)]] = kept | {"finish_reason": str(draft.finish_reason)}
        seconds = time.perf_counter() - start
        report(self._out, drafts=len(texts), tokens=tokens, tokens_per_s=round(tokens / max(seconds, 1e-9)))


def judge(arguments: argparse.Namespace) -> None:
    """Judge what has no result yet in the readings asked for."""
    if arguments.evalplus:
        sys.path.append(str(arguments.evalplus))
    there = {(row["weights"], row["suite"], row["way"], row["reading"]) for row in held_results(arguments.out)}
    with Judging(arguments, Suites(arguments.data, arguments.problems)) as judging:
        for key, drafts in held_drafts(arguments.out):
            for reading in arguments.reading or ["product"]:
                is_meant = reading == "product" or (key[0] == "gguf" and key[1] in PUBLISHED and key[2] in ASKED)
                if is_meant and (*key, reading) not in there and (WAYS[key[2]].begun or reading != "uncut"):
                    judging.put(key, drafts, reading)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    steps = parser.add_subparsers(required=True)
    drawing, judging = steps.add_parser("draw"), steps.add_parser("judge")
    for one in (drawing, judging):
        one.add_argument("--data", type=Path, required=True)
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--problems", type=int, help="of each suite, evenly spaced; all if left out")
        one.add_argument("--workers", type=int, help="judges; as many as cores if left out")
        one.add_argument("--seconds", type=float, default=86_400, help="begin no other drafts after this")
    drawing.add_argument("--model", required=True, help="a GGUF file, a folder, or SmolLM2-135M-Instruct")
    drawing.add_argument("--parts", default=",".join(PARTS))
    drawing.add_argument("--suite", action="append", help="of those parts only this one; may be repeated")
    drawing.add_argument(
        "--way", action="append", choices=WAYS, help="of those parts only what is asked so; may be repeated"
    )
    drawing.add_argument("--seeds", type=int, default=len(SEEDS), help="how many draws of a second quantisation")
    drawing.add_argument("--new-tokens", type=int, default=768)
    drawing.add_argument("--gpu", action="store_true")
    drawing.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    drawing.set_defaults(step=draw)
    judging.add_argument("--reading", action="append", choices=READINGS)
    judging.add_argument("--evalplus", metavar="FOLDER", help="where evalplus 0.3.1 was installed, to read by sanitize")
    judging.set_defaults(step=judge)
    arguments = parser.parse_args()
    try:
        arguments.step(arguments)
    except UserError as error:
        sys.exit(f"pocketcoder: {error}")


if __name__ == "__main__":
    main()
