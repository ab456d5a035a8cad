from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sp_proxy.backend.query.syntax import Word, fold, words
from sp_proxy.backend.sqlite import search


def documents(first, count, text="word"):
    return [search.Document(span, span * 10, text) for span in range(first, first + count)]


def found(connection, segment, *wanted):
    return [
        row[0]
        for row in connection.execute(
            f"SELECT rowid FROM {search.table_of(segment)} WHERE {search.table_of(segment)} MATCH ?",
            (search.expression(wanted),),
        )
    ]


def test_segments_are_closed_by_number_and_by_size(connection, monkeypatch):
    monkeypatch.setattr(search, "MAX_DOCUMENTS", 4)
    search.add(connection, documents(1, 10), max_characters=1000)
    search.add(connection, documents(20, 1, "x" * 2000), max_characters=1000)
    search.add(connection, documents(21, 1), max_characters=1000)
    rows = connection.execute("SELECT id, first_span, last_span, documents, max_start_unix_ns FROM segments").fetchall()
    assert rows == [(1, 1, 4, 4, 40), (2, 5, 8, 4, 80), (3, 9, 20, 3, 200), (4, 21, search.OPEN, 1, 210)]
    assert found(connection, 2, Word("word")) == [5, 6, 7, 8]


def test_those_of_a_time_newest_first(connection, monkeypatch):
    monkeypatch.setattr(search, "MAX_DOCUMENTS", 2)
    search.add(connection, documents(1, 6), max_characters=1000)
    assert [segment.id for segment in search.segments(connection, 0, 100)] == [3, 2, 1]
    assert [segment.id for segment in search.segments(connection, 40, 50)] == [3, 2]
    assert search.segments(connection, 70, 100) == []


def test_segments_without_spans_are_dropped(connection, monkeypatch):
    monkeypatch.setattr(search, "MAX_DOCUMENTS", 2)
    search.add(connection, documents(1, 5), max_characters=1000)
    search.drop_until(connection, 3)
    assert [segment.id for segment in search.segments(connection, 0, 100)] == [3, 2]
    search.drop_until(connection, 2**40)
    assert [segment.id for segment in search.segments(connection, 0, 100)] == [3]
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'search_1%'").fetchone()
    assert tables == 0


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40), other=st.text(max_size=10))
def test_fts5_has_the_same_idea_of_a_word(connection, text, other):
    connection.execute("BEGIN")
    try:
        search.add(connection, [search.Document(1, 1, fold(text))], max_characters=1000)
        own = words(fold(text))
        for word in own:
            assert found(connection, 1, Word(word)) == [1]
            assert found(connection, 1, Word(word[:1], prefix=True)) == [1]
        for word in words(fold(other)):
            assert found(connection, 1, Word(word)) == ([1] if word in own else [])
    finally:
        connection.execute("ROLLBACK")
