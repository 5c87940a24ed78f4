"""Documentation search as a tool: is it called when it should be, with a useful query, and is the answer grounded.

Problems of ours (`datasets/benchmarks/search_docs.yaml`, MIT), over libraries that are invented, so that no answer is
known beforehand. An episode has several turns: the model searches, gets two passages a search, searches again or
answers, with five searches at most. Verdicts name the rule that failed. An episode ends at its first broken call.
Limits: grounded means that the answer holds an accepted spelling of the fact and no planted wrong value, and that
nothing was found is recognised by the usual English phrases.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.evaluation.suites.search_items import ITEMS_PATH, Item, read_items
from app.evaluation.suites.suite import Suite, structural_verdict
from app.problem_sets.task import Task
from app.prompting.passages import Passage, search
from app.prompting.protocols import Message
from app.prompting.tool_calls import Call, MalformedCallError, call_text, parse_calls
from app.prompting.tool_prompts import STOP, calls_prompt
from app.prompting.tool_schema import MAX_QUERY, SEARCH_DOCS_TOOL, SOURCES, SYSTEM, results_text
from app.records import Problem, ProblemStyle, Status, Verdict

MAX_SEARCHES = 5

WRONG_TOOL = "wrong function"
WRONG_SCHEMA = "wrong schema"
TOO_MANY = "too many searches"
DID_NOT_SEARCH = "did not search"
NEEDLESS = "searched although nothing needed it"
USELESS = "useless query"
WRONG_SOURCE = "wrong source"
NO_ANSWER = "no answer"
UNGROUNDED = "ungrounded answer"
WRONG_ANSWER = "wrong answer"
INVENTED = "invented answer"
NOT_SAID = "did not say that nothing was found"
_NOT_FOUND = re.compile(
    r"\b(?:could|can|did|do|does|was|were|is|are|has|have)(?:n't| not|not) (?:\w+ ){0,3}?(?:find|found|say|mention|"
    r"document|specif|describe|contain|list|state|include|cover|give|given|provide|appear|available|know|record|able)"
    r"|\bno (?:\S+ ){0,5}?(?:results?|information|mention|documentation|entry|answer|match|matches|page|passages?|"
    r"references?|details?|documented|found|mentioned|listed)\b"
    r"|\b(?:found|know|says?|there is|there was) nothing\b"
    r"|\bnothing (?:\S+ ){0,3}?(?:found|about|on|in|mentions|says)\b"
    r"|\bnot (?:\w+ ){0,2}?(?:found|documented|mentioned|specified|stated|available|listed|covered|described|given|"
    r"recorded|known)\b"
    r"|\bun(?:able to (?:find|locate|determine)|documented|specified|known)\b"
    r"|\bcannot (?:find|say|tell)\b"
)


@dataclass(slots=True)
class Episode:
    """What has happened on a problem so far."""

    searches: list[tuple[dict[str, str], list[Passage]]] = field(default_factory=list)
    """The arguments of each search and what it brought up."""
    results: list[list[str]] = field(default_factory=list)
    """The results as text, of each of the model's turns."""
    fault: tuple[Status, str] | None = None
    answer: str | None = None
    """The last reply, which calls nothing."""

    @property
    def is_over(self) -> bool:
        return self.fault is not None or self.answer is not None


class SearchDocs(Suite):
    """When and how the model searches the documentation, and what it makes of it."""

    name = "search_docs"
    place = "datasets/benchmarks/search_docs.yaml in this repository (MIT)"
    stop = STOP

    def load(self, path: Path | None) -> list[Task]:
        file = read_items(path or ITEMS_PATH)
        background = [passage.model_dump() for passage in file.background]
        return [_task(item, background) for item in file.items]

    def chat(self, problem: Problem, replies: Sequence[str]) -> list[Message] | None:
        episode = play(problem, replies)
        if episode.is_over:
            return None
        messages: list[Message] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": problem.prompt}]
        for reply, results in zip(replies, episode.results, strict=True):
            messages.append({"role": "assistant", "content": reply})
            messages += [{"role": "tool", "content": text} for text in results]
        return messages

    def completion(self, problem: Problem, replies: Sequence[str]) -> str | None:
        episode = play(problem, replies)
        if episode.is_over:
            return None
        begun = "".join(
            f"Calls: {_one_line(reply)}\nResults: {' '.join(results)}\n"
            for reply, results in zip(replies, episode.results, strict=True)
        )
        turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": problem.prompt}]
        return calls_prompt([SEARCH_DOCS_TOOL], turns, begun=begun)

    def verdict(self, problem: Problem, protocol: str, replies: Sequence[str]) -> Verdict:
        episode = play(problem, replies)
        item, _ = _tests(problem)
        if item.category == "no_search" and episode.searches:
            fault: tuple[Status, str] | None = (Status.WRONG_ANSWER, f"{NEEDLESS}: {episode.searches[0][0]!r}")
        else:
            fault = episode.fault
        if fault is None and (text := _fault(item, episode, protocol)):
            fault = Status.WRONG_ANSWER, text
        return structural_verdict(problem, *(fault or (Status.PASSED, "")))


def reference_replies(problem: Problem) -> list[str]:
    """The replies of a right episode."""
    item, _ = _tests(problem)
    calls = [Call(name="search_docs", arguments=query.model_dump(exclude_none=True)) for query in item.queries]
    return [*(call_text([call]) for call in calls), item.answer]


