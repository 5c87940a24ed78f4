"""Problems and a model for which learning by reward works in seconds, with the real sandbox.

The model writes programs such as `f=max; f=sum;`, of which the last word decides, and the problems ask for a sum.
"""

import json
from pathlib import Path

from app.overrides import with_overrides
from app.profiles import smoke
from app.settings import Profile
from tests.tiny_model import write_model

WORDS = [f"f={name};" for name in ("sum", "max", "min", "len", "any", "sorted")]
SUM = "def f(values: list) -> int:\n    return sum(values)\n"


def write_problems(path: Path) -> None:
    """Four for which a sum is right, three of them with a reference, and one that no draft solves."""
    rows = [row(name, f"assert f([{number}, 2, 3]) == {number + 5}") for number, name in enumerate("abcd", 1)]
    rows = [one | {"reference": SUM} for one in rows[:3]] + rows[3:]
    never = row("never", "assert f([1, 2]) == 'three'")
    path.write_text("".join(f"{json.dumps(one)}\n" for one in (*rows, never)))


def row(name: str, tests: str) -> dict[str, str]:
    prompt = f'def f(values: list) -> int:\n    """Give what {name} asks of the values."""\n'
    return {"id": f"toy/{name}", "prompt": prompt, "entry_point": "f", "tests": tests, "licence": "MIT"}


def sums(folder: Path) -> Profile:
    """Model, problems and a profile that learns from them, below a folder."""
    return with_overrides(smoke(), sums_settings(folder))


def sums_settings(folder: Path) -> list[str]:
    """The same as changes of the smoke profile."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    write_model(folder / "model", WORDS, turns=("0;", "1;"))
    write_problems(folder / "sums.jsonl")
    return [
        "model.source=path", f"model.name={folder / 'model'}", f"grm.problems=[{folder / 'sums.jsonl'}]",
        "grm.rate_drafts=24", "grm.prompts_per_step=4", "grm.num_drafts=16", "grm.max_new_tokens=64",
        "grm.seq_len=256", "grm.refill=0", "grm.micro_batch=8", "grm.steps=8", "grm.warmup_steps=0",
        "grm.learning_rate=0.01", "grm.checkpoint_every=2", "generation.batch_size=64", "sandbox.num_workers=2",
    ]  # fmt: skip
