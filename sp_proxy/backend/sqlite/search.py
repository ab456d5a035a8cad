"""The text index: which segment a document goes to, and what a search asks of one.

A segment is an FTS5 table without content and without positions (``detail=none``): it answers which documents have a
word, at half the size and 30 µs a document of 1.8 kB less than one with positions. Words are those of
``query.syntax.words``. A document of a span that is gone stays until its segment is dropped: who searches joins.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec import Struct

from sp_proxy.backend.query.syntax import Word

MAX_DOCUMENTS = 1 << 15
"""In a segment: sorting all of one by time takes 50 ms, a search of a rare word in 30 of them 3 ms."""
SHARE = 32
"""A segment holds at most this part of what the database may hold, so that dropping the oldest makes room in steps."""
OPEN = 2**63 - 1
"""The last span of a segment that is still filled."""


class Segment(Struct, frozen=True):
    """One piece of the index."""

    id: int
    first_span: int
    last_span: int
    min_start_unix_ns: int
    max_start_unix_ns: int

    @property
    def table(self) -> str:
        """Its FTS5 table."""
        return table_of(self.id)


class Document(Struct, frozen=True, gc=False):
    """What is to be found of one exchange."""

    span: int
    start_unix_ns: int
    text: str


def table_of(segment: int) -> str:
    """The table's name, which is a number's: safe in a statement."""
    return f"search_{segment:d}"


def add(connection: sqlite3.Connection, documents: Sequence[Document], *, max_characters: int) -> None:
    """Index documents, in order of their spans, which are newer than all before. Called inside a transaction."""
    place = 0
    while place < len(documents):
        segment, room, characters = _open_segment(connection, documents[place].span, max_characters)
        chunk = documents[place : place + room]
        connection.executemany(
            f"INSERT INTO {table_of(segment)} (rowid, text) VALUES (?, ?)",  # noqa: S608  # a number
            [(document.span, document.text) for document in chunk],
        )
        connection.execute(
            "UPDATE segments SET documents = documents + ?, characters = ?, min_start_unix_ns = min(min_start_unix_ns, ?),"
            " max_start_unix_ns = max(max_start_unix_ns, ?) WHERE id = ?",
            (
                len(chunk),
                characters + sum(len(document.text) for document in chunk),
                min(document.start_unix_ns for document in chunk),
                max(document.start_unix_ns for document in chunk),
                segment,
            ),
        )
        place += len(chunk)


def _open_segment(connection: sqlite3.Connection, span: int, max_characters: int) -> tuple[int, int, int]:
    """The segment for a span, how many documents it has room for, and how many characters it has."""
    row = connection.execute("SELECT id, documents, characters FROM segments ORDER BY id DESC LIMIT 1").fetchone()
    if row is not None and row[1] < MAX_DOCUMENTS and row[2] < max_characters:
        return row[0], MAX_DOCUMENTS - row[1], row[2]
    if row is not None:
        connection.execute("UPDATE segments SET last_span = ? WHERE id = ?", (span - 1, row[0]))
    segment = connection.execute("INSERT INTO segments (first_span, last_span) VALUES (?, ?)", (span, OPEN)).lastrowid
    assert segment is not None
    name = table_of(segment)
    connection.execute(
        f"CREATE VIRTUAL TABLE {name} USING fts5 (text, content='', columnsize=0, detail=none, tokenize='ascii')"
    )
    # Larger pieces, merged less often: 31 µs a document instead of 48 (benchmarks/backend_store.py).
    for option, value in (("hashsize", 16 << 20), ("automerge", 16)):
        connection.execute(f"INSERT INTO {name} ({name}, rank) VALUES (?, ?)", (option, value))  # noqa: S608
    return segment, MAX_DOCUMENTS, 0


def drop_until(connection: sqlite3.Connection, span: int) -> None:
    """Drop the segments of which no span is left: those up to ``span`` are gone. Called inside a transaction."""
    for (segment,) in connection.execute("SELECT id FROM segments WHERE last_span <= ?", (span,)).fetchall():
        connection.execute(f"DROP TABLE {table_of(segment)}")
        connection.execute("DELETE FROM segments WHERE id = ?", (segment,))


def covering(connection: sqlite3.Connection, spans: Sequence[int]) -> list[Segment]:
    """Those that these spans belong to."""
    if not spans:
        return []
    rows = connection.execute(
        "SELECT id, first_span, last_span, min_start_unix_ns, max_start_unix_ns FROM segments"
        " WHERE last_span >= ? AND first_span <= ?",
        (min(spans), max(spans)),
    )
    return [Segment(*row) for row in rows]


def segments(connection: sqlite3.Connection, since_unix_ns: int, until_unix_ns: int) -> list[Segment]:
    """Those with documents of a time, ends included, in the order of their last ones, newest first."""
    rows = connection.execute(
        "SELECT id, first_span, last_span, min_start_unix_ns, max_start_unix_ns FROM segments"
        " WHERE max_start_unix_ns >= ? AND min_start_unix_ns <= ? ORDER BY max_start_unix_ns DESC, id DESC",
        (since_unix_ns, until_unix_ns),
    )
    return [Segment(*row) for row in rows]


def expression(words: Iterable[Word]) -> str:
    """What FTS5 is asked: all the words. They have letters and digits only, so a quoted one is a word and nothing more."""
    return " ".join(f'"{word.text}"{"*" if word.prefix else ""}' for word in words)
