"""Who is in the loop guard's table."""

import os
from contextlib import ExitStack

from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.supervisor.guard_table import GuardTable

THERE = ("192.0.2.1", 80)


def test_behind_its_life_nothing_of_a_process_is_left() -> None:
    with GuardTable() as table:
        with table.enlisted() as owner:
            assert table.owners == [owner]
            worker = LoopGuard(os.dup(table.fd), owner)
            worker.opened(("127.0.0.1", 40_000), THERE)
            table.guard.opened(("127.0.0.1", 40_001), THERE)
            assert table.guard.is_ours(("127.0.0.1", 40_000), THERE)
        assert not table.guard.is_ours(("127.0.0.1", 40_000), THERE)
        assert table.guard.is_ours(("127.0.0.1", 40_001), THERE)
        assert table.owners == []


def test_numbers_are_the_processes_own_and_come_again(monkeypatch) -> None:
    monkeypatch.setattr("sp_proxy.supervisor.guard_table.OWNERS", range(1, 6))
    with GuardTable() as table, table.enlisted() as one:
        others = []
        for _ in range(7):
            with table.enlisted() as owner:
                others.append(owner)
        with ExitStack() as lives:
            many = [lives.enter_context(table.enlisted()) for _ in range(3)]
    assert (one, others) == (1, [2, 3, 4, 2, 3, 4, 2])
    assert {one, *many} == {1, 2, 3, 4}  # 5 is the supervisor's own


def test_it_is_closed() -> None:
    with GuardTable() as table:
        fd = table.fd
        os.fstat(fd)
    try:
        os.fstat(fd)
    except OSError:
        return
    raise AssertionError
