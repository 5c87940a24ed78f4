"""A Modelfile, by which Ollama takes a GGUF: its template in Go's language, and where an answer stops.

Ollama knows the chat templates inside of GGUFs by their text only, those of known models, so the template is written
out: what the model's own puts before and after the turn of each role, found by rendering dialogues. Only a template
that is nothing more than that is written; any other has to be one that Ollama knows. Limits: thinking is off, as
adapters are trained; tools are left to clients that tell of them in a system turn.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import UserError
from app.prompting.protocols import Message, begin_text, chat_prompt
from app.prompting.turn_ends import stop_ids, turn_end

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
PROBES: tuple[tuple[str, ...], ...] = (
    (USER,),
    (SYSTEM, USER),
    (USER, ASSISTANT, USER),
    (SYSTEM, USER, ASSISTANT, USER, ASSISTANT, USER),
)
"""Dialogues whose rendering the found parts have to give."""
NOTE = "# Without a TEMPLATE Ollama has to know the chat template in the GGUF, which is more than words around turns.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """What a chat template puts around what is said. Made by `turns_of`."""

    around: Mapping[str, tuple[str, str]]
    """By role, before and after the words."""
    opening: str
    """Before the answer."""
    begin: str
    """Before everything: the token that a text begins with, or nothing."""
    without_system: str
    """Before the first turn of a dialogue without a system's words."""

    def rendered(self, turns: Sequence[Message]) -> str:
        said = (self.around[turn["role"]][0] + turn["content"] + self.around[turn["role"]][1] for turn in turns)
        first = "" if turns[0]["role"] == SYSTEM else self.without_system
        return self.begin + first + "".join(said) + self.opening

    def as_go(self, *, with_begin: bool) -> str:
        """In the language of Go's text/template, with Ollama's names. An answer that is last is one to go on with."""
        parts = {role: f"{before}{{{{ .Content }}}}" for role, (before, _) in self.around.items()}
        after = {role: after for role, (_, after) in self.around.items()}
        return (
            (self.begin if with_begin else "")
            + (f"{{{{ if not .System }}}}{self.without_system}{{{{ end }}}}" if self.without_system else "")
            + "{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            + f'{{{{ if eq .Role "system" }}}}{parts[SYSTEM]}{after[SYSTEM]}'
            + f'{{{{ else if eq .Role "user" }}}}{parts[USER]}{after[USER]}'
            + f'{{{{ else if eq .Role "assistant" }}}}{parts[ASSISTANT]}'
            + f"{{{{ if not $last }}}}{after[ASSISTANT]}{{{{ end }}}}{{{{ end }}}}"
            + f'{{{{ if and $last (ne .Role "assistant") }}}}{self.opening}{{{{ end }}}}{{{{ end }}}}'
        )


def modelfile(tokenizer: Any, gguf: str, *configured: int | list[int] | None) -> str:
    """The file's text. gguf: the file beside it. configured: end tokens, as a config's eos_token_id has them."""
    text = f"FROM ./{gguf}\n"
    if tokenizer.chat_template:
        turns = turns_of(tokenizer)
        # Ollama lets a text begin as the GGUF says (add_bos_token).
        text += f'TEMPLATE """{turns.as_go(with_begin=not begin_text(tokenizer))}"""\n' if turns else NOTE
    for token in sorted(stop_ids(tokenizer, *configured)):
        text += f"PARAMETER stop {json.dumps(tokenizer.convert_ids_to_tokens(token), ensure_ascii=False)}\n"
    return text


def turns_of(tokenizer: Any) -> Turns | None:
    """None for a template that does more than put words around turns."""
    template = json.dumps(tokenizer.chat_template)
    texts = {roles: _probe(tokenizer, roles) for roles in PROBES}
    if not all(texts.values()) or "strftime_now" in template:  # today's date
        return None
    found = _parts(texts, turn_end(tokenizer), tokenizer.bos_token or "")
    if found is None or not all(found.rendered(_turns(roles)) == text for roles, text in texts.items()):
        return None
    literals = [found.opening, found.begin, found.without_system, *(x for pair in found.around.values() for x in pair)]
    return found if not any("{{" in text or '"""' in text for text in literals) else None


def _turns(roles: Sequence[str]) -> list[Message]:
    """Each turn with words of its own."""
    return [{"role": role, "content": f"Pocketcoder, {role} {number}."} for number, role in enumerate(roles)]


def _probe(tokenizer: Any, roles: Sequence[str]) -> str:
    """The rendered dialogue; empty where the template refuses it."""
    try:
        return chat_prompt(tokenizer, _turns(roles))
    except UserError:
        return ""


def _parts(texts: Mapping[tuple[str, ...], str], end: str, bos: str) -> Turns | None:
    """The parts out of the dialogue with two of each turn; `end` is the token that ends a turn."""
    if not end:
        return None
    between = _between(texts[PROBES[-1]], PROBES[-1])
    first = _between(texts[(USER,)], (USER,))
    cuts = [re.match(rf"(.*?{re.escape(end)}\s*)(.*)", text, re.DOTALL) for text in between[1:]]
    if not between or not first or not all(cuts):
        return None
    (after_system, to_user), (after_user, to_answer), (after_answer, _) = [cut.groups() for cut in cuts[:3] if cut]
    begin = bos if bos and between[0].startswith(bos) and not to_user.startswith(bos) else ""  # SmolLM's begins turns
    return Turns(
        around={
            SYSTEM: (between[0].removeprefix(begin), after_system),
            USER: (to_user, after_user),
            ASSISTANT: (to_answer, after_answer),
        },
        opening=between[-1].removeprefix(after_user),
        begin=begin,
        without_system=first[0].removeprefix(begin).removesuffix(to_user),
    )


def _between(text: str, roles: Sequence[str]) -> list[str]:
    """What stands before, between and behind the turns' words; empty where some are missing."""
    found = []
    for turn in _turns(roles):
        before, words, text = text.partition(turn["content"])
        if not words:
            return []
        found.append(before)
    return [*found, text]
