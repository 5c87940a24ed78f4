"""What a training is measured on beside its own rows: reference solutions that no corpus holds, always the same ones.

The validation half of `datasets/problems`, each as signature and docstring to be gone on with, so that the losses of
two trainings can be compared whatever their corpora hold. A loss says how well a model foresees people's code, not how
much of its own code runs: that is what the validation is for (`app.evaluation.gate`).
"""

import numpy as np
import torch

from app.corpus.records import Example
from app.corpus.rows.packing import pack, too_long
from app.corpus.rows.render import tokenise_all
from app.models.base import ensure_model, load_tokenizer
from app.problem_sets.own import tasks_of
from app.settings import Profile
from app.training.feed import Batch

EACH = 3
"""Every third problem is taken, 41 of them: 15 rows of 512 tokens for SmolLM2."""


def held_out_batches(profile: Profile) -> list[Batch]:
    """Packed rows of profile.corpus.seq_len, sft.micro_batch of them a batch; a problem longer than a row is left out.
    Empty where no row is filled."""
    tokenizer = load_tokenizer(ensure_model(profile.model))
    held = [task for task in tasks_of() if task.problem.split == "validation"][::EACH]
    examples = [
        Example(form="held_out", prompt=task.problem.prompt, completion=task.canonical_solution) for task in held
    ]
    seq_len, size = profile.corpus.seq_len, profile.sft.micro_batch
    samples = [sample for sample in tokenise_all(examples, tokenizer) if not too_long(sample, seq_len)]
    rows = pack(samples, seq_len, tokenizer.pad_token_id or 0)
    return [
        {
            name: torch.from_numpy(
                np.stack([getattr(row, name) for row in rows[start : start + size]]).astype(np.int64)
            )
            for name in ("input_ids", "labels", "position_ids")
        }
        for start in range(0, len(rows), size)
    ]
