"""Which bodies the kernel moves."""

import pytest

from tests.relay.conversation import OK, End
from tests.relay.running_worker import RunningWorker, listening


@pytest.mark.parametrize("size, spliced", [(49152, True), (16384, False)])
def test_a_long_body_goes_through_the_kernel_if_its_pieces_are_not_small(size: int, spliced: bool) -> None:
    """Sender, relay and receiver take turns: no read is larger than a piece."""
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (200 * size))
        server, _ = listener.accept()
        server.settimeout(10)
        with server:
            end = End(server)
            end.until(b"\r\n\r\n")
            head = len(end.received)
            for number in range(1, 201):
                client.sendall(bytes(size))
                end.receive(head + number * size)
            end.send(OK)
            near = End(client)
            near.until(b"ok")
            worker.counter("captured", 1)
            assert worker.counters.get("splices", 0) == spliced
