"""A run of two layers with a random adapter, without any training."""

from pathlib import Path

from app.files.json_files import write_json
from app.models.gguf_header import read_header
from app.models.gguf_tokenizer import tokenizer_of
from app.overrides import with_overrides
from app.profiles import smoke
from app.runs import Run, open_run
from benchmarks.random_adapters import write_adapter
from tests.unit.models import gguf_files

LICENCES = {
    "MIT": {"distributions": 2, "files": 7, "tokens": 900},
    "Apache-2.0": {"distributions": 1, "files": 1, "tokens": 100},
}


def write_base(folder: Path, family: str, *, bfloat16: bool = False) -> Path:
    """An untrained model with a byte-level tokenizer."""
    made = gguf_files.model(family)
    (made.bfloat16() if bfloat16 else made).save_pretrained(folder)
    file = gguf_files.write(
        folder / "m.gguf", gguf_files.model(family), pre="llama-bpe" if family == "llama" else "qwen2"
    )
    tokenizer_of(read_header(file)).save_pretrained(folder)
    file.unlink()
    return folder


def write_run(root: Path, base: Path, *, share: float = 2.0) -> Run:
    """A run whose SFT is complete. share: `write_adapter`'s."""
    profile = with_overrides(smoke(), ["model.source=path", f"model.name={base}"])
    with open_run(root, profile, resume=False) as run:
        write_adapter(base, run.sft_adapter, seed=0, rank=4, share=share)
        write_json(run.sft_meta, {})
        write_json(run.corpus_manifest, {"tokens": 1000, "documents": 10, "licences": LICENCES, "non_osi_sources": []})
        run.attribution.write_text("distribution,version,licence\nattrs,25.1,MIT\n")
    return run
