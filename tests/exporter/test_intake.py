"""One channel, over memory streams: hand-over, totals, and every way in which it may end."""

import socket

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MemoryReceiveStream

from sp_proxy.channel.frames import LENGTH, Drained, Ready, Records, Totals, frame
from sp_proxy.core.exchange import Exchange
from sp_proxy.exporter.intake import WorkerChannel, WorkerReports, receive
from tests.exporter.rig import make_exchange, make_exchanges


class Taken(list[Exchange]):
    """Takes records, at once or after being let to."""

    def __init__(self) -> None:
        super().__init__()
        self.room = trio.Event()
        self.room.set()

    async def consume(self, exchanges) -> None:
        self.extend(exchanges)
        await self.room.wait()


def stream_of(data: bytes) -> MemoryReceiveStream:
    stream = MemoryReceiveStream()
    stream.put_data(data)
    stream.put_eof()
    return stream


async def read(data: bytes, worker_id: int = 1, reports: WorkerReports | None = None):
    channel = WorkerChannel(worker_id)
    reports = reports or WorkerReports()
    taken = Taken()
    stream = stream_of(data)
    await receive(stream, channel, reports, taken.consume)
    assert channel.ended.is_set()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some(1)
    return taken, channel, reports


async def test_records_go_on_in_order():
    data = frame(Records(make_exchanges(2))) + frame(Records([])) + frame(Records([make_exchange(3)]))
    taken, channel, _ = await read(data)
    assert taken == make_exchanges(3)
    assert channel.error == ""


async def test_ready_and_drained_are_announced():
    _, channel, _ = await read(frame(Ready(1)) + frame(Drained()))
    assert channel.ready.is_set()
    assert channel.drained.is_set()


async def test_drained_comes_after_all_records_are_taken(autojump_clock):
    channel = WorkerChannel(1)
    taken = Taken()
    taken.room = trio.Event()
    data = frame(Records(make_exchanges(1))) + frame(Drained())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, stream_of(data), channel, WorkerReports(), taken.consume)
        await trio.sleep(1)
        assert not channel.drained.is_set()
        taken.room.set()
        await channel.drained.wait()


async def test_totals_are_added_up_as_differences():
    totals = [Totals({"captured": 2, "raw:eof": 1}), Totals({"captured": 5, "raw:eof": 1, "new": 4})]
    _, _, reports = await read(b"".join(map(frame, totals)))
    (worker,) = reports.snapshot()
    assert worker.counters == {"captured": 5, "raw:eof": 1, "new": 4}


async def test_a_restarted_worker_adds_to_its_predecessors_totals():
    reports = WorkerReports()
    await read(frame(Totals({"captured": 5})), reports=reports)
    await read(frame(Totals({"captured": 2})) + frame(Totals({"captured": 3})), reports=reports)
    (worker,) = reports.snapshot()
    assert worker.counters == {"captured": 8}


async def test_falling_totals_of_a_broken_worker_never_make_a_counter_fall():
    _, _, reports = await read(frame(Totals({"captured": 5})) + frame(Totals({"captured": 1})))
    assert reports.snapshot()[0].counters == {"captured": 5}


async def test_gauges_are_those_of_the_moment_and_end_with_the_channel(autojump_clock):
    stream = MemoryReceiveStream()
    reports = WorkerReports()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, stream, WorkerChannel(4), reports, Taken().consume)
        stream.put_data(frame(Totals({}, {"connections": 3.0})) + frame(Totals({}, {"connections": 2.0})))
        await trio.sleep(1)
        (worker,) = reports.snapshot()
        assert (worker.worker_id, worker.connected, worker.gauges) == (4, True, {"connections": 2.0})
        stream.put_eof()
    (worker,) = reports.snapshot()
    assert (worker.connected, worker.gauges) == (False, {})


async def test_announced_losses_by_reason_over_all_workers():
    reports = WorkerReports()
    await read(frame(Totals({"channel_dropped:channel_full": 5, "captured": 9})), 1, reports)
    await read(frame(Totals({"channel_dropped:channel_full": 2, "dropped:sampled_out": 1})), 2, reports)
    assert reports.channel_dropped() == {"channel_full": 7, "sampled_out": 1}


@pytest.mark.parametrize(
    "foreign",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        LENGTH.pack(3) + b"abc",
        LENGTH.pack(0),
        LENGTH.pack(2**32 - 1),
        frame(Ready(1))[:-1],
        b"\x00",
    ],
)
async def test_an_unreadable_stream_costs_its_channel_and_is_counted(foreign):
    with capture_logs() as logs:
        taken, channel, reports = await read(frame(Records(make_exchanges(2))) + foreign)
    assert taken == make_exchanges(2)
    assert channel.error
    assert reports.channel_errors == 1
    assert [(line["event"], line["log_level"]) for line in logs] == [("channel_closed", "warning")]


async def test_a_reset_channel_is_counted():
    worker, ours = socket.socketpair()
    ours.send(b"unread")  # closing a Unix socket with something unread is a reset for the peer
    worker.close()
    reports = WorkerReports()
    channel = WorkerChannel(1)
    await receive(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), channel, reports, Taken().consume)
    assert "reset" in channel.error
    assert reports.channel_errors == 1


async def test_a_fault_of_our_own_costs_the_channel_only():
    async def consume(exchanges):
        raise ZeroDivisionError

    reports = WorkerReports()
    channel = WorkerChannel(1)
    with capture_logs() as logs:
        await receive(stream_of(frame(Records(make_exchanges(1)))), channel, reports, consume)
    assert channel.error.startswith("internal error")
    assert reports.channel_errors == 1
    assert logs[0]["log_level"] == "error"


async def test_finished_at_the_first_of_drained_and_ended(autojump_clock):
    for name in ("drained", "ended"):
        channel = WorkerChannel(1)
        with trio.move_on_after(1) as scope:
            await channel.finished()
        assert scope.cancelled_caught
        getattr(channel, name).set()
        with trio.fail_after(1):
            await channel.finished()
