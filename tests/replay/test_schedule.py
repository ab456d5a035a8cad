from sp_proxy.replay.schedule import plan
from tests.replay.exchanges import recorded

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def at(seconds: float, session: str):
    return recorded(start_unix_ns=START + int(seconds * SECOND), session_id=session)


def test_sessions_side_by_side_each_in_its_order():
    made = plan([at(3, "a"), at(2, "b"), at(1, "a"), at(4, "b")], 2.0)
    assert [each.group for each in made] == ["session a", "session b"]
    assert [[step.due for step in each.steps] for each in made] == [[0.0, 1.0], [0.5, 1.5]]
    assert [each.due for each in made] == [0.0, 0.5]


def test_as_fast_as_possible():
    assert [step.due for each in plan([at(3, "a"), at(9, "a")], None) for step in each.steps] == [0.0, 0.0]
    assert plan([], 1.0) == []
