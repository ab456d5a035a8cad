"""Our own upstream connections are recognised, and nothing else."""

import os

from sp_proxy.relay.loop_guard import TABLE_BYTES, LoopGuard

HERE = ("10.0.0.1", 40_000)
THERE = ("10.0.0.2", 80)


def test_an_open_connection_is_ours_until_it_is_closed() -> None:
    guard = LoopGuard()
    assert not guard.is_ours(HERE, THERE)
    guard.opened(HERE, THERE)
    assert guard.is_ours(HERE, THERE)
    assert not guard.is_ours(("10.0.0.3", HERE[1]), THERE)
    assert not guard.is_ours(HERE, ("10.0.0.2", 81))
    assert not guard.is_ours((HERE[0], 40_001), THERE)
    guard.closed(HERE[1])
    assert not guard.is_ours(HERE, THERE)


def test_one_that_comes_back_is_told_from_one_that_comes_back_again() -> None:
    guard = LoopGuard()
    assert guard.returns(HERE, THERE) == 0
    guard.opened(HERE, THERE)
    assert guard.returns(HERE, THERE) == 1
    guard.opened(HERE, THERE, returned=True)
    assert guard.returns(HERE, THERE) == 2
    assert guard.is_ours(HERE, THERE)
    assert guard.returns(HERE, ("10.0.0.2", 81)) == 0
    guard.closed(HERE[1])
    assert guard.returns(HERE, THERE) == 0


def test_the_highest_port_has_its_place() -> None:
    guard = LoopGuard()
    guard.opened(("::1", 65535), ("::1", 65535))
    assert guard.is_ours(("::1", 65535), ("::1", 65535))


def test_workers_share_one_table() -> None:
    memory = os.memfd_create("table")
    os.truncate(memory, TABLE_BYTES)
    one, other = LoopGuard(os.dup(memory)), LoopGuard(memory)
    one.opened(HERE, THERE)
    assert other.is_ours(HERE, THERE)


def shared() -> tuple[LoopGuard, LoopGuard]:
    """Two processes' views of one table."""
    memory = os.memfd_create("table")
    os.truncate(memory, TABLE_BYTES)
    return LoopGuard(os.dup(memory), 1), LoopGuard(memory, 257)


def test_what_a_process_left_is_forgotten_and_nothing_else() -> None:
    dead, living = shared()
    for port in (1, 40_000, 65_535):
        dead.opened((HERE[0], port), THERE)
    for port in (2, 39_999, 65_534):
        living.opened((HERE[0], port), THERE)
    assert living.forget(1) == 3
    assert [port for port in range(1, 65_536) if living.is_ours((HERE[0], port), THERE)] == [2, 39_999, 65_534]
    assert living.forget(1) == 0


def test_a_port_that_another_process_uses_now_stays() -> None:
    one, other = shared()
    one.opened(HERE, THERE)
    other.opened(HERE, ("10.0.0.9", 443))
    one.closed(HERE[1])
    assert one.is_ours(HERE, ("10.0.0.9", 443))
    assert one.forget(1) == 0
    other.closed(HERE[1])
    assert not one.is_ours(HERE, ("10.0.0.9", 443))
