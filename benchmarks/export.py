"""Whether an exported model answers like the served one: greedy tokens and log-probabilities, form by form.

`served` is vLLM with the run's adapter beside the base, in float32, as the server has it. Beside it answer, to the same
prompts (HumanEval's, in the model's chat template): the merged safetensors by vLLM and by transformers, what is left of
them in bfloat16 (weights rounded, computed in float32), and each GGUF by llama.cpp (`pip install xllamacpp`; KV cache
in F32, no flash attention, which rounds to F16). Log-probabilities are compared up to the first token that differs.
Each contestant has a process of its own, one at a time. Prints one JSON line a contestant.
Run: python -m benchmarks.export --run DIR [--prompts 20] [--new-tokens 64] [--types F16,Q8_0] [--out DIR]
     with the run's base and adapter; --only NAME,... for some of the contestants, the reference among them
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app.evaluation.suites import humaneval
from app.export.choice import choose
from app.models.base import ensure_model, load_tokenizer
from app.prompting.protocols import ask, chat_prompt
from app.prompting.turn_ends import stop_ids
from app.records import Draft, Prompt, Sampling
from app.running.run_settings import stored_profile
from app.runs import Run
from app.settings import GenerationSettings, ModelSettings

SERVED = "served"
ROOM = 2048
"""Tokens of a prompt and its answer."""
Answer = dict[str, Any]
"""By prompt: ids of the drawn tokens, and the log-probability of each."""


def prompts_of(run: Run, number: int) -> list[Prompt]:
    tokenizer = load_tokenizer(ensure_model(model_of(run)))
    tasks = humaneval.load()
    chosen = tasks[:: len(tasks) // number][:number]
    texts = [chat_prompt(tokenizer, [{"role": "user", "content": ask(task.problem.prompt)}]) for task in chosen]
    return [Prompt(id=task.problem.id, text=text) for task, text in zip(chosen, texts, strict=True)]


def model_of(run: Run) -> ModelSettings:
    profile = stored_profile(run.root)
    assert profile, f"{run.root} is no run"
    return profile.model


def settings(engine: str) -> GenerationSettings:
    return GenerationSettings(engine=engine, batch_size=20, max_model_len=ROOM, kv_cache_bytes=1 << 30, use_gpu=False)


def drawn(engine: Any, prompts: list[Prompt], new_tokens: int, adapter: str = "") -> dict[str, Answer]:
    drafts: list[Draft] = engine.generate(prompts, Sampling(max_new_tokens=new_tokens), adapter=adapter)
    return {draft.problem_id: {"ids": draft.token_ids, "logprobs": draft.token_logprobs} for draft in drafts}


def by_vllm(model: ModelSettings, adapter: str, options: argparse.Namespace, prompts: list[Prompt]) -> Any:
    from app.generation.vllm_engine import VllmEngine

    return drawn(VllmEngine(model, settings("vllm"), merges=False), prompts, options.new_tokens, adapter)


def by_transformers(model: ModelSettings, options: argparse.Namespace, prompts: list[Prompt]) -> Any:
    from app.generation.transformers_engine import TransformersEngine

    return drawn(TransformersEngine(model, settings("transformers")), prompts, options.new_tokens)


def by_llama_cpp(file: Path, run: Run, options: argparse.Namespace, prompts: list[Prompt]) -> Any:
    import xllamacpp as llama

    tokenizer = load_tokenizer(ensure_model(model_of(run)))
    ends = stop_ids(tokenizer)
    given = llama.CommonParams()
    given.model.path, given.n_ctx, given.n_parallel, given.warmup = str(file), ROOM, 1, False
    given.cache_type_k = given.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    given.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server, found = llama.Server(given), {}
    for prompt in prompts:
        ids = tokenizer(prompt.text, add_special_tokens=False).input_ids
        body = {"prompt": ids, "n_predict": options.new_tokens, "temperature": 0, "n_probs": 1, "ignore_eos": False}
        tokens = server.handle_completions(body)["choices"][0]["logprobs"]["content"]
        held = [(token["id"], token["logprob"]) for token in tokens]
        found[prompt.id] = {"ids": [token for token, _ in held], "logprobs": [value for _, value in held]}
        assert all(token not in ends for token in found[prompt.id]["ids"][:-1])
    return found


def export(run: Run, out: Path, *arguments: str) -> Path:
    """By the command itself, unless an earlier call has left it there."""
    if not out.exists():
        command = [sys.executable, "-m", "app", "export", "--run", str(run.root), "--out", str(out), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out


def contestant(name: str, options: argparse.Namespace) -> Any:
    run, folder = Run(options.run), options.out
    prompts, kind = prompts_of(run, options.prompts), name.rpartition(" ")[2]
    if name == SERVED:
        return by_vllm(model_of(run), str(choose(run, None).adapter or ""), options, prompts)
    if name.startswith("llama.cpp"):
        (file,) = export(run, folder / kind, "--gguf", kind).glob("*.gguf")
        return by_llama_cpp(file, run, options, prompts)
    more = ("--dtype", "bfloat16") if kind == "bfloat16" else ()
    merged = export(run, folder / f"merged-{kind}", "--merged", *more)
    model = ModelSettings(source="path", name=str(merged), dtype="float32")
    if name.startswith("vLLM"):
        return by_vllm(model, "", options, prompts)
    return by_transformers(model, options, prompts)


def compared(served: dict[str, Answer], other: dict[str, Answer], ends: frozenset[int]) -> dict[str, Any]:
    """Answers that are the same, tokens before the first that differs, log-probabilities of those. Engines differ in
    whether they give the end token."""
    same, before, total = 0, 0, 0
    differences = []
    for name, answer in served.items():
        ours, theirs = ([token for token in held["ids"] if token not in ends] for held in (answer, other[name]))
        length = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if len(set(pair)) > 1), len(ours))
        length = min(length, len(theirs))
        same, before, total = same + (ours == theirs), before + length, total + len(ours)
        pairs = zip(answer["logprobs"][:length], other[name]["logprobs"][:length], strict=True)
        differences += [abs(one - two) for one, two in pairs]
    return {
        "same_answers": f"{same} of {len(served)}",
        "tokens_before_a_difference": f"{before} of {total}",
        "logprob_difference_mean": round(statistics.mean(differences), 6) if differences else None,
        "logprob_difference_max": round(max(differences), 6) if differences else None,
    }


def apart(name: str, options: argparse.Namespace) -> dict[str, Answer]:
    """The contestant's answers, drawn in a process of its own and kept in the folder."""
    file = options.out / f"{name.replace(' ', '-')}.json"
    if not file.exists():
        command = [sys.executable, "-m", "benchmarks.export", *sys.argv[1:], "--out", str(options.out), "--child", name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    held: dict[str, Answer] = json.loads(file.read_text())
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--types", default="F16,Q8_0")
    parser.add_argument("--only", help="left out: all")
    parser.add_argument("--out", type=Path, help="keeps exports and answers; left out, a folder that goes")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        answers = contestant(options.child, options)
        (options.out / f"{options.child.replace(' ', '-')}.json").write_text(json.dumps(answers))
        return
    names = ["vLLM float32", "transformers float32", "transformers bfloat16"]
    names += [f"llama.cpp {kind}" for kind in options.types.split(",")]
    ends = stop_ids(load_tokenizer(ensure_model(model_of(Run(options.run)))))
    with tempfile.TemporaryDirectory() as folder:
        options.out = options.out or Path(folder)
        options.out.mkdir(parents=True, exist_ok=True)
        reference, *others = options.only.split(",") if options.only else [SERVED, *names]
        served = apart(reference, options)
        for name in others:
            start = time.monotonic()
            told = compared(served, apart(name, options), ends)
            seconds = round(time.monotonic() - start, 1)
            print(json.dumps({"benchmark": "export", "against": reference, "form": name, **told, "seconds": seconds}))


if __name__ == "__main__":
    main()
