"""TRL's GRPOTrainer on what `benchmarks.reward grpo` learns from: steps an hour, tokens a second, memory.

The same problems in the same order, drafts a step, limits of tokens, adapter, learning rate, advantages and clipping,
and our judges for its reward; its engine is vLLM in the same process, asleep while it trains, within what its trainer's
weights leave of the cap while it drafts. A step is a whole one: drafting, judging, training. Where it fails or passes
the cap, the next of --micro (drafts of a pass) and then of --caps (GiB) is tried, each in a process of its own, and
what failed is told: one JSON line a try. TRL draws no further groups for those that teach nothing, so ours is to leave
grm.refill at 0.

Run: python -m benchmarks.reward_trl --problems FILE --out OUT --model FOLDER --gpu [--caps 8,10,12] [--micro 16,4,1]
         [--set grm.steps=6 --set model.quantization=nf4]
Needs trl 1.16 (vLLM 0.22 to 0.31). Without --gpu it drafts by transformers, to try the script.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from app.generation.vllm_arguments import card_share
from app.models.base import ensure_model, load_model, load_tokenizer
from app.models.sizes import GIB
from app.prompting.protocols import without_thought
from app.records import Judge
from app.reward.by_reward.grpo import order_of
from app.reward.drafts.asking import asked
from app.reward.drafts.drafting import program_in
from app.reward.problems.store import read
from app.reward.records import TrainingProblem
from app.reward.turns import idle_trainer_gib
from app.sandbox.local import LocalJudges
from app.sandbox.tiers import confinement
from app.settings import Profile
from benchmarks.card_memory import CardMemory, leave_room
from benchmarks.reward import profile_of, within_band


class Reward:
    """Our verdicts in the form in which TRL asks for rewards; counts what it saw."""

    __name__ = "tests"

    def __init__(self, problems: dict[str, TrainingProblem], judge: Judge) -> None:
        self._problems, self._judge = problems, judge
        self.tokens = self.drafts = self.passed = 0
        self.seconds = 0.0

    def __call__(
        self, prompts: Any, completions: Any, completion_ids: Any, problem_id: Sequence[str], **others: Any
    ) -> list[float | None]:
        start = time.perf_counter()
        texts = [without_thought(turns[0]["content"], "") for turns in completions]
        jobs = (
            (self._problems[name].problem, [program_in(self._problems[name], text)])
            for name, text in zip(problem_id, texts, strict=True)
        )
        found = [row[0].reward for row in self._judge.judge_all(jobs)]
        self.tokens += sum(map(len, completion_ids))
        self.drafts += len(found)
        self.passed += sum(reward == 1 for reward in found)
        self.seconds += time.perf_counter() - start
        return found


def config_of(arguments: argparse.Namespace, profile: Profile, micro: int, share: float) -> Any:
    """GRPOConfig with ours in its words. share: of the card, for the engine."""
    from trl import GRPOConfig

    grm, total = profile.grm, profile.grm.prompts_per_step * profile.grm.num_drafts
    engine: dict[str, Any] = {"use_vllm": False, "use_cpu": True, "bf16": False}
    if arguments.gpu:
        engine = {
            "use_vllm": True, "vllm_mode": "colocate", "vllm_enable_sleep_mode": True, "bf16": True,
            "vllm_gpu_memory_utilization": share, "vllm_max_model_length": grm.seq_len,
            "vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": "token_truncate",
            "vllm_importance_sampling_clip_max": grm.importance_cap,
        }  # fmt: skip
    return GRPOConfig(
        output_dir=str(arguments.out / "trl"), per_device_train_batch_size=micro,
        gradient_accumulation_steps=total // micro, num_generations=grm.num_drafts,
        max_completion_length=grm.max_new_tokens, max_steps=grm.steps, num_iterations=grm.updates_per_step,
        learning_rate=grm.learning_rate, lr_scheduler_type="constant_with_warmup", warmup_steps=grm.warmup_steps,
        temperature=grm.temperature, beta=0.0, loss_type="dr_grpo", scale_rewards="none", epsilon=grm.clip_low,
        epsilon_high=grm.clip_high, mask_truncated_completions=True, max_grad_norm=profile.sft.max_grad_norm,
        weight_decay=0.0, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False},
        shuffle_dataset=False, logging_steps=1, report_to=[], save_strategy="no", seed=profile.seed, disable_tqdm=True,
        optim="paged_adamw_8bit" if profile.sft.optimiser == "paged_adamw_8bit" else "adamw_torch", **engine,
    )  # fmt: skip


def trained(arguments: argparse.Namespace, micro: int, cap: float) -> dict[str, Any]:
    """The steps of one try, in this process."""
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    profile = profile_of(arguments).for_drafts()
    grm, folder = profile.grm, ensure_model(profile.model)
    device = torch.device("cuda", 0) if arguments.gpu else torch.device("cpu")
    card = CardMemory()
    tokenizer = load_tokenizer(folder)
    tokenizer.padding_side = "left"
    chosen = asked(within_band([one.problem for one in read(arguments.problems)], arguments), tokenizer, grm)
    order = islice(order_of(chosen, profile.seed, salt="wave 0"), grm.steps * grm.prompts_per_step)
    table = [{"prompt": list(one.problem.question), "problem_id": one.problem.given.id} for one in order]
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            if arguments.gpu:
                torch.cuda.synchronize()
            marks.append(time.perf_counter())

    lora = LoraConfig(
        r=grm.lora_r, lora_alpha=grm.lora_alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    start, share = time.perf_counter(), 0.0
    model = load_model(folder, profile.model, device, quantize=True)
    if arguments.gpu:  # what its trainer keeps while it drafts, weights included, is not the engine's
        kept = torch.cuda.memory_reserved() / GIB + idle_trainer_gib(profile, model.config)
        share = card_share(cap - kept)
    with closing(LocalJudges(profile.sandbox, confinement())) as judges:
        reward = Reward({one.problem.given.id: one.problem for one in chosen}, judges)
        trainer = GRPOTrainer(
            model=model, reward_funcs=reward, args=config_of(arguments, profile, micro, share),
            train_dataset=datasets.Dataset.from_list(table),
            processing_class=tokenizer, peft_config=lora, callbacks=[Clock()],
        )  # fmt: skip
        if arguments.gpu:
            torch.cuda.empty_cache()
            leave_room(card, cap)
        marks.append(time.perf_counter())
        trainer.train()
    card.stop()
    seconds = [after - before for before, after in zip(marks, marks[1:], strict=False)]
    timed = seconds[1:] or seconds  # the first one warms up
    return {
        "load_s": round(marks[0] - start, 1),
        "steps": len(seconds),
        "step_s": [round(one, 2) for one in seconds],
        "steps_an_hour": round(3600 / statistics.median(timed), 1),
        "tokens_per_s": round(reward.tokens / (marks[-1] - marks[0]), 1),
        "judging_s": round(reward.seconds, 1),
        "drafts": reward.drafts,
        "passed": reward.passed,
        "tokens": reward.tokens,
        "peak_gib": round(card.peak_gib, 2),
        "within_cap": card.peak_gib <= cap if arguments.gpu else None,
        "loss": [round(row["loss"], 5) for row in trainer.state.log_history if "loss" in row],
    }


def tries(arguments: argparse.Namespace) -> None:
    """The first setting that works ends it; each one that does not is told."""
    for cap in arguments.caps.split(","):
        for micro in arguments.micro.split(","):
            command = [sys.executable, "-m", "benchmarks.reward_trl", *sys.argv[1:], "--only", f"{micro}:{cap}"]
            environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "WARNING"}
            try:
                done = subprocess.run(command, env=environment, timeout=arguments.timeout, check=False)
            except subprocess.TimeoutExpired:
                say(int(micro), float(cap), failed=f"not done after {arguments.timeout:.0f} s")
            else:
                if done.returncode == 0:
                    return


def one_try(arguments: argparse.Namespace) -> int:
    micro, cap = int(arguments.only.partition(":")[0]), float(arguments.only.partition(":")[2])
    try:
        result = trained(arguments, micro, cap)
    except Exception as error:
        traceback.print_exc()
        said = next((line for line in str(error).splitlines() if line.strip()), "")
        say(micro, cap, failed=f"{type(error).__name__}: {said[:300]}")
        return 1
    say(micro, cap, **result)
    return 1 if result["within_cap"] is False else 0


def say(micro: int, cap: float, **result: Any) -> None:
    print(json.dumps({"benchmark": "reward", "step": "trl", "micro": micro, "cap_gib": cap, **result}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="folder of the base; the profile's own if left out")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--band", default="0:0.9", metavar="ABOVE:BELOW")
    parser.add_argument("--caps", default="8", metavar="GIB,GIB", help="of the card, tried in this order")
    parser.add_argument("--micro", default="16,8,4,2,1", metavar="N,N", help="drafts of a pass, tried in this order")
    parser.add_argument("--timeout", type=float, default=500, help="seconds for a try")
    parser.add_argument("--only", metavar="MICRO:CAP", help="this try, in this process")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        code = one_try(arguments)
        sys.stdout.flush()
        os._exit(code)  # vLLM's threads would hold the process
    tries(arguments)


if __name__ == "__main__":
    main()
