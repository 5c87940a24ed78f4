"""Full-text search over passages: SQLite's FTS5 finds the candidates, and what a programmer means by them orders these.

FTS5 ranks by BM25 and stems English words; it comes with Python, keeps its index in a file where it is large, and
several processes can read one. (`rank-bm25` was last released in 2022; `bm25s` wants every text in memory.) BM25 knows
nothing of code, so its score is multiplied by what `_worth` says of a candidate. What a query names exactly, as in
json.loads, comes first.

Measured with `python -m benchmarks.docs_ranking` on 99 questions of our own about Python and packages, where the right
one of 22,000 is among the first two: BM25 with more weight for the standard library 54 times, this 72 times; on the 49
that the figures below were not fitted to, 30 and 40. (The same hand wrote both halves, and saw the misses of this one.)
"""

import builtins
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from app.prompting.passages import STOP_WORDS

Entry = tuple[str, str, str, str]
"""Source, name, text and address of a passage."""
_SCHEMA = """
CREATE TABLE entries (source TEXT, name TEXT, text TEXT, url TEXT, name_words TEXT, summary TEXT);
CREATE INDEX entries_name ON entries (name COLLATE NOCASE);
CREATE VIRTUAL TABLE words USING fts5(name_words, summary, text, content='entries', tokenize='porter unicode61');
"""
_WEIGHTS = "6.0, 2.5, 1.0"
"""Weights of a word in the name, in the first paragraph, and in the text."""
_CANDIDATES = 100
_EVERYDAY = frozenset(
    """
    abc argparse array ast asyncio base64 bisect builtins calendar collections concurrent configparser contextlib copy
    csv dataclasses datetime decimal difflib enum fileinput fnmatch fractions functools getpass glob gzip hashlib heapq
    hmac html http inspect io itertools json logging math multiprocessing operator os pathlib pickle platform pprint
    queue random re secrets shutil signal socket sqlite3 statistics string struct subprocess sys tempfile textwrap
    threading time timeit tomllib traceback types typing unittest urllib uuid warnings weakref xml zipfile zoneinfo
    """.split()
)
"""Modules of the standard library that most questions are about; the others have many passages too."""
_BUILTINS = frozenset(dir(builtins))
_ALSO = {
    "regex": "re", "regexp": "re", "dictionary": "dict", "dictionaries": "dict", "directory": "dir", "folder": "dir",
    "async": "asyncio", "environment": "environ", "string": "str", "strings": "str", "delete": "remove",
    "integer": "int",
}  # fmt: skip
"""What names of code say for a word of prose."""
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_MAX_WORDS = 32
_LEAST_STEM = 4


def fill(database: sqlite3.Connection, entries: Iterable[Entry]) -> int:
    """Make the index in an empty database; how many entries it has."""
    database.executescript(_SCHEMA)
    rows = ((*entry, " ".join(_name_words(entry[1])), _summary(entry[2])) for entry in entries)
    database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.execute("INSERT INTO words (words) VALUES ('rebuild')")
    database.commit()
    (count,) = database.execute("SELECT COUNT(*) FROM entries").fetchone()
    return count


def ranked(database: sqlite3.Connection, query: str, *, top: int, source: str = "") -> list[Entry]:
    """The entries that fit best, best first; none where no word of the query is in any. source: only its entries."""
    found: dict[int, Entry] = {}
    for rowid, *entry in (*_named(database, query, top, source), *_matching(database, query, top, source)):
        found.setdefault(rowid, (entry[0], entry[1], entry[2], entry[3]))
    return list(found.values())[:top]


def best(entries: Sequence[Entry], query: str, *, top: int) -> list[Entry]:
    """The same over entries in memory."""
    database = sqlite3.connect(":memory:")
    try:
        fill(database, entries)
        return ranked(database, query, top=top)
    finally:
        database.close()


def names_in(query: str) -> list[str]:
    """Words of the query that may be names of code: dotted ones first, the longest before others."""
    names = dict.fromkeys(match[0] for match in _NAME.finditer(query))
    return sorted(names, key=lambda name: (-name.count("."), -len(name)))


