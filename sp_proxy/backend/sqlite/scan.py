"""Pages of exchanges: newest first by (start time, row number), found in limited time whatever the query is.

Nothing is counted or sorted as a whole. The rows are walked along an index, in windows that grow; each window is asked
the rest of the query. When the time is over, the page is what was found, and its cursor is where the walk has come to.
A text search walks the segments of the text index instead: a rare word is looked up, a common one walked along.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from sp_proxy.backend.model import ExchangePage, ExchangeSummary
from sp_proxy.backend.query.syntax import Match, Query, Range, Span, Text, Trace, all_of, conjuncts, has_text
from sp_proxy.backend.sqlite import rows, search
from sp_proxy.backend.sqlite.condition import Condition, condition
from sp_proxy.backend.store import BadCursorError

BUDGET = 0.1
"""Seconds after which no further window is begun."""
FIRST_WINDOW = 1000
LAST_WINDOW = 16_000
"""Rows of a window; one takes about 2 µs."""
SEGMENT_WINDOW = 4000
"""Rows of the first window in a segment of the text index, where each window asks the index again."""
RARE = 2000
"""Documents with a word, up to which they are looked up one by one."""
MAX_INTEGER = 2**63 - 1

Key = tuple[int, int]
"""Start time and row number: where an exchange stands in the list."""
_END = (-1, -1)
_FOUND = f"SELECT e.id, {rows.SPAN}, {rows.EXCHANGE} FROM exchanges e"  # noqa: S608  # constants


def parse_cursor(text: str) -> Key:
    """A cursor as ``cursor_of`` made it. Raises BadCursorError."""
    first, dot, second = text.partition(".")
    numbers = [int(part) for part in (first, second) if part.isascii() and part.isdigit() and len(part) < 20]
    if not dot or len(numbers) != 2 or max(numbers) > MAX_INTEGER:
        raise BadCursorError("not a cursor of this store")
    return numbers[0], numbers[1]


def cursor_of(key: Key) -> str:
    """A cursor: what follows it stands behind this place."""
    return f"{key[0]}.{key[1]}"


class _Way(Struct, frozen=True):
    """An index to walk along, and the condition that it fulfils."""

    index: str
    sql: str
    values: tuple[Any, ...]


def exchanges(
    connection: sqlite3.Connection,
    query: Query,
    before: str,
    limit: int,
    *,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> ExchangePage:
    """A page, and where the next one begins. Called inside a transaction."""
    page = found(connection, query, before, limit, deadline=clock() + budget, clock=clock)
    return ExchangePage(exchanges=[one for _, one in page.exchanges], next=page.next)


class Found(Struct, frozen=True):
    """A page with the place of each exchange."""

    exchanges: list[tuple[Key, ExchangeSummary]]
    next: str


def found(
    connection: sqlite3.Connection,
    query: Query,
    before: str,
    limit: int,
    *,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """The same, with places. Called inside a transaction."""
    scan = _Scan(connection, query, parse_cursor(before) if before else (MAX_INTEGER, MAX_INTEGER), limit)
    if any(isinstance(part, Trace | Span) for part in conjuncts(query)):
        scan.look_up()
    elif has_text(query):
        scan.walk_segments(lambda: clock() > deadline)
    else:
        scan.walk(lambda: clock() > deadline)
    return scan.page()


class _Scan:
    def __init__(self, connection: sqlite3.Connection, query: Query, start: Key, limit: int) -> None:
        self._connection = connection
        self._query = query
        self._limit = limit
        self._since, self._until = _times(query)
        self._below = start
        """Everything from here on down is still to be looked at."""
        self._found: list[tuple[Any, ...]] = []
        self._unfinished = False

    def page(self) -> Found:
        """What was found, in order."""
        self._found.sort(key=_key, reverse=True)
        page = self._found[: self._limit]
        if len(self._found) > self._limit:
            more = cursor_of(_key(page[-1]))
        else:
            more = cursor_of(self._below) if self._unfinished else ""
        return Found(exchanges=[(_key(row), rows.summary(row[1:])) for row in page], next=more)

    def take(self, sql: str, values: list[Any], *, lowest: Key = _END, index: str = "") -> int:
        """Add the exchanges of which this holds, newest first, as many as the page may still need."""
        named = f"INDEXED BY {index}" if index else "NOT INDEXED"  # then the row numbers are what is looked up
        found = self._connection.execute(
            f"{_FOUND} {named} JOIN spans s ON s.id = e.id WHERE (e.start_unix_ns, e.id) < (?, ?)"
            f" AND (e.start_unix_ns, e.id) >= (?, ?) AND ({sql}) ORDER BY e.start_unix_ns DESC, e.id DESC LIMIT ?",
            (*self._below, *lowest, *values, self._limit + 1),
        ).fetchall()
        self._found += found
        return len(found)

    def look_up(self) -> None:
        """Look at the few exchanges of a trace, or of a span id."""
        named = all_of(*(part for part in conjuncts(self._query) if isinstance(part, Trace | Span)))
        sql, values = condition(named)
        if not has_text(self._query):
            self.take(*condition(self._query))
            return
        ids = [row[0] for row in self._connection.execute(f"SELECT e.id FROM exchanges e WHERE {sql}", values)]  # noqa: S608
        for segment in search.covering(self._connection, ids):
            inside = [number for number in ids if segment.first_span <= number <= segment.last_span]
            chosen: Condition = ("e.id IN (SELECT value FROM json_each(?))", [json.dumps(inside)])
            self.take(*_both(chosen, condition(self._query, segment.table)))

    def walk(self, late: Callable[[], bool]) -> None:
        """Look at window after window along the best index."""
        way = _way(self._query)
        sql, values = condition(self._query)
        size = FIRST_WINDOW
        if self._until < self._below[0]:
            self._below = (self._until + 1, 0)
        while True:
            end = self._window(way, self._below, self._since, size)
            lowest = end or (self._since, -1)
            self.take(f"{way.sql} AND ({sql})", [*way.values, *values], lowest=lowest, index=way.index)
            if end is None or len(self._found) > self._limit:
                return
            self._below = end
            if late():
                self._unfinished = True
                return
            size = min(2 * size, LAST_WINDOW)

    def walk_segments(self, late: Callable[[], bool]) -> None:
        """Look into segment after segment, until no later one can have anything newer than what was found."""
        segments = search.segments(self._connection, self._since, min(self._until, self._below[0]))
        for place, segment in enumerate(segments):
            rest = segments[place + 1].max_start_unix_ns if place + 1 < len(segments) else -1
            floor = self._look_into(segment, rest, late)
            self._found.sort(key=_key, reverse=True)
            if floor is None:
                if rest < 0 or (len(self._found) > self._limit and _key(self._found[self._limit])[0] > rest):
                    return
                floor = rest if late() and self._comes_on(rest) else None
            if floor is not None:
                # What is newer is complete; the rest is the next page's.
                self._found = [row for row in self._found if _key(row)[0] > floor]
                self._below = (floor + 1, 0)
                self._unfinished = True
                return

    def _comes_on(self, floor: int) -> bool:
        """Whether a page that ends above this time leads on; else the search has to go on itself."""
        return (floor + 1, 0) < self._below

    def _look_into(self, segment: search.Segment, rest: int, late: Callable[[], bool]) -> int | None:
        """Find what there is in a segment. A time, if it was given up on the way: what is newer was looked at, there and
        (by ``rest``, their newest) in all the others.
        """
        texts = [part for part in conjuncts(self._query) if isinstance(part, Text)]
        parts = [part for part in conjuncts(self._query) if not isinstance(part, Text)]
        sql, values = condition(all_of(*parts), segment.table)
        way = _way(self._query)
        if not texts:
            span_range: Condition = ("e.id BETWEEN ? AND ?", [segment.first_span, segment.last_span])
            return self._walk_along(way, _both(span_range, (sql, values)), segment, rest, late)
        words = search.expression(word for text in texts for word in text.words)
        ids = [
            row[0]
            for row in self._connection.execute(
                f"SELECT rowid FROM {segment.table} WHERE {segment.table} MATCH ? LIMIT ?",  # noqa: S608
                (words, RARE + 1),
            )
        ]
        if len(ids) <= RARE:
            if ids:
                chosen: Condition = ("e.id IN (SELECT value FROM json_each(?))", [json.dumps(ids)])
                self.take(*_both(chosen, (sql, values)))
            return None
        matching: Condition = (
            f"e.id IN (SELECT rowid FROM {segment.table} WHERE {segment.table} MATCH ?)",  # noqa: S608
            [words],
        )
        return self._walk_along(way, _both(matching, (sql, values)), segment, rest, late)

    def _walk_along(
        self, way: _Way, wanted: Condition, segment: search.Segment, rest: int, late: Callable[[], bool]
    ) -> int | None:
        """Walk the time of a segment along an index, in windows."""
        start = self._below
        oldest = max(segment.min_start_unix_ns, self._since)
        highest = min(segment.max_start_unix_ns, self._until)
        below = min(start, (highest + 1, 0)) if highest < MAX_INTEGER else start
        sql, values = _both((way.sql, list(way.values)), wanted)
        size, found = SEGMENT_WINDOW, 0
        while True:
            end = self._window(way, below, oldest, size)
            self._below = below
            found += self.take(sql, values, lowest=end or (oldest, -1), index=way.index)
            self._below = start
            if end is None or found > self._limit:
                return None
            below = end
            floor = max(end[0], rest)
            if late() and self._comes_on(floor):
                return floor
            size = LAST_WINDOW

    def _window(self, way: _Way, below: Key, oldest: int, size: int) -> Key | None:
        """The last place of the next so many rows along an index; None when there are no more than these."""
        end: Key | None = self._connection.execute(
            f"SELECT e.start_unix_ns, e.id FROM exchanges e INDEXED BY {way.index} WHERE {way.sql}"  # noqa: S608
            " AND (e.start_unix_ns, e.id) < (?, ?) AND e.start_unix_ns >= ?"
            " ORDER BY e.start_unix_ns DESC, e.id DESC LIMIT 1 OFFSET ?",
            (*way.values, *below, oldest, size - 1),
        ).fetchone()
        return end


def _key(row: tuple[Any, ...]) -> Key:
    return row[4], row[0]


def _both(one: Condition, other: Condition) -> Condition:
    return f"({one[0]}) AND ({other[0]})", [*one[1], *other[1]]


def _times(query: Query) -> tuple[int, int]:
    """The time that a query asks for, ends included."""
    since, until = 0, MAX_INTEGER
    for part in conjuncts(query):
        if isinstance(part, Range) and part.field == "time":
            since = max(since, part.low or 0)
            until = min(until, MAX_INTEGER if part.high is None else part.high)
    return min(since, MAX_INTEGER), max(-1, until)


def _way(query: Query) -> _Way:
    """The index that leaves the least to look at. SQLite would have to guess, and without statistics it guesses badly."""
    exact = {
        part.field: part.pattern.exact
        for part in conjuncts(query)
        if isinstance(part, Match) and part.pattern.exact is not None
    }
    for field, column in (("session", "session_id"), ("host", "host")):
        if field in exact:
            return _Way(f"exchanges_{field}", f"e.{column} = ?", (exact[field],))
    if any(
        isinstance(part, Range) and part.field == "status" and part.low is not None and part.low >= 400
        for part in conjuncts(query)
    ):
        return _Way("exchanges_errors", "e.status >= 400", ())
    if "service" in exact:
        return _Way("exchanges_service", "e.service = ?", (exact["service"],))
    return _Way("exchanges_time", "1", ())
