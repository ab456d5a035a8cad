"""A fault of our own keeps nothing open and harms nobody."""

import asyncio
import contextlib

import pytest

from sp_proxy.taps.discard import Discard
from tests.relay.bare_worker import BareWorker
from tests.relay.conversation import End
from tests.relay.running_worker import listening


class FaultyTap(Discard):
    """Fails where nothing is to be forwarded."""

    def close(self, error: str) -> None:
        raise RuntimeError(error)

    def drain(self, *, patient: bool) -> bytes:
        raise RuntimeError(patient)


@pytest.mark.parametrize("drained", [False, True])
def test_a_tap_that_fails_at_the_end_keeps_no_connection_open(drained: bool) -> None:
    with listening() as origin, contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        worker = BareWorker(loop)
        worker.tap = FaultyTap()
        client, connection = worker.accept(origin.getsockname(), resolve=False)
        if drained:
            connection.drain(patient=True)
            assert connection.tap is None
            assert worker.counters["tap_faults"] == 2  # to drain, and to close
        End(client).reset()
        deadline = loop.time() + 30
        while worker.connections:
            loop.run_until_complete(asyncio.sleep(0.01))
            assert loop.time() < deadline
        assert connection.downstream.sock.fileno() == connection.upstream.sock.fileno() == -1
        assert worker.counters["tap_faults"] == 1 + drained
        worker.poller.stop()
