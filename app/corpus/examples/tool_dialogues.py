"""Dialogues in which the documentation search is used, in the format that is served and measured.

A question about a documented function, a call of `search_docs`, the passages that it brings up, an answer out of them;
and the other cases: a source that was asked for, two searches, nothing found, nothing to search for. The words are in
datasets/tool_dialogues.yaml; the passages are made of docstrings and found by the search of the tool-use suite. Half of
the dialogues speak of invented libraries with other numbers, where only the passages tell the answer.

Limits: passages are one or two sentences; no dialogue makes two calls in one turn.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from app.corpus.draws import Draws
from app.corpus.examples.forms import Reject, drawn, without_docstring
from app.corpus.examples.quality import parsed
from app.corpus.examples.shown import unshown_reason
from app.corpus.examples.tool_facts import Described, Fact, described
from app.corpus.examples.tool_words import Words, load_words
from app.corpus.examples.words import fenced
from app.corpus.records import Document, Example
from app.prompting.passages import Passage, search
from app.prompting.protocols import Message
from app.prompting.tool_calls import Call, call_text
from app.prompting.tool_schema import MAX_QUERY, SEARCH_DOCS_TOOL, SOURCES, Source, results_text

CASES = ("found",) * 9 + ("source",) * 3 + ("two",) * 3 + ("unknown",) * 2 + ("missing",) * 2 + ("no_search",) * 3
"""Drawn with equal chances."""
NOT_FOUND = ("unknown", "missing")
"""Cases that say what a library's documentation has not: of an invented one, since the real one may have it."""
OTHERS = 5
"""Passages beside the one that answers."""


def tool_example(
    documents: Sequence[tuple[str, Document]],
    place: int,
    forms: Mapping[str, float],
    seed: int,
    reject: Reject = lambda form, why: None,
) -> Iterator[Example]:
    """The dialogue about the function at this place, if it is drawn for "tool_use" and says enough.

    documents: functions with the names of their distributions; those beside the place serve as further passages.
    """
    distribution, document = documents[place]
    if drawn(forms, "tool_use", document.text, seed):
        draws = Draws(f"{seed}:dialogue:{document.text}")
        near = [documents[(place + step) % len(documents)] for step in (1, -1, 2, -2, 3, 7, 11)]
        others = [pair for pair in near if pair[1].name != document.name]
        maker = _Maker(draws, load_words())
        if example := maker.example(distribution, document, others):
            yield example
        elif maker.reason:
            reject("tool_use", maker.reason)


@dataclass(slots=True)
class _Turn:
    """One search: what it asked and what it brought up."""

    query: str
    source: str | None
    found: list[Passage]


