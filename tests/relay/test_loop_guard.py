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