def words_in(query: str) -> list[str]:
    """Its words in lower case, each once, without those that tell nothing ("the", "how")."""
    return list(dict.fromkeys(word for word in _WORD.findall(query.lower()) if word not in STOP_WORDS))


def _named(database: sqlite3.Connection, query: str, top: int, source: str) -> list[tuple[int, str, str, str, str]]:
    """Entries whose name the query holds as a whole. A name without a dot counts only where it can't be an ordinary
    word, or is the whole query."""
    whole = query.strip()
    names = [name for name in names_in(query) if "." in name or "_" in name or f"{name}(" in query or name == whole]
    found = []
    for name in names[:_MAX_WORDS]:
        found += database.execute(
            "SELECT rowid, source, name, text, url FROM entries WHERE name = ? COLLATE NOCASE AND (? IN ('', source)) "
            "ORDER BY rowid LIMIT ?",
            (name, source, top),
        ).fetchall()
    return found


def _matching(database: sqlite3.Connection, query: str, top: int, source: str) -> list[tuple[int, str, str, str, str]]:
    asked = words_in(query)[:_MAX_WORDS]
    if not asked:
        return []
    # Words hold letters and digits alone, and are quoted besides: nothing of a query is read as FTS5's own syntax.
    terms = dict.fromkeys((*asked, *(_ALSO[word] for word in asked if word in _ALSO)))
    candidates = database.execute(
        f"SELECT e.rowid, e.source, e.name, e.text, e.url, e.name_words, e.summary, -bm25(words, {_WEIGHTS}) AS score "
        "FROM words JOIN entries e ON e.rowid = words.rowid "
        "WHERE words MATCH ? AND (? IN ('', e.source)) ORDER BY score DESC LIMIT ?",
        (" OR ".join(f'"{word}"' for word in terms), source, _CANDIDATES),
    ).fetchall()
    forms = [{_stem(word), _stem(_ALSO.get(word, word))} for word in asked]
    candidates.sort(key=lambda row: -row[7] * _worth(row[1], row[2], f"{row[5]} {row[6]}", forms))
    return [row[:5] for row in candidates[:top]]


def _worth(source: str, name: str, described: str, forms: Sequence[set[str]]) -> float:
    """How much more an entry counts than its words say. forms: of each word of the query.

    More for what names and summarises more of the query, for a name that says little else, for builtins and everyday
    modules, and for a package that the query names; less for what lies deep in a package. The figures were chosen on
    half of the questions.
    """
    parts = name.split(".")
    of_query = set().union(*forms)
    held = {_stem(word) for word in _WORD.findall(described.lower())}
    of_name = {_stem(word) for word in _name_words(parts[-1])}
    worth = 1 + 0.3 * sum(not form.isdisjoint(held) for form in forms) / len(forms)
    worth *= 1 + 0.5 * len(of_name & of_query) / max(len(of_name), 1)
    worth *= 1 - 0.1 * min(len(parts) - 1, 5)
    if source == "python":
        return worth * 1.35 * (1.35 if parts[0] in _EVERYDAY or parts[0] in _BUILTINS else 1.0)
    return worth * (1.5 if _stem(parts[0].lower()) in of_query else 1.0)


def _name_words(name: str) -> Iterator[str]:
    """In lower case, compound ones with their parts: ThreadPoolExecutor is thread, pool and executor as well."""
    for part in re.split(r"[._\W]+", name):
        yield part.lower()
        if len(parts := _CAMEL.findall(part)) > 1:
            yield from map(str.lower, parts)


def _summary(text: str) -> str:
    """The first paragraph below the line that names the entry."""
    return text.partition("\n")[2].strip().partition("\n\n")[0][:300]


def _stem(word: str) -> str:
    """Without the usual endings: only words of one query and one entry are compared."""
    for ending in ("ies", "ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM - 1:
            return word.removesuffix(ending)
    return word
