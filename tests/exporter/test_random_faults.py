"""Faults of our own at random, in every stage, with a backend that flaps: at each step every record is in exactly one place
(``rig.BalanceCheck``), and when the faults are over all of them are decided.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.exporter.batch import BatchStage
from sp_proxy.exporter.delivery import Delivery
from sp_proxy.exporter.queue import MemoryQueue
from sp_proxy.exporter.spool import Spool
from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.exporter.spool_queue import SpoolQueue
from sp_proxy.exporter.upload import OtlpHttp
from tests.exporter.rig import open_rig
from tests.misbehaving_backend import answer, open_backend

PLACES: tuple[tuple[type, str], ...] = (
    (BatchStage, "next"),
    (MemoryQueue, "append"),
    (SpoolQueue, "lease"),
    (SpoolQueue, "_store"),
    (SpoolQueue, "_read"),
    (Spool, "open"),
    (Spool, "append"),
    (Spool, "lease"),
    (Spool, "tidy"),
    (SpoolFiles, "write"),
    (SpoolFiles, "read"),
    (SpoolFiles, "remove"),
    (Delivery, "_may_send"),
    (Delivery, "_attempt"),
    (OtlpHttp, "send"),
)
FRAMES = 15
PER_FRAME = 4


class Chance:
    """Whether to fail, now."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rate = 0.0
        self.faults = 0

    def planted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*args: Any, **kwargs: Any) -> Any:
            if self.random.random() < self.rate:
                self.faults += 1
                raise RuntimeError("a planted fault")
            return function(*args, **kwargs)

        return failing


@pytest.mark.parametrize("mode", ["overflow", "always"])
@pytest.mark.parametrize("seed", range(5))
async def test_faults_at_random(seed, mode, tmp_path, monkeypatch):
    monkeypatch.setattr("sp_proxy.exporter.keeping.RestartPolicy", lambda: RestartPolicy(initial=0.01, maximum=0.05))
    chance = Chance(seed)
    for place, name in PLACES:
        monkeypatch.setattr(place, name, chance.planted(getattr(place, name)))
    sections = {
        "spool": {"mode": mode, "directory": str(tmp_path), "overflow_after": "10ms"},
        "batch": {"max_records": PER_FRAME, "flush_timeout": "5ms"},
        "retry": {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "100ms"},
        "queue": {"max_records": 10 * PER_FRAME},
    }
    async with open_backend() as backend, open_rig(backend.url, seconds=60.0, **sections) as rig:
        chance.rate = (0.02, 0.1, 0.3)[seed % 3]
        for number in range(FRAMES):
            await rig.send_records(PER_FRAME, first=1 + number * PER_FRAME)
            backend.otherwise = answer(chance.random.choice([200, 200, 503, 413]))
            await trio.sleep(chance.random.random() * 0.02)
        await rig.until(lambda stats: stats.captured == FRAMES * PER_FRAME and not stats.waiting_batch)
        chance.rate = 0.0
        backend.otherwise = answer()
        stats = await rig.until(lambda stats: not stats.waiting and not stats.spooled and not stats.down)
    assert chance.faults or seed % 3 == 0  # which may be lucky
    assert stats.accepted + sum(stats.dropped.values()) == FRAMES * PER_FRAME
    assert set(stats.dropped) <= {"internal_error", "queue_full", "too_large"}
    delivered = {int.from_bytes(span.span_id) for span in backend.spans}
    assert len(delivered) >= stats.accepted
    assert not list(tmp_path.rglob("*.entry"))
