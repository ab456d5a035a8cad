"""The sender never waits, loses nothing that fits, and counts what does not."""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from sp_proxy.channel.frames import FrameReader, Ready, Records, Totals, frame
from sp_proxy.channel.sender import FLUSH_INTERVAL, MAX_BUFFERED_BYTES, MAX_FRAME_CONTENT, MAX_FRAME_RECORDS, Sender
from sp_proxy.core.exchange import Direction, Exchange

RECORD = Exchange(
    direction=Direction.INBOUND,
    start_unix_ns=1,
    ttfb_ns=2,
    duration_ns=3,
    trace_id=bytes(16),
    span_id=bytes(8),
    parent_span_id=b"",
    session_id=b"s",
    service_name=b"orders",
    scheme="http",
    protocol_version="1.1",
    method=b"GET",
    target=b"/",
    authority=b"h",
    request_fields=b"",
    request_body=b"",
    request_body_size=0,
    status=200,
    response_fields=b"",
    response_body=b"",
    response_body_size=0,
    client_address="127.0.0.1",
    client_port=1,
    server_address="127.0.0.1",
    server_port=2,
)


def with_sender(test: Callable[[Sender, socket.socket, defaultdict[str, int]], Awaitable[None]]) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        counters: defaultdict[str, int] = defaultdict(int)
        sender = Sender(asyncio.get_running_loop(), ours, counters)
        try:
            await test(sender, theirs, counters)
        finally:
            sender.close()
            theirs.close()

    asyncio.run(run())


async def receive(sock: socket.socket, reader: FrameReader, messages: list[object], count: int) -> None:
    """Read until so many messages are there."""
    loop = asyncio.get_running_loop()
    while len(messages) < count:
        data = await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 10)
        assert data
        reader.feed(data)
        while (message := reader.next()) is not None:
            messages.append(message)


def test_the_records_of_one_turn_are_one_frame() -> None:
    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        for _ in range(3):
            sender.record(RECORD)
        messages: list[object] = []
        await receive(sock, FrameReader(), messages, 1)
        assert messages == [Records([RECORD] * 3)]

    with_sender(test)


def test_a_frame_has_a_limit_and_order_is_kept() -> None:
    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        for number in range(MAX_FRAME_RECORDS + 5):
            sender.record(msgspec.structs.replace(RECORD, start_unix_ns=number))
        sender.message(Ready(4))
        messages: list[object] = []
        await receive(sock, FrameReader(), messages, 3)
        numbers = [each.start_unix_ns for m in messages if isinstance(m, Records) for each in m.exchanges]
        assert numbers == list(range(MAX_FRAME_RECORDS + 5))

    with_sender(test)


