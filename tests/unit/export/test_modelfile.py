"""A Modelfile says in Go's language what the chat template says in Jinja, and where an answer stops."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.export.modelfile import NOTE, PROBES, modelfile, turns_of
from app.models.gguf_header import read_header
from app.models.gguf_source import packaged_header
from app.models.gguf_tokenizer import tokenizer_of
from app.prompting.protocols import chat_prompt
from tests.unit.models import gguf_files

LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
THINKING = gguf_files.TEMPLATE.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
WITH_DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    return tokenizer_of(read_header(gguf_files.write(tmp_path / "m.gguf", gguf_files.model("qwen2"))))


@pytest.mark.parametrize("template", [gguf_files.TEMPLATE, LLAMA_3, THINKING, WITH_DEFAULT + gguf_files.TEMPLATE])
def test_the_parts_of_a_template_give_its_dialogues(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    turns = turns_of(tokenizer)
    assert turns
    for roles in PROBES:
        dialogue = [{"role": role, "content": f"{role} says\n  {number}"} for number, role in enumerate(roles)]
        assert turns.rendered(dialogue) == chat_prompt(tokenizer, dialogue)


def test_the_modelfile_names_the_gguf_the_turns_and_the_stops(tokenizer: Any) -> None:
    tokenizer.chat_template = WITH_DEFAULT + gguf_files.TEMPLATE
    text = modelfile(tokenizer, "m-Q8_0.gguf", [gguf_files.ENDOFTEXT, gguf_files.IM_END])
    lines = text.splitlines()
    assert lines[0] == "FROM ./m-Q8_0.gguf"
    assert lines[-2:] == ['PARAMETER stop "<|endoftext|>"', 'PARAMETER stop "<|im_end|>"']
    (template,) = re.findall(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    assert template.startswith("{{ if not .System }}<|im_start|>system\nBe brief.<|im_end|>\n{{ end }}{{ range")
    assert '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n{{' in template
    assert template.count("{{ end }}") == template.count("{{ if") + template.count("{{ range")


@pytest.mark.parametrize(
    "template",
    [
        gguf_files.TEMPLATE.replace("{{ message.content }}", "{{ message.content | upper }}"),
        gguf_files.TEMPLATE + "{{ strftime_now('%d') if strftime_now is defined }}",
        "{% for m in messages %}[INST] {{ m.content }} {% endfor %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_is_more_is_left_to_ollama(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    assert modelfile(tokenizer, "m.gguf").splitlines()[:2] == ["FROM ./m.gguf", NOTE.strip()]


def test_smollms_template_whose_turns_begin_with_the_begin_token() -> None:
    turns = turns_of(tokenizer_of(packaged_header()))
    assert turns and turns.begin == "" and turns.without_system.startswith("<|im_start|>system\nYou are a helpful AI")


def test_a_model_without_a_template_gets_none(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    assert modelfile(tokenizer, "m.gguf") == 'FROM ./m.gguf\nPARAMETER stop "<|im_end|>"\n'