def play(problem: Problem, replies: Sequence[str]) -> Episode:
    """The episode of these replies, up to where it ends."""
    item, background = _tests(problem)
    passages = [*item.passages.values(), *background]
    episode = Episode()
    for reply in replies:
        try:
            calls = parse_calls(reply)
        except MalformedCallError as error:
            episode.fault = Status.PROTOCOL, str(error)
            return episode
        if not calls:
            episode.answer = reply
            return episode
        texts = []
        for call in calls:
            fault = schema_fault(call)
            if fault is None and len(episode.searches) == MAX_SEARCHES:
                fault = f"{TOO_MANY}: more than {MAX_SEARCHES}"
            if fault:
                episode.fault = Status.WRONG_ANSWER, fault
                return episode
            found = search(passages, call.arguments["query"], call.arguments.get("source"))
            episode.searches.append((call.arguments, found))
            texts.append(results_text((passage.source, passage.text) for passage in found))
        episode.results.append(texts)
    return episode


def schema_fault(call: Call) -> str | None:
    """What is wrong with a call of the tool, by its schema."""
    if call.name != "search_docs":
        return f"{WRONG_TOOL}: {call.name[:80]!r}"
    extra = sorted(set(call.arguments) - {"query", "source"})
    if extra:
        return f"{WRONG_SCHEMA}: there is no argument {extra[0][:80]!r}"
    query = call.arguments.get("query")
    if type(query) is not str or not 1 <= len(query) <= MAX_QUERY:
        return f"{WRONG_SCHEMA}: query is {repr(query)[:80]}, expected a text of 1 to {MAX_QUERY} characters"
    source = call.arguments.get("source", SOURCES[0])
    if source not in SOURCES:
        return f"{WRONG_SCHEMA}: source is {repr(source)[:80]}, expected one of {', '.join(SOURCES)}"
    return None


def _fault(item: Item, episode: Episode, protocol: str) -> str | None:
    """The rule that an episode without a broken call breaks."""
    if item.category != "no_search":
        if not episode.searches:
            return DID_NOT_SEARCH
        found = [passage for _, passages in episode.searches for passage in passages]
        for key in item.needed:
            if item.passages[key] not in found:
                return f"{USELESS}: none brought up {item.passages[key].text[:60]!r}"
        asked = " ".join(arguments["query"] for arguments, _ in episode.searches).lower()
        if item.query_words and not any(_holds(asked, word) for word in item.query_words):
            return f"{USELESS}: none asks for {', '.join(item.query_words)}"
        if item.source and not any(arguments.get("source") == item.source for arguments, _ in episode.searches):
            return f"{WRONG_SOURCE}: expected {item.source}"
    answer = _plain(_final(episode.answer or "", protocol))
    if not answer:
        return NO_ANSWER
    return _fault_of_answer(item, answer)


def _fault_of_answer(item: Item, answer: str) -> str | None:
    wrong = next((value for value in item.wrong if _holds(answer, value)), None)
    if item.category == "nothing_found":
        if wrong:
            return f"{INVENTED}: {wrong!r}"
        return None if _NOT_FOUND.search(answer) else NOT_SAID
    rule = WRONG_ANSWER if item.category == "no_search" else UNGROUNDED
    if wrong:
        return f"{rule}: it says {wrong!r}"
    if not any(_holds(answer, fact) for fact in item.facts):
        return f"{rule}: it does not say {item.facts[0]!r}"
    return None


def _final(reply: str, protocol: str) -> str:
    """The answer in the last reply; in the completion protocol it follows the empty list of calls."""
    if protocol != "completion":
        return reply
    return reply.partition("Answer:")[2] if "Answer:" in reply else reply.strip().removeprefix("[]")


def _plain(text: str) -> str:
    """Lower case, single spaces, no marks of Markdown."""
    return " ".join(re.sub(r"[*`]", "", text.replace("\u2019", "'")).lower().split())


def _holds(text: str, value: str) -> bool:
    """Whether the value is in the plain text as a word, or a number, of its own."""
    return bool(re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(_plain(value))}(?!\w)(?![.,]\d)", text))


def _one_line(reply: str) -> str:
    """The calls of a reply as the worked examples have them."""
    return json.dumps(
        [{"name": call.name, "arguments": call.arguments} for call in parse_calls(reply)], ensure_ascii=False
    )


def _tests(problem: Problem) -> tuple[Item, list[Passage]]:
    tests = json.loads(problem.tests)
    return Item.model_validate(tests["item"]), [Passage.model_validate(entry) for entry in tests["background"]]


def _task(item: Item, background: list[dict[str, Any]]) -> Task:
    problem = Problem(
        id=f"search_docs/{item.id}",
        source="search_docs",
        licence="MIT",
        prompt=item.question,
        entry_point="",
        tests=json.dumps({"item": item.model_dump(), "background": background}, ensure_ascii=False),
        style=ProblemStyle.CALLS,
        tools=json.dumps([SEARCH_DOCS_TOOL], ensure_ascii=False),
        difficulty=item.category,
    )
    return Task(problem=problem, canonical_solution="\n".join(reference_replies(problem)))
