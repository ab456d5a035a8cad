import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_proxy.backend.clickhouse.condition import Parameters, condition, fits
from sp_proxy.backend.query.syntax import Match, Not, Pattern, Range, Tag, Text, Word, exactly
from tests.backend.clickhouse.engine import client
from tests.backend.query.strategies import patterns


@settings(max_examples=150, deadline=None)
@given(patterns(), st.text(max_size=12) | st.sampled_from(["/x", "orders", "\x00", "x\x00y", "%", "[a]", "*", "a\nb"]))
def test_sql_and_the_regular_expression_agree_on_patterns(pattern, value):
    bound = Parameters()
    sql = f"SELECT {fits(bound.bind(value, 'String'), pattern, bound)}"
    ((answer,),) = client().query(sql, parameters=bound.values).result_rows
    assert bool(answer) == (pattern.regex().fullmatch(value) is not None)


@pytest.mark.parametrize(
    "query",
    [
        Match("path", exactly("'; DROP TABLE spans; --")),
        Match("path", Pattern(("'", "?", "--"))),
        Tag("'; --", exactly("'")),
        Text((Word("drop"), Word("drop", prefix=True))),
        Not(Match("session", exactly("'"))),
    ],
)
def test_no_value_is_part_of_the_statement(query):
    bound = Parameters()
    sql = condition(query, bound)
    assert "drop" not in sql.lower()
    assert "--" not in sql
    assert all(f"{{{name}:" in sql for name in bound.values)


def test_limits_beyond_all_numbers():
    assert condition(Range("duration", 2**63, None), Parameters()) == "0"
    bound = Parameters()
    assert condition(Range("duration", None, 2**70), bound) == "duration_ns <= {p0:Int64}"
    assert bound.values == {"p0": 2**63 - 1}
