"""Full-text search over passages: SQLite's FTS5, which ranks by BM25 and stems English words.

It comes with Python, keeps its index in a file where it is large, and several processes can read one. (`rank-bm25` was
last released in 2022; `bm25s` wants every text in memory.) What a query names exactly, as in json.loads, comes first.
"""

import re
import sqlite3
from collections.abc import Iterable, Sequence

from app.prompting.passages import STOP_WORDS

Entry = tuple[str, str, str, str]
"""Source, name, text and address of a passage."""
_SCHEMA = """
CREATE TABLE entries (source TEXT, name TEXT, text TEXT, url TEXT);
CREATE INDEX entries_name ON entries (name COLLATE NOCASE);
CREATE VIRTUAL TABLE words USING fts5(name, text, content='entries', tokenize='porter unicode61');
"""
_WEIGHTS = "8.0, 1.0"
"""Of a word in the name, and in the text."""
_MEANT = 1.5
"""How much more a passage of the standard library counts, and of a package that the query names. Chosen on thirty
questions of our own, where the right one of 22,000 is among the first two 16 times with it and 13 times without; what
it gains on others was not measured."""
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_WORD = re.compile(r"[^\W_]+")
_MAX_WORDS = 32


def fill(database: sqlite3.Connection, entries: Iterable[Entry]) -> int:
    """Make the index in an empty database; how many entries it has."""
    database.executescript(_SCHEMA)
    database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", entries)
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
    """Entries whose whole name the query holds. A name without a dot counts only where it is no ordinary word."""
    names = [name for name in names_in(query) if "." in name or "_" in name or f"{name}(" in query]
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
    return database.execute(
        f"SELECT e.rowid, e.source, e.name, e.text, e.url FROM words JOIN entries e ON e.rowid = words.rowid "
        f"WHERE words MATCH ? AND (? IN ('', e.source)) ORDER BY bm25(words, {_WEIGHTS}) * "
        f"CASE WHEN e.source = 'python' OR instr(?, ' ' || substr(e.name, 1, instr(e.name || '.', '.') - 1) || ' ') "
        f"THEN {_MEANT} ELSE 1.0 END LIMIT ?",
        (" OR ".join(f'"{word}"' for word in asked), source, f" {' '.join(asked)} ", top),
    ).fetchall()
