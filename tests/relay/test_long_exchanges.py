"""The timer that looks for exchanges which go on: when, how often, and in a real worker."""

import asyncio
import time
from collections import defaultdict
from functools import partial

import pytest

from sp_proxy.relay.long_exchanges import AT_ONCE, interval, record_long
from tests.relay.running_worker import RunningWorker, listening

GET = b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize("after,expected", [(30.0, 5.0), (4.0, 1.0), (0.2, 0.1), (0.001, 0.1)])
def test_interval(after: float, expected: float):
    assert interval(after) == expected


class Looked:
    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.times: list[int] = []

    def record_open(self, before_ns: int) -> None:
        self.times.append(before_ns)
        if self.broken:
            raise RuntimeError("a fault of ours")


def test_every_connection_is_looked_at_and_a_fault_harms_no_other(caplog: pytest.LogCaptureFixture):
    connections = [Looked(broken=not number) for number in range(AT_ONCE + 2)]
    counters: defaultdict[str, int] = defaultdict(int)

    async def run() -> None:
        looking = asyncio.get_running_loop().create_task(record_long(0.2, lambda: connections, counters))
        while not connections[-1].times:  # noqa: ASYNC110  # the task is nobody's to tell
            await asyncio.sleep(0.01)
        looking.cancel()

    asyncio.run(run())
    assert all(each.times for each in connections)
    before = time.time_ns() - connections[0].times[0]
    assert before > 200_000_000
    assert counters["tap_faults"] == len(connections[0].times)
    assert "a fault of ours" in caplog.text


def test_a_worker_records_a_stream_before_its_end_and_when_it_ends():
    with listening() as origin, RunningWorker(origin.getsockname(), options={"partial_after": 0.3}) as worker:
        with worker.connect() as client:
            client.sendall(GET)
            upstream, _ = origin.accept()
            with upstream:
                assert upstream.recv(65536)
                upstream.sendall(HEAD + b"data: 1\n\n")
                wait = partial(worker.wait, seconds=20.0)
                wait(lambda: len(worker.exchanges) == 1)
                upstream.sendall(b"data: 2\n\n")
            wait(lambda: len(worker.exchanges) == 2)
        ongoing, whole = worker.exchanges
        assert ongoing.partial is not None
        assert ongoing.partial.ongoing
        assert whole.partial is not None
        assert whole.partial.span_id == ongoing.partial.span_id
        assert whole.span_id == ongoing.span_id != ongoing.partial.span_id
        assert (ongoing.response_body, whole.response_body) == (b"data: 1\n\n", b"data: 1\n\ndata: 2\n\n")
        assert ongoing.duration_ns >= 300_000_000
        worker.counter("partial_records", 1)
        worker.counter("captured", 2)