def test_records_with_large_bodies_are_several_frames() -> None:
    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        large = msgspec.structs.replace(RECORD, request_body=bytes(MAX_FRAME_CONTENT // 2))
        reader, messages = FrameReader(), list[object]()
        for _ in range(4):
            sender.record(large)
        await receive(sock, reader, messages, 2)
        assert [len(m.exchanges) for m in messages if isinstance(m, Records)] == [2, 2]

    with_sender(test)


def test_large_fields_close_a_frame_too() -> None:
    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        large = msgspec.structs.replace(
            RECORD, request_fields=bytes(MAX_FRAME_CONTENT // 4), response_fields=bytes(MAX_FRAME_CONTENT // 4)
        )
        reader, messages = FrameReader(), list[object]()
        for _ in range(4):
            sender.record(large)
        await receive(sock, reader, messages, 2)
        assert [len(m.exchanges) for m in messages if isinstance(m, Records)] == [2, 2]

    with_sender(test)


def test_no_frame_is_larger_than_a_receiver_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not counted while records are gathered (trailers here) splits a frame; one record that is too large is lost."""
    monkeypatch.setattr("sp_proxy.channel.sender.MAX_FRAME_BYTES", 10_000)

    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        for number in range(9):
            size = 20_000 if number == 4 else 3000
            sender.record(msgspec.structs.replace(RECORD, start_unix_ns=number, request_trailers=bytes(size)))
        sender.message(Ready(1))
        reader, messages = FrameReader(), list[object]()
        while Ready(1) not in messages:
            await receive(sock, reader, messages, len(messages) + 1)
        numbers = [each.start_unix_ns for m in messages if isinstance(m, Records) for each in m.exchanges]
        assert numbers == [0, 1, 2, 3, 5, 6, 7, 8]
        assert all(len(frame(m)) <= 10_000 for m in messages if isinstance(m, Records))
        assert counters == {"channel_dropped:too_large": 1}

    with_sender(test)


def test_a_receiver_that_does_not_read_costs_records_which_are_counted() -> None:
    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        large = msgspec.structs.replace(RECORD, request_body=bytes(1 << 20))
        total = MAX_BUFFERED_BYTES // (1 << 20) + 20
        for _ in range(total):
            sender.record(large)
            sender.message(Totals())
        dropped = counters["channel_dropped:channel_full"]
        assert 0 < dropped < 20
        sender.message(Totals({"x": 1}))  # skipped: the buffer is full
        messages: list[object] = []
        reader = FrameReader()
        while sum(len(m.exchanges) for m in messages if isinstance(m, Records)) < total - dropped:
            await receive(sock, reader, messages, len(messages) + 1)
        assert sum(len(m.exchanges) for m in messages if isinstance(m, Records)) == total - dropped
        await asyncio.wait_for(sender.drained(), 5)
        sender.message(Totals(dict(counters)))
        await receive(sock, reader, messages, len(messages) + 1)
        assert messages[-1] == Totals({"channel_dropped:channel_full": dropped})

    with_sender(test)


def test_what_waits_goes_on_though_the_loop_has_no_turn() -> None:
    """While the traffic keeps it busy, a receiver that reads all the time gets all records."""

    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        reader = FrameReader()
        messages: list[object] = []
        record = msgspec.structs.replace(RECORD, response_body=b"x" * 65536)
        rounds = 3 * MAX_BUFFERED_BYTES // len(record.response_body)
        for _ in range(20):
            sender.record(record)
        assert sender._backlog, "the receiver was late once"
        for _ in range(rounds):
            sender.record(record)
            with contextlib.suppress(BlockingIOError):
                reader.feed(sock.recv(1 << 20))
            while (message := reader.next()) is not None:
                messages.append(message)
        assert not counters
        assert len(messages) > rounds // 4

    with_sender(test)


def test_a_receiver_that_is_gone() -> None:
    async def test(sender: Sender, sock: socket.socket, counters: defaultdict[str, int]) -> None:
        gone = asyncio.Event()
        sender.on_closed_by_receiver(gone.set)
        sock.close()
        await asyncio.wait_for(gone.wait(), 5)
        for _ in range(2):
            sender.record(RECORD)
            sender.message(Totals())
        assert counters["channel_dropped:channel_closed"] >= 1
        await asyncio.wait_for(sender.drained(), 5)

    with_sender(test)


def test_a_receiver_whose_absence_a_write_finds_out_first() -> None:
    async def test(sender: Sender, theirs: socket.socket, _counters: defaultdict[str, int]) -> None:
        gone = asyncio.Event()
        sender.on_closed_by_receiver(gone.set)
        theirs.close()
        sender.message(Ready(1))
        await asyncio.wait_for(gone.wait(), 10)

    with_sender(test)


def test_one_timer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(sender: Sender, receiver: socket.socket, _: defaultdict[str, int]) -> None:
        loop = asyncio.get_running_loop()
        timers: list[float] = []

        def call_later(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
            timers.append(delay)
            return loop.call_at(loop.time() + delay, call)

        monkeypatch.setattr(loop, "call_later", call_later)
        full = msgspec.structs.replace(RECORD, request_body=bytes(MAX_FRAME_CONTENT))
        for _number in range(4):
            sender.record(full)  # is sent at once
        sender.record(RECORD)
        reader, messages = FrameReader(), list[object]()
        await receive(receiver, reader, messages, 5)
        assert timers == [FLUSH_INTERVAL]
        sender.record(RECORD)
        await receive(receiver, reader, messages, 6)
        assert timers == [FLUSH_INTERVAL] * 2

    with_sender(test)
