"""A model out of a GGUF: the same weights and answers as the original, unpacked once, and one sentence where not."""

import errno
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GenerationConfig

from app.errors import UserError
from app.models import base, gguf_source, gguf_weights
from app.models.base import ensure_model, load_model, load_tokenizer, pull, pulled_folder
from app.models.config import config_of
from app.serving.engine import served_name
from app.settings import ModelSettings
from tests.unit.models import gguf_files

FAMILIES = ("qwen2", "qwen3", "llama")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETCODER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were unpacked."""
    done: list[Path] = []

    def unpack(path: Path, folder: Path, dtype: str) -> None:
        done.append(path)
        gguf_source.unpack(path, folder, dtype)

    monkeypatch.setattr(base, "unpack", unpack)
    return done


def of(path: Path | str, **changes: Any) -> ModelSettings:
    return ModelSettings(source="gguf", name=str(path), **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_answers_as_the_one_that_it_was_made_from(family: str, tmp_path: Path) -> None:
    original = gguf_files.model(family)
    folder = ensure_model(of(gguf_files.write(tmp_path / "m.gguf", original)))
    unpacked = load_model(folder, of("m"), torch.device("cpu"))
    ours, theirs = unpacked.state_dict(), original.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    tokens = torch.arange(40)[None] * 7 % len(gguf_files.TOKENS)
    with torch.no_grad():
        assert torch.equal(unpacked(tokens).logits, original(tokens).logits)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_packed_weights_are_those_that_gguf_unpacks(family: str, kind: str, tmp_path: Path) -> None:
    original = gguf_files.model(family)
    folder = pull(of(gguf_files.write(tmp_path / "m.gguf", original, kind)))
    ours, bits = load_file(folder / "model.safetensors"), {"Q8_0": 7, "Q5_1": 4, "Q4_0": 3}.get(kind, 8)
    packed = gguf.GGMLQuantizationType[kind]
    for name, weight in original.state_dict().items():
        if name in ours and weight.dim() == 2:
            assert (ours[name] - weight).abs().max() <= weight.abs().max() / 2**bits
            if "q_proj" not in name and "k_proj" not in name:
                expected = gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), packed), packed)
                assert np.array_equal(ours[name].numpy(), expected)


def test_weights_are_stored_as_they_will_be_loaded(tmp_path: Path) -> None:
    original = gguf_files.model("llama")
    path = gguf_files.write(tmp_path / "m.gguf", original)
    exact, rounded = pull(of(path)), pull(of(path, dtype="bfloat16"))
    assert exact != rounded and pulled_folder(of(path)) == exact
    stored = load_file(rounded / "model.safetensors")
    assert all(torch.equal(stored[name], weight.bfloat16()) for name, weight in original.state_dict().items())
    assert (exact / "config.json").read_bytes() == (rounded / "config.json").read_bytes()


def no_lock(context: object) -> None:
    raise FileNotFoundError(2, "No such file or directory")


@pytest.mark.parametrize("can_share_locks", [True, False], ids=["", "without /dev/shm"])
def test_pieces_of_a_tensor_in_several_files_and_processes_make_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_share_locks: bool
) -> None:
    if not can_share_locks:  # of which the first thing that a pool of processes makes is one
        monkeypatch.setattr("multiprocessing.context.BaseContext.Lock", no_lock)
    monkeypatch.setattr(gguf_weights, "SHARD_BYTES", 64 << 10)
    monkeypatch.setattr(gguf_weights, "PIECE", 1000)
    monkeypatch.setattr(gguf_weights, "ALONE", 0)
    original = gguf_files.model("llama")
    folder = pull(of(gguf_files.write(tmp_path / "m.gguf", original)))
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 3
    ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in original.state_dict().items())


def test_an_unchanged_file_is_unpacked_once_and_a_changed_one_anew(tmp_path: Path, count: list[Path]) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    folder = ensure_model(of(path))
    assert ensure_model(of(path)) == pull(of(path)) == folder and len(count) == 1
    os.utime(path, ns=(1, 1))  # another time, the same bytes
    assert pulled_folder(of(path)) is None
    assert ensure_model(of(path)) == folder and len(count) == 1
    assert pulled_folder(of(path)) == folder
    before = load_file(folder / "model.safetensors")["model.norm.weight"]
    other = gguf_files.model("qwen2")
    torch.nn.init.constant_(other.model.norm.weight, 3.0)
    gguf_files.write(path, other)
    assert ensure_model(of(path)) == folder and len(count) == 2
    assert not torch.equal(load_file(folder / "model.safetensors")["model.norm.weight"], before)
    path.unlink()  # the unpacked weights stay
    assert ensure_model(of(path)) == folder and len(count) == 2


def test_weights_that_changed_after_they_were_unpacked_are_unpacked_anew(tmp_path: Path, count: list[Path]) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    stored = ensure_model(of(path)) / "model.safetensors"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    pull(of(path))
    assert stored.read_bytes() == whole and len(count) == 2
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(path, ns=(1, 1))
    pull(of(path))
    assert stored.read_bytes() == whole and len(count) == 3


def test_what_an_older_version_unpacked_is_unpacked_anew(
    tmp_path: Path, count: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    ensure_model(of(path))
    monkeypatch.setattr(gguf_source, "UNPACKING", gguf_source.UNPACKING + 1)
    ensure_model(of(path))
    assert len(count) == 2


def test_a_broken_file_leaves_nothing_behind_that_passes_for_a_model(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    folder = ensure_model(of(path))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="m.gguf is cut short"):
        ensure_model(of(path))
    assert pulled_folder(of(path)) is None and not folder.exists()


@pytest.mark.parametrize("name", ["none.gguf", "./owner/none.gguf", "."])
def test_a_file_that_is_not_there_is_told_with_both_forms(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"is not a file here: give a GGUF file, or one on .* owner/repository:FILE.gguf"
    ):
        pull(of(name))
    with pytest.raises(UserError, match="is not a file here"):
        config_of(of(name))


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.files.errors import sentence_of

    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(gguf_source.shutil, "disk_usage", lambda _: full)
    with pytest.raises(OSError) as raised:
        pull(of(path))
    said = sentence_of(raised.value)
    assert said and "No space left on device" in said and "set POCKETCODER_CACHE to another folder" in said


def test_a_disk_that_fills_up_meanwhile_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.files.errors import sentence_of

    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(gguf_weights.os, "posix_fallocate", full)
    with pytest.raises(OSError) as raised:
        pull(of(path))
    assert "model.safetensors can't be written" in (sentence_of(raised.value) or "")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_file_that_becomes_shorter_meanwhile_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))
    unpack_piece = gguf_weights.unpack_piece

    def late(piece: gguf_weights.Piece) -> int:
        path.write_bytes(b"")
        return unpack_piece(piece)

    monkeypatch.setattr(gguf_weights, "unpack_piece", late)
    with pytest.raises(UserError, match="m.gguf became shorter while it was unpacked"):
        pull(of(path))


def test_a_file_on_the_hub_is_fetched_by_its_repository_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: list[Path]
) -> None:
    path, asked = gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2")), []
    settings = of("Some/Model-GGUF:q8/m.gguf", revision="abc")
    with pytest.raises(UserError, match="not here yet: fetch it with `python -m app pull`"):
        config_of(settings)

    def download(*arguments: str, revision: str) -> str:
        asked.append((*arguments, revision))
        return str(path)

    class Api:
        def model_info(self, *_: Any, **__: Any) -> Any:
            lfs = type("Lfs", (), {"sha256": digest})
            return type("Info", (), {"siblings": [type("File", (), {"rfilename": "q8/m.gguf", "lfs": lfs})]})

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    digest = "0" * 64
    with pytest.raises(UserError, match="m.gguf is not what the Hub publishes"):
        pull(settings)
    digest = base.sha256_of([path])["m.gguf"]
    folder = pull(settings)
    assert folder.parent.name.startswith("m-") and asked[-1] == ("Some/Model-GGUF", "q8/m.gguf", "abc")
    assert ensure_model(settings) == folder and len(count) == 1
    assert served_name(settings) == "m"
    assert config_of(settings)[0].hidden_size == 64


def test_the_folder_has_ends_and_template(tmp_path: Path) -> None:
    folder = pull(of(gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen3"))))
    ends = GenerationConfig.from_pretrained(folder).eos_token_id
    assert ends == [gguf_files.IM_END, gguf_files.ENDOFTEXT]
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n"


def test_the_packaged_model_goes_the_same_way(monkeypatch: pytest.MonkeyPatch, count: list[Path]) -> None:
    settings = ModelSettings(source="package", name="SmolLM2-135M-Instruct")
    with pytest.raises(UserError, match="'SmolLM2' is in no package"):
        pull(settings.model_copy(update={"name": "SmolLM2"}))
    monkeypatch.setattr(base, "unpack", lambda path, folder, dtype: (folder / "config.json").write_text(path.name))
    folder = pull(settings)
    assert (folder / "config.json").read_text() == gguf_source.PACKAGED_GGUF
    assert config_of(settings.model_copy(update={"dtype": "bfloat16"}))[0].num_hidden_layers == 30
