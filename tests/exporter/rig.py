"""A running exporter with one worker's end of a channel, whose books are checked at every step of every task."""

import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from sp_proxy.channel.frames import Drained, Message, Ready, Records, frame
from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.exporter.intake import WorkerChannel
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.exporter.stats import ExporterStats
from sp_proxy.settings.model import SettingsModel

LOOK_INTERVAL = 0.001
"""Seconds between two looks at the books: a loop without a pause would keep the exporter's threads from running."""


def make_exchange(number: int = 1, **values: Any) -> Exchange:
    """An ordinary exchange, recognisable by its span id."""
    exchange = Exchange(
        direction=Direction.INBOUND,
        start_unix_ns=1_700_000_000_000_000_000 + number,
        ttfb_ns=1_000_000,
        duration_ns=2_000_000,
        trace_id=number.to_bytes(16),
        span_id=number.to_bytes(8),
        parent_span_id=b"",
        session_id=b"sp-session-1",
        service_name=b"orders",
        scheme="http",
        protocol_version="1.1",
        method=b"POST",
        target=b"/orders?n=%d" % number,
        authority=b"orders.shop:8080",
        request_fields=b"Host: orders.shop:8080\r\nContent-Type: application/json\r\n",
        request_body=b'{"sku":"A-1"}',
        request_body_size=13,
        status=201,
        response_fields=b"Content-Type: application/json\r\n",
        response_body=b'{"id":1}',
        response_body_size=8,
        client_address="10.0.0.1",
        client_port=40000,
        server_address="10.0.0.2",
        server_port=8080,
    )
    return msgspec.structs.replace(exchange, **values)


def make_exchanges(count: int, first: int = 1, **values: Any) -> list[Exchange]:
    return [make_exchange(number, **values) for number in range(first, first + count)]


def settings(url: str, **sections: Any) -> SettingsModel:
    """Small intervals, so that real sockets can be used without waiting."""
    values: dict[str, Any] = {
        "sp_backend_url": url,
        "public_key": "pk-secret",
        "batch": {"max_records": 4, "flush_timeout": "20ms"},
        "retry": {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "5s"},
        "spool": {"mode": "off"},
    }
    return SettingsModel(**(values | sections))


class BalanceCheck(trio.abc.Instrument):
    """Looks at the equation after each step of any task: there is no await point which it misses."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self.steps = 0
        self.violations: list[ExporterStats] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        stats = self._exporter.stats()
        if not stats.balanced:
            self.violations.append(stats)


@dataclass(slots=True)
class Rig:
    exporter: Exporter
    worker: trio.SocketStream
    channel: WorkerChannel

    async def send(self, *messages: Message) -> None:
        """As the worker does."""
        for message in messages:
            await self.worker.send_all(frame(message))

    async def send_records(self, count: int, first: int = 1, **values: Any) -> None:
        await self.send(Records(make_exchanges(count, first, **values)))

    async def finish(self, seconds: float = 10.0) -> ExporterStats:
        """The worker ends in order, the exporter drains; nothing is left waiting."""
        await self.send(Drained())
        await self.worker.aclose()
        await self.exporter.drain(trio.current_time() + seconds)
        stats = self.exporter.stats()
        assert stats.waiting == 0
        return stats

    async def settled(self, captured: int) -> ExporterStats:
        """Until so many records came in and none is waiting."""
        return await self.until(lambda stats: stats.captured >= captured and not stats.waiting)

    async def until(self, condition: Callable[[ExporterStats], bool]) -> ExporterStats:
        """Until the books look like this."""
        while not condition(stats := self.exporter.stats()):  # noqa: ASYNC110 (its books have no event for each change)
            await trio.sleep(LOOK_INTERVAL)
        return stats


def connect_worker(exporter: Exporter, worker_id: int = 0) -> tuple[trio.SocketStream, WorkerChannel]:
    ours, theirs = socket.socketpair()
    channel = exporter.attach(theirs, worker_id)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), channel


@asynccontextmanager
async def open_rig(url: str, *, clock: Any = time.time, seconds: Any = 30.0, **sections: Any) -> AsyncIterator[Rig]:
    """An exporter to this URL with one worker attached. Leaving the block checks the books of the whole run, which
    takes ``seconds`` at most. ``clock`` tells unix time.
    """
    exporter = Exporter(settings(url, **sections), clock=clock, randomness=random.Random(1).random)
    check = BalanceCheck(exporter)
    trio.lowlevel.add_instrument(check)
    try:
        with trio.fail_after(seconds):
            async with trio.open_nursery() as nursery:
                await nursery.start(exporter.run)
                worker, channel = connect_worker(exporter)
                async with worker:
                    rig = Rig(exporter, worker, channel)
                    await rig.send(Ready(0))
                    yield rig
                nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(check)
    assert check.steps > 10
    assert not check.violations
    assert exporter.stats().balanced
    assert exporter.stats().waiting == 0
