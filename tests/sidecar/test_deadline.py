"""Whatever a pod allows, the parts fit into it."""

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.sidecar.deadline import DEFAULT_SECONDS, Deadline, divide


def test_the_usual_thirty_seconds():
    assert divide(DEFAULT_SECONDS, pre_stop=False) == Deadline(0, 21, 5)
    assert divide(DEFAULT_SECONDS, pre_stop=True) == Deadline(5, 16, 5)


def test_a_long_one_is_the_traffics():
    assert divide(600, pre_stop=True) == Deadline(5, 586, 5)


@given(st.integers(-5, 10_000), st.booleans())
def test_together_they_are_the_pods(seconds, pre_stop):
    parts = divide(seconds, pre_stop=pre_stop)
    spent = parts.pre_stop + parts.grace_period + parts.flush_timeout
    assert min(parts.pre_stop, parts.grace_period, parts.flush_timeout) >= 0
    assert spent <= max(seconds, 0)
    if seconds >= 16:
        assert seconds - spent >= 4, "the supervisor's own margins, 3 s, and time to exit"
    assert (parts.pre_stop > 0) is (pre_stop and seconds >= 5)
