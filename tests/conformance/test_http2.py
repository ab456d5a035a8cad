"""HTTP/2 conversations through a real worker process: both ends see what they see directly, and the records are right."""

import importlib
import socket
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from sp_proxy.core.exchange import Exchange
from sp_proxy.core.inject import HeaderConfig
from tests.conformance.http2_play import CHECKS, Played, Script, differences, play
from tests.relay.running_worker import RunningWorker, listening

for module in ("settings", "blocks", "frames", "streams", "malformed"):
    importlib.import_module(f"tests.conformance.http2_{module}")


class Rig:
    """A worker, the server behind it, and the books of what has been played."""

    def __init__(self, worker: RunningWorker, listener: socket.socket) -> None:
        self.worker = worker
        self.listener = listener
        self.raw: Counter[str] = Counter()
        self.records = 0

    def both(self, script: Script) -> tuple[Played, Played]:
        """Directly, and through the worker."""
        self.raw["raw:" + script.raw] += bool(script.raw)
        self.records += len(script.records)
        direct = play(script, partial(socket.create_connection, self.listener.getsockname()), self.listener)
        return direct, play(script, self.worker.connect, self.listener)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with (
        listening() as listener,
        RunningWorker(listener.getsockname(), headers=HeaderConfig("shop")) as worker,
    ):
        yield Rig(worker, listener)


@pytest.mark.parametrize("name", CHECKS)
def test_conversation(name: str, rig: Rig) -> None:
    script = CHECKS[name](f"/{name}")
    direct, relayed = rig.both(script)
    assert differences(script, direct, relayed) == []

    def records() -> list[Exchange]:
        """The check's name is in the target. (A client's port comes again.)"""
        targets = (f"/{name}".encode(), f"{name}:80".encode())
        return [each for each in list(rig.worker.exchanges) if each.target in targets]

    rig.worker.wait(lambda: len(records()) >= len(script.records))
    exchanges = sorted(records(), key=lambda each: each.start_unix_ns)
    found = [(each.method.decode(), each.target.decode(), each.status, each.error) for each in exchanges]
    assert sorted(found) == sorted(script.records)
    if script.bodies is not None:
        assert [(each.request_body, each.response_body) for each in exchanges] == list(script.bodies)
    if script.trailers is not None:
        assert [(each.request_trailers, each.response_trailers) for each in exchanges] == list(script.trailers)


def test_the_books_of_all_of_them(rig: Rig) -> None:
    """Behind the others: no connection is left, nothing was recorded beyond what was asked for, each reason was counted."""
    worker = rig.worker
    worker.wait(lambda: worker.gauges.get("connections_open") == 0)
    worker.wait(lambda: worker.counters.get("captured", 0) == rig.records)
    assert len(worker.exchanges) == rig.records
    assert +Counter({name: count for name, count in worker.counters.items() if name.startswith("raw:")}) == +rig.raw
    assert worker.counters.get("tap_faults", 0) == 0
