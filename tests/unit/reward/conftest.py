"""The tiny model that writes letters, and its engine."""

import string
from pathlib import Path

import pytest
import torch

from app.generation.transformers_engine import TransformersEngine
from tests.tiny_model import write_model
from tests.unit.reward.letters import profile_of


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("letters")
    write_model(folder, list(string.ascii_lowercase))
    return folder


@pytest.fixture(scope="session")
def engine(letters: Path) -> TransformersEngine:
    torch.set_num_threads(1)  # of a model this small, threads that wait for each other take most of the time
    return TransformersEngine(profile_of(letters).model, profile_of(letters).generation)
