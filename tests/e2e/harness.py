"""lm-evaluation-harness as people run it against a server, on two tasks of our own that need no download.

    OPENAI_API_KEY=... python -m tests.e2e.harness URL MODEL TOKENIZER

prints, as one line of JSON, the responses by way: `tokens` and `texts` are log-probabilities by /v1/completions with
prompts as token lists and as texts, `completions` and `chat` are texts that were drawn. Each is a list a document.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

QUESTIONS = [
    ("def add(a, b):\n    return", [" a + b", " a - b", " None"]),
    ("The capital of France is", [" Paris", " Rome", " a fish"]),
    ("for i in", [" range(10):", " elephant", " 3"]),
    ("import numpy as", [" np", " pd", " os"]),
] * 3
"""Prompts and their choices: 36 requests, more than a batch of 32."""
CHOOSE = {
    "output_type": "multiple_choice",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": 0,
    "metric_list": [{"metric": "acc"}],
}
WRITE = {
    "output_type": "generate_until",
    "doc_to_target": "{{choices[0]}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 6, "do_sample": False, "temperature": 0.0},
    "metric_list": [{"metric": "exact_match"}],
}


def main(url: str, model: str, tokenizer: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": folder}
        rows = [{"question": question, "choices": choices} for question, choices in QUESTIONS]
        data = Path(folder) / "test.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        local: dict[str, Any] = {"base_url": f"{url}/v1/completions", "model": model, "tokenizer": tokenizer}
        local |= {"tokenizer_backend": "huggingface", "max_length": 512, "batch_size": 32}
        chat = {"base_url": f"{url}/v1/chat/completions", "model": model}
        found = {
            "tokens": responses("local-completions", local, CHOOSE, data),
            "texts": responses("local-completions", local | {"tokenized_requests": False}, CHOOSE, data),
            "completions": responses("local-completions", local, WRITE, data),
            "chat": responses("local-chat-completions", chat, WRITE, data, apply_chat_template=True, limit=3),
        }
    print(json.dumps(found))


def responses(kind: str, arguments: dict[str, Any], task: dict[str, Any], data: Path, **options: Any) -> list[Any]:
    import lm_eval.evaluator
    from lm_eval.tasks import TaskManager

    shared = {
        "task": "own",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
    }
    lm_eval.evaluator.add_env_info = lambda results: None  # what is installed, by pip, after each task
    results = lm_eval.simple_evaluate(
        model=kind,
        model_args=arguments,
        tasks=[shared | task],
        task_manager=TaskManager(include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )
    (samples,) = results["samples"].values()
    samples.sort(key=lambda sample: sample["doc_id"])
    return [[response[0] for response in sample["resps"]] for sample in samples]


if __name__ == "__main__":
    main(*sys.argv[1:])
