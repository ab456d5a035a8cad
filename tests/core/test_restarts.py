"""Backoff and the decision to fail open, on a clock of our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.restarts import RestartPolicy, Restarts

POLICY = RestartPolicy()


def restarts(count: int = 1, now: float = 1000.0) -> Restarts:
    return Restarts(count, POLICY, now)


@pytest.mark.parametrize(
    "failures, expected", [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2), (4, 0.4), (8, 6.4), (9, 10.0), (100_000, 10.0)]
)
def test_the_first_restart_is_immediate_then_waits_double(failures, expected):
    assert POLICY.delay(failures, chance=0.0) == pytest.approx(expected)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_chance_only_shortens_and_never_below_the_jitter(failures, chance):
    longest = POLICY.delay(failures, 0.0)
    assert longest * (1 - POLICY.jitter) - 1e-9 <= POLICY.delay(failures, chance) <= longest <= POLICY.maximum


def test_quick_exits_wait_longer_and_longer():
    history, now, waits = restarts(), 1000.0, []
    for _ in range(5):
        history.started(0, now)
        now += 1.0
        waits.append(history.exited(0, now, 0.0))
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8])


def test_a_long_life_clears_the_record():
    history = restarts()
    for _ in range(4):
        history.started(0, 1000.0)
        history.exited(0, 1001.0, 0.0)
    history.started(0, 1001.0)
    history.ready(0)
    assert history.exited(0, 1061.0, 0.0) == 0.0
    history.started(0, 1061.0)
    assert history.exited(0, 1062.0, 0.0) == pytest.approx(0.1)


def test_one_crash_of_the_only_worker_does_not_fail_open():
    history = restarts()
    history.started(0, 1000.0)
    history.ready(0)
    history.exited(0, 1010.0, 0.0)
    assert not history.fail_open(1010.0)


def test_a_worker_that_crashes_again_before_it_is_ready_fails_open_until_one_is():
    history = restarts()
    for _ in range(2):
        history.started(0, 1000.0)
        history.exited(0, 1000.1, 0.0)
    assert history.fail_open(1000.1)
    history.started(0, 1000.2)
    assert history.fail_open(1000.2)
    history.ready(0)
    assert not history.fail_open(1000.3)
    assert history.next_check() is None


def test_one_ready_worker_is_enough():
    history = restarts(2)
    history.ready(1)
    for _ in range(5):
        history.exited(0, 1001.0, 0.0)
    assert not history.fail_open(5000.0)


def test_without_a_ready_worker_patience_runs_out_even_when_none_crashes():
    history = restarts(2, now=1000.0)
    deadline = history.next_check()
    assert deadline == 1000.0 + POLICY.patience
    assert not history.fail_open(deadline - 0.01)
    assert history.fail_open(deadline)


def test_patience_runs_from_the_moment_when_the_last_ready_worker_died():
    history = restarts(2)
    history.ready(0)
    history.ready(1)
    history.exited(0, 1100.0, 0.0)
    assert history.next_check() is None
    history.exited(1, 1200.0, 0.0)
    assert history.next_check() == 1200.0 + POLICY.patience


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["started", "ready", "exited"])), max_size=40))
def test_failing_open_never_goes_with_a_ready_worker(events):
    history, now = restarts(3), 1000.0
    ready: set[int] = set()
    for worker_id, event in events:
        now += 1.0
        if event == "started":
            history.started(worker_id, now)
        elif event == "ready":
            history.ready(worker_id)
            ready.add(worker_id)
        else:
            history.exited(worker_id, now, 0.5)
            ready.discard(worker_id)
        assert history.ready_count == len(ready)
        assert (history.next_check() is None) == bool(ready)
        if ready:
            assert not history.fail_open(now + 1e6)
        else:
            assert history.fail_open(now + POLICY.patience + len(events))
