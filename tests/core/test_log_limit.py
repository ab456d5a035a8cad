"""Lines of a kind: the first ones, then one a second, and none is forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.log_limit import MAX_KINDS, LogLimit

SECOND = 1_000_000_000


def test_the_first_lines_then_one_a_second_with_how_many_were_left_out():
    limit = LogLimit(rate=1.0, burst=3)
    assert [limit.count("a", 0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limit.count("b", 0) == 0, "another kind"
    assert limit.count("a", SECOND) == 2
    assert limit.count("a", SECOND) is None
    assert limit.count("a", 2 * SECOND) == 1
    assert limit.count("a", 60 * SECOND) == 0


def test_there_is_an_end_to_the_kinds_that_are_told_apart():
    limit = LogLimit(rate=1.0, burst=2)
    for number in range(MAX_KINDS):
        assert limit.count(f"kind {number}", 0) == 0
    assert [limit.count(f"more {number}", 0) for number in range(4)] == [0, 0, None, None]
    assert limit.count("kind 3", 0) == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, SECOND))))
def test_every_line_is_written_or_counted(lines):
    limit, now = LogLimit(rate=1.0, burst=2), 0
    written = {"a": 0, "b": 0}
    for kind, step in lines:
        now += step
        suppressed = limit.count(kind, now)
        if suppressed is not None:
            written[kind] += 1 + suppressed
    for kind, told in written.items():
        left = limit.count(kind, now + 10 * SECOND)
        assert left is not None
        assert told + left == sum(each == kind for each, _ in lines)
