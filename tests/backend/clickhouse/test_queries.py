import pytest

from sp_proxy.backend.clickhouse import queries
from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.store import BadCursorError
from tests.backend.requests import START

MINUTE = 60 * 10**9


def test_whole_minutes():
    assert queries.whole_minutes(5, 5) == (0, MINUTE)
    assert queries.whole_minutes(MINUTE, MINUTE) == (MINUTE, MINUTE)
    assert queries.whole_minutes(START, START + 1)[1] - queries.whole_minutes(START, START + 1)[0] == MINUTE


@pytest.mark.parametrize(
    "cursor", ["1.2", "1." + "ab" * 16, f"1.{'ab' * 16}.{'cd' * 7}zz", f"x.{'ab' * 16}.{'cd' * 8}"]
)
def test_cursors_of_another_engine_are_refused(cursor):
    with pytest.raises(BadCursorError):
        queries.exchanges("t", EVERYTHING, cursor, 5)


def test_ids_are_bound():
    statement, bound = queries.mark_gone("t", {("ab" * 16, "cd" * 8)})
    assert "ab" * 16 not in statement
    assert bound.values == {"p0": ["ab" * 16], "p1": ["ab" * 16 + "cd" * 8]}
