"""What becomes of a client that waits for its upstream connection."""

import contextlib
import time
from collections.abc import Callable

import pytest

from sp_proxy.relay.downstream import GAVE_UP_AFTER
from tests.relay.conversation import GET, End
from tests.relay.running_worker import RunningWorker, unreachable


@pytest.mark.parametrize("leave", [End.reset, End.close])
def test_a_client_that_goes_while_upstream_is_being_connected_is_noticed(leave: Callable[[End], None]) -> None:
    with unreachable() as address, RunningWorker(address) as worker:
        client = End(worker.connect())
        client.send(GET)
        worker.wait(lambda: worker.gauges.get("connections_open") == 1)
        time.sleep(GAVE_UP_AFTER * 1.2)  # what a client does that half-closes behind its request, it does sooner
        leave(client)
        worker.wait(lambda: worker.gauges.get("connections_open") == 0)
        assert [record.error for record in worker.exchanges] == ["client_aborted"]


def test_a_client_that_half_closes_while_upstream_is_being_connected_waits() -> None:
    with unreachable() as address, RunningWorker(address) as worker, worker.connect() as sock:
        client = End(sock)
        client.send(GET)
        client.half_close()
        worker.counter("connections", 1)
        time.sleep(GAVE_UP_AFTER * 2)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_much_from_a_client_that_waits_for_upstream_stays_with_the_kernel() -> None:
    with unreachable() as address, RunningWorker(address) as worker, worker.connect() as sock:
        sock.settimeout(1)
        sent = 0
        piece = bytes(1 << 20)
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += sock.send(piece)
        assert sent < 64 << 20
        worker.wait(lambda: worker.gauges.get("connections_open") == 1)
        assert worker.gauges["resident_memory_bytes"] < 60 << 20
