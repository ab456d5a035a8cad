import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.query.syntax import Match, Not, Pattern, Range, Tag, Text, Word, exactly
from sp_proxy.backend.sqlite.condition import condition, fits, register
from tests.backend.query.strategies import patterns


@given(patterns(), st.text(max_size=12) | st.sampled_from(["/x", "orders", "\x00", "x\x00y", "%", "[a]", "*"]))
def test_sql_and_the_regular_expression_agree_on_patterns(pattern, value):
    connection = sqlite3.connect(":memory:")
    register(connection)
    sql, parameters = fits("value", pattern)
    (answer,) = connection.execute(f"SELECT {sql} FROM (SELECT ? AS value)", (*parameters, value)).fetchone()
    connection.close()
    assert bool(answer) == (pattern.regex().fullmatch(value) is not None)


@pytest.mark.parametrize(
    "query",
    [
        Match("path", exactly("'; DROP TABLE spans; --")),
        Match("path", Pattern(("'", "?", "--"))),
        Tag("'; --", exactly("'")),
        Text((Word("drop"),)),
        Not(Match("session", exactly("'"))),
    ],
)
def test_no_value_is_part_of_the_statement(query):
    sql, parameters = condition(query, "search_1")
    assert "DROP" not in sql
    assert "--" not in sql
    assert "drop" not in sql
    assert sql.count("?") == len(parameters)


def test_limits_beyond_all_numbers():
    assert condition(Range("duration", 2**63, None)) == ("0", [])
    assert condition(Range("duration", None, 2**70)) == ("(e.duration_ns <= ?)", [2**63 - 1])
