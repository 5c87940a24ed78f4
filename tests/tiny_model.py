"""An untrained model of two layers that writes words of a given list, and learns by reward in seconds."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config


def write_model(
    folder: Path, words: Sequence[str], turns: tuple[str, str] = ("ask", "say"), *, seed: int = 0, width: int = 32
) -> None:
    """A word is a token; others of a prompt are `<pad>`. A draft is words and the end of a turn. turns: the two words
    with which turns begin, which the model may write too."""
    ask, say = turns
    vocabulary = ["<pad>", "<end>", ask, say, *words]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocabulary)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<end>")
    turn = f"{{{{ '{say}' if m['role'] == 'assistant' else '{ask}' }}}} {{{{ m['content'] }}}} <end> "
    opened = f"{{% if add_generation_prompt %}}{say}{{% endif %}}"
    tokenizer.chat_template = f"{{% for m in messages %}}{turn}{{% endfor %}}{opened}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(vocabulary), hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=1,
        initializer_range=0.1,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
