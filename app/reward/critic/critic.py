"""The critic: a small language model that says how likely a program solves a problem, without running it.

Its score is P(Yes) over P(Yes) + P(No) of the token that follows a question about problem and program (GenRM, arXiv
2408.15240). It is learnt from executed drafts (`app.reward.critic.training`) and ranks those of problems without tests,
where it was found to rank better than what needs no critic (`app.reward.critic.choice`). Runs on the CPU, without Ray;
`actors.critic` hosts it on a cluster.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from app.models.adapters import load_merged
from app.models.base import ensure_model, load_tokenizer
from app.reward.critic.questions import Claim, Questions
from app.reward.critic.training import Learnt, Ruling, learn
from app.stage_settings.grm import CriticSettings
from app.training.state import ADAPTER


class Critic(Protocol):
    """Learns and scores. Implemented by `LocalCritic`, and by `actors.critic.CriticClient`."""

    def learn(self, rulings: Sequence[Ruling]) -> Learnt:
        """Train where that is not done (`critic_training.learn`)."""
        ...

    def score(self, claims: Sequence[Claim]) -> list[float]:
        """How likely each claim is true, between 0 and 1. The adapter has to be learnt before."""
        ...


class LocalCritic:
    """A Critic in this process. Its folder is all that it knows: another one of the same folder goes on with it."""

    def __init__(self, folder: Path, settings: CriticSettings, seed: int) -> None:
        self._folder, self._settings, self._seed = folder, settings, seed
        self._model: Any = None
        self._questions: Questions | None = None

    def learn(self, rulings: Sequence[Ruling]) -> Learnt:
        self._model = self._questions = None
        return learn(self._folder, rulings, self._settings, self._seed)

    def score(self, claims: Sequence[Claim]) -> list[float]:
        scores = [0.0] * len(claims)
        for places, found in self._batches(claims):
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return scores

    def _batches(self, claims: Sequence[Claim]) -> Iterator[tuple[list[int], list[float]]]:
        """Places of claims and their scores, those of like length together, equal ones once."""
        model, questions = self._loaded()
        places: dict[Claim, list[int]] = {}
        for place, claim in enumerate(claims):
            places.setdefault(claim, []).append(place)
        asked = sorted(((questions.ids(claim), held) for claim, held in places.items()), key=lambda one: len(one[0]))
        size = self._settings.batch_size
        for start in range(0, len(asked), size):
            batch = asked[start : start + size]
            found = _scores(model, [ids for ids, _ in batch], questions)
            for (_, held), score in zip(batch, found, strict=True):
                yield held, [score] * len(held)

    def _loaded(self) -> tuple[Any, Questions]:
        if self._model is None or self._questions is None:
            base, adapter = ensure_model(self._settings.model), self._folder / ADAPTER
            assert adapter.exists(), f"{adapter} is learnt before anything is scored"
            self._questions = Questions(load_tokenizer(base), self._settings.seq_len)
            self._model = load_merged(base, self._settings.model, torch.device("cpu"), str(adapter))
        return self._model, self._questions


@torch.inference_mode()
def _scores(model: Any, questions: Sequence[Sequence[int]], answers: Questions) -> list[float]:
    """P(Yes) over P(Yes) + P(No) behind each question. Padding follows a question, where nothing before can see it."""
    width = max(map(len, questions))
    ids = torch.tensor([[*one, *[0] * (width - len(one))] for one in questions])  # [batch, width]
    hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    last = hidden[torch.arange(len(questions)), torch.tensor([len(one) - 1 for one in questions])]  # [batch, hidden]
    logits = model.get_output_embeddings()(last).float()
    return torch.sigmoid(logits[:, answers.yes] - logits[:, answers.no]).tolist()
