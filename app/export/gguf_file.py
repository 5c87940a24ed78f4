"""A model written as one GGUF file by the `gguf` package, tensor by tensor, and read back by the project's own reader.

llama.cpp and what is built on it (Ollama, LM Studio) load it. The layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import UserError
from app.export.gguf_shape import gguf_names, hyper_parameters, in_ggml_order, rope_factors
from app.export.gguf_types import BLOCKS, LARGEST_F16, file_type, num_bytes, type_of
from app.export.gguf_vocabulary import vocabulary_of
from app.models.gguf_header import read_header
from app.models.gguf_layout import config_of, placed
from app.progress import progress


def metadata_of(config: Any, tokenizer: Any, name: str, wanted: str) -> dict[str, Any]:
    """All metadata of the file, by key. Raises UserError for a model or a tokenizer that it can't describe."""
    from gguf import GGML_QUANT_VERSION

    found: dict[str, Any] = {"general.type": "model", "general.name": name, "general.file_type": file_type(wanted)}
    if wanted in BLOCKS:
        found["general.quantization_version"] = GGML_QUANT_VERSION
    return found | hyper_parameters(config) | vocabulary_of(tokenizer, config.vocab_size)


def write_gguf(model: Any, metadata: Mapping[str, Any], path: Path, wanted: str) -> None:
    """Write the file and read its header back.

    Raises UserError for weights beyond the range of the type.
    """
    from gguf import GGUFWriter
    from gguf.quants import quantize

    config, state = model.config, model.state_dict()
    names = gguf_names(config, list(state))
    writer = GGUFWriter(path, config.model_type)
    for key, value in metadata.items():
        _add(writer, key, value)
    further = rope_factors(config)
    for name, values in further.items():
        writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
    for name, place in names.items():
        shape = tuple(state[name].shape)
        kind = type_of(shape, wanted)
        writer.add_tensor_info(place, shape, np.dtype(np.float32), num_bytes(shape, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for values in further.values():
        writer.write_tensor_data(values)
    with progress(f"GGUF {wanted}", len(names), "tensors") as update:
        for number, (name, place) in enumerate(names.items(), 1):
            weight = state[name].detach()
            kind = type_of(tuple(weight.shape), wanted)
            _check_range(name, weight, kind.name)
            writer.write_tensor_data(quantize(in_ggml_order(name, weight.numpy(), config), kind))
            update(number, place)
    writer.close()
    _read_back(path, config)


def _add(writer: Any, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    (writer.add_array if isinstance(value, list) else kinds[type(value)])(key, value)


def _check_range(name: str, weight: Any, kind: str) -> None:
    if kind == "F16" and float(weight.abs().max()) > LARGEST_F16:
        raise UserError(f"{name} holds numbers beyond {LARGEST_F16:,.0f}, the largest of F16: take BF16 or F32")


def _read_back(path: Path, config: Any) -> None:
    """The file as whoever loads it sees it: every tensor in its place, and the same hyper-parameters."""
    header = read_header(path)
    placed(header)
    found = config_of(header)
    differing = [key for key, value in _told(config).items() if _told(found)[key] != value]
    assert not differing, f"{path} reads back with other {', '.join(differing)}"


def _told(config: Any) -> dict[str, Any]:
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    more = ("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")
    rope = {key: value for key, value in config.rope_parameters.items() if value is not None}
    return {key: getattr(config, key) for key in (*keys, *more)} | {"rope_parameters": rope}
