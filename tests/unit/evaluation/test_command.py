"""What a name after --model is taken for."""

from pathlib import Path

import pytest

from app.errors import UserError
from app.evaluation.command import _model
from app.profiles import laptop


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Qwen/Qwen3-1.7B", "hub"),
        ("SmolLM2-135M-Instruct", "package"),
        ("~/models/FILE.gguf", "gguf"),
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF:q4_k_m.gguf", "gguf"),
    ],
)
def test_a_models_name_says_where_it_comes_from(name: str, source: str) -> None:
    found = _model(name, laptop().model)
    assert (found.source, found.name) == (source, name)


def test_a_folder_is_one_whatever_it_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "model.gguf"
    folder.mkdir()
    assert _model(str(folder), laptop().model).source == "path"
    with pytest.raises(UserError, match="give a model's folder, a GGUF file or its name"):
        _model(str(tmp_path / "none"), laptop().model)
