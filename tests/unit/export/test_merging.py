"""What is written beside merged weights is read alike by transformers 4 and 5."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from app.export.merging import write_merged
from app.files.json_files import read_json
from app.models.base import load_tokenizer
from tests.unit.export.made_run import write_base
from tests.unit.models import gguf_files


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 500_000.0},
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 500_000.0},
    ],
)
def test_transformers_4_finds_positions_and_tokenizer_under_its_own_names(rope: dict[str, Any], tmp_path: Path) -> None:
    base, folder = write_base(tmp_path / "base", "llama"), tmp_path / "merged"
    write_merged(gguf_files.model("llama", rope_parameters=rope), base, folder, "float32")
    config = read_json(folder / "config.json")
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    assert config["rope_theta"] == 500_000.0
    assert config.get("rope_scaling") == (None if rope["rope_type"] == "default" else scaling)
    assert read_json(folder / "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert AutoConfig.from_pretrained(folder).rope_parameters == rope, "version 5 reads the same"
    assert AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str() == (
        load_tokenizer(base).backend_tokenizer.to_str()
    )