class _Maker:
    """The maker of one dialogue; every choice comes out of its draws."""

    def __init__(self, draws: Draws, words: Words) -> None:
        self._draws = draws
        self._words = words
        self.reason = ""
        """Why there is no example, where a rule of the forms says so."""

    def example(self, distribution: str, document: Document, others: Sequence[tuple[str, Document]]) -> Example | None:
        case = self._draws.one_of(CASES)
        is_invented = bool(self._draws.below(2)) or case in NOT_FOUND
        library = self._invented() if is_invented else distribution
        made = described(document, self._draws, is_altered=is_invented)
        if made is None:
            return None
        if case == "no_search":
            return self._no_search(made, document)
        source = self._source(distribution, is_invented)
        beside = [
            (library if is_invented else owner, d)
            for owner, other in others
            if (d := described(other, self._draws, is_altered=is_invented))
        ]
        beside = [pair for pair in {d.name: (owner, d) for owner, d in beside}.values() if pair[1].name != made.name]
        around = self._around(library, source, beside, is_invented)
        if case == "two" and beside and beside[0][0] == library:
            return self._two(library, source, made, beside[0][1], around[1:])
        if case == "unknown":
            return self._unknown(library, source, made, around)
        if case == "missing":
            return self._missing(library, source, made, around)
        return self._found(library, source, made, around, is_named=case == "source")

    def _found(
        self, library: str, source: str, made: Described, around: list[Passage], *, is_named: bool
    ) -> Example | None:
        fact = self._fact(made)
        values = {"lib": library, "name": made.name} | fact.values
        target = _passage(library, source, made, fact)
        question = self._draws.one_of(self._words.asked[fact.kind].questions).format(**values)
        asked_source = source if is_named or not self._draws.below(5) else None
        if is_named:
            start = self._draws.one_of(self._words.according[cast(Source, source)])
            question = f"{start} {_lowered(question, library, made.name)}"
            elsewhere = self._draws.one_of([other for other in SOURCES if other != source])
            around = [p.model_copy(update={"source": elsewhere}) for p in around]
        turn = self._search(fact, values, asked_source, [target, *around], target)
        return self._dialogue(question, [turn], self._answer(fact, values)) if turn else None

    def _two(
        self, library: str, source: str, one: Described, other: Described, around: list[Passage]
    ) -> Example | None:
        """A question about two functions; one search where that brings up both."""
        facts = [self._fact(made) for made in (one, other)]
        pairs = list(zip((one, other), facts, strict=True))
        values = [{"lib": library, "name": made.name} | fact.values for made, fact in pairs]
        targets = [_passage(library, source, made, fact) for made, fact in pairs]
        questions = [
            self._draws.one_of(self._words.asked[fact.kind].questions).format(**v)
            for fact, v in zip(facts, values, strict=True)
        ]
        turns: list[_Turn] = []
        for fact, v, target in zip(facts, values, targets, strict=True):
            if any(target in turn.found for turn in turns):
                continue
            turn = self._search(fact, v, None, [*targets, *around], target)
            if turn is None:
                return None
            turns.append(turn)
        answer = " ".join(_sentence(self._answer(fact, v)) for fact, v in zip(facts, values, strict=True))
        question = f"{questions[0]} And {_lowered(questions[1], library, other.name)}"
        return self._dialogue(question, turns, answer)

    def _unknown(self, library: str, source: str, made: Described, around: list[Passage]) -> Example:
        """A question about something that the passages found do not say."""
        asked = self._draws.one_of(self._words.unknown.questions)
        values = {"lib": library, "name": made.name, "fact": asked.fact}
        pool = [_passage(library, source, made, None), *around]
        turns = [self._turn(asked.query.format(**values), None, pool)]
        answer = self._draws.one_of(self._words.unknown.answers).format(**values)
        return self._dialogue(asked.question.format(**values), turns, answer)

    def _missing(self, library: str, source: str, made: Described, around: list[Passage]) -> Example:
        """A question about a function of which no passage tells; now and then it is searched for twice."""
        fact = self._fact(made, but="which")
        values = {"lib": library, "name": made.name} | fact.values
        asked = self._words.asked[fact.kind]
        pool = around if self._draws.below(2) else []
        first, second = self._draws.shuffled(asked.queries)[:2]
        turns = [self._turn(first.format(**values), None, pool)]
        if not self._draws.below(3):
            turns.append(self._turn(second.format(**values), source, pool))
        answer = self._draws.one_of(self._words.unknown.missing).format(**values)
        return self._dialogue(self._draws.one_of(asked.questions).format(**values), turns, answer, "retry")

    def _no_search(self, made: Described, document: Document) -> Example | None:
        words = self._words.no_search
        if self._draws.below(2):
            if "```" in document.text or document.text.count("\n") > 40:
                return None
            function = parsed(document.text)
            assert function is not None  # else there were nothing described
            code = without_docstring(document.text, function)
            if reason := unshown_reason(made.summary, code):
                self.reason = reason
                return None
            question = f"{self._draws.one_of(words.explain)}\n{fenced(code)}"
            return self._dialogue(question, [], made.summary)
        fixed = self._draws.one_of(words.fixed)
        return self._dialogue(fixed.question, [], fixed.answer)

    def _fact(self, made: Described, but: str = "") -> Fact:
        """A fact whose kind is drawn first; what only the documentation can tell is drawn more often."""
        kinds = sorted({fact.kind for fact in made.facts} - {but})
        kind = self._draws.one_of([kind for kind in kinds for _ in range(1 if kind in ("summary", "which") else 3)])
        return self._draws.one_of([fact for fact in made.facts if fact.kind == kind])

    def _search(
        self, fact: Fact, values: dict[str, str], source: str | None, pool: list[Passage], target: Passage
    ) -> _Turn | None:
        """The first of the drawn queries that brings the target up."""
        for query in self._draws.shuffled(self._words.asked[fact.kind].queries):
            turn = self._turn(query.format(**values), source, pool)
            if target in turn.found:
                return turn
        return None

    def _turn(self, query: str, source: str | None, pool: list[Passage]) -> _Turn:
        query = " ".join(query.replace("`", "").split())[:MAX_QUERY]
        shuffled = self._draws.shuffled(pool)
        return _Turn(query=query, source=source, found=search(shuffled, query, source))

    def _answer(self, fact: Fact, values: dict[str, str]) -> str:
        return self._draws.one_of(self._words.asked[fact.kind].answers).format(**values)

    def _dialogue(
        self, question: str, turns: list[_Turn], answer: str, again: Literal["second", "retry"] = "second"
    ) -> Example:
        """The dialogue of these turns. again: why there is a second search."""
        systems = [system.text for system in self._words.systems for _ in range(system.weight)]
        system = self._draws.one_of(systems)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": question})
        for number, turn in enumerate(turns):
            arguments = {"query": turn.query} | ({"source": turn.source} if turn.source else {})
            call = call_text([Call(name="search_docs", arguments=arguments)])
            before = self._draws.one_of(self._words.again[again]) if number else ""
            messages.append({"role": "assistant", "content": f"{before}\n{call}".lstrip("\n")})
            text = results_text((passage.source, passage.text) for passage in turn.found)
            messages.append({"role": "tool", "content": text})
        messages.append({"role": "assistant", "content": answer})
        return Example(form="tool_use", turns=tuple(messages), tools=(SEARCH_DOCS_TOOL,))

    def _invented(self) -> str:
        parts = self._words.libraries
        middle = self._draws.one_of(parts.middle) if self._draws.below(3) else ""
        return self._draws.one_of(parts.begin) + middle + self._draws.one_of(parts.end)

    def _source(self, distribution: str, is_invented: bool) -> str:
        if is_invented:
            return self._draws.one_of(("readthedocs", *SOURCES))
        return {"python": "python", "fastapi": "fastapi", "starlette": "fastapi"}.get(distribution, "readthedocs")

    def _around(
        self, library: str, source: str, beside: Iterable[tuple[str, Described]], is_invented: bool
    ) -> list[Passage]:
        """Passages about other functions: real ones of their own library, others of the invented one and of another."""
        around = []
        for owner, made in beside:
            if is_invented and not self._draws.below(4):
                owner = self._invented()
            fact = self._draws.one_of(made.facts) if self._draws.below(2) else None
            around.append(_passage(owner, source, made, fact))
        return around[:OTHERS]


def _passage(library: str, source: str, made: Described, fact: Fact | None) -> Passage:
    said = f" {fact.said}" if fact and fact.said else ""
    return Passage(source=cast(Source, source), text=f"{library} {made.signature}: {_sentence(made.summary)}{said}")


def _lowered(question: str, library: str, name: str) -> str:
    """The question as the rest of a sentence."""
    word = question.split(" ", 1)[0].strip("`:")
    if word == "I" or word.startswith(("I'", library, name)):
        return question
    return question[:1].lower() + question[1:]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "`.")) else f"{text}."
