"""The circuit breaker: when attempts are held back, and that one probe goes alone."""

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.breaker import PROBE_LOST, Breaker, BreakerPolicy

POLICY = BreakerPolicy(initial_interval=2.0, max_interval=10.0, multiplier=2.0, threshold=3)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(3):
        assert breaker.wait(now) == 0
        breaker.failed(now)
    assert breaker.state == "open"
    return breaker


def test_failures_in_a_row_open_it():
    assert opened().opened == 1


def test_a_success_in_between_starts_the_count_again():
    breaker = Breaker(POLICY)
    for outcome in (breaker.failed, breaker.failed, lambda _: breaker.succeeded(), breaker.failed, breaker.failed):
        outcome(0.0)
    assert breaker.state == "closed"
    assert breaker.wait(0.0) == 0


def test_while_open_it_says_how_long_to_wait():
    breaker = opened(now=100.0)
    assert breaker.wait(100.5) == 1.5


def test_one_probe_goes_the_others_wait():
    breaker = opened()
    assert breaker.wait(2.0) == 0
    assert breaker.state == "half_open"
    assert breaker.wait(2.0) == PROBE_LOST
    breaker.succeeded()
    assert str(breaker.state) == "closed"
    assert [breaker.wait(2.0) for _ in range(3)] == [0, 0, 0]


def test_after_a_probe_that_ended_without_an_answer_another_one_goes_at_once():
    breaker = opened()
    assert breaker.wait(2.0) == 0
    breaker.lost_probe()
    assert breaker.wait(2.5) == 0
    assert breaker.wait(2.5) == PROBE_LOST


def test_a_failed_probe_makes_the_wait_grow_to_its_limit_and_a_success_resets_it():
    breaker = opened()
    now, waits = 0.0, []
    for _ in range(4):
        waits.append(breaker.wait(now))
        now += waits[-1]
        assert breaker.wait(now) == 0
        breaker.failed(now)
    assert waits == [2.0, 4.0, 8.0, 10.0]
    assert breaker.opened == 1
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(now)
    assert breaker.wait(now) == 2.0


def test_a_probe_that_says_nothing_is_given_up():
    breaker = opened()
    assert breaker.wait(2.0) == 0
    assert breaker.wait(2.0 + PROBE_LOST) == 0


def test_late_failures_of_what_was_sent_before_change_nothing_while_open():
    breaker = opened()
    breaker.failed(1.0)
    assert breaker.wait(1.0) == 1.0


@given(st.lists(st.tuples(st.sampled_from(["wait", "ok", "bad"]), st.floats(0, 20)), max_size=60))
def test_it_always_lets_somebody_through_in_the_end(steps):
    breaker = Breaker(POLICY)
    now = 0.0
    for step, seconds in steps:
        now += seconds
        if step == "ok":
            breaker.succeeded()
        elif step == "bad":
            breaker.failed(now)
        else:
            assert 0 <= breaker.wait(now) <= PROBE_LOST
    assert breaker.wait(now + PROBE_LOST) == 0
