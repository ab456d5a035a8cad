"""Other settings at run time: nothing is lost or sent twice, the books balance at every step, and what must not leave does
not leave.
"""

import socket
from typing import Any

import pytest
import trio

from sp_proxy.channel.frames import Drained, Records, frame
from sp_proxy.exporter.pipeline import Exporter
from tests.certificate_authority import CertificateAuthority
from tests.exporter.rig import Rig, connect_worker, make_exchange, make_exchanges, open_rig, settings
from tests.misbehaving_backend import Backend, answer, never_answer, open_backend, refused_url

CARD = b"4111111111111111"


def ids(*backends: Backend) -> list[int]:
    """Of all that was sent there, refused or not, each once."""
    return sorted({int.from_bytes(span.span_id) for backend in backends for span in backend.spans})


def bodies(backend: Backend) -> bytes:
    return b"".join(received.otlp().SerializeToString() for received in backend.received)


async def change(rig: Rig, url: str, **sections: Any) -> None:
    await rig.exporter.apply(rig.exporter.prepare(settings(url, **sections)))


async def test_redaction_batches_and_limits_are_in_force_at_once():
    off = {"detectors": {"payment_card": "off"}}
    async with open_backend() as backend, open_rig(backend.url, redaction=off) as rig:
        await rig.send_records(4, request_body=CARD)
        await rig.settled(4)
        assert CARD in bodies(backend)
        backend.received.clear()
        await change(rig, backend.url, batch={"max_records": 2, "flush_timeout": "1h"})
        await rig.send_records(4, first=5, request_body=CARD)
        await rig.settled(8)
        assert CARD not in bodies(backend)
        assert [len(each.otlp().resource_spans[0].scope_spans[0].spans) for each in backend.received] == [2, 2]
        await change(rig, backend.url, exporter={"max_memory": "32MiB"}, queue={"max_size": 1, "max_records": 4})
        await rig.send_records(4, first=9)
        stats = await rig.settled(12)
    assert (stats.accepted, stats.dropped) == (8, {"queue_full": 4})


async def test_an_open_batch_does_not_wait_for_its_old_age():
    async with open_backend() as backend, open_rig(backend.url, batch={"flush_timeout": "1h"}) as rig:
        await rig.send_records(1)
        await rig.until(lambda stats: stats.waiting_batch == 1)
        await change(rig, backend.url, batch={"flush_timeout": "10ms"})
        await rig.settled(1)
    assert ids(backend) == [1]


async def test_another_backend_gets_what_comes_and_the_old_one_what_was_meant_for_it():
    async with open_backend(*[answer(503)] * 3) as old, open_backend() as new, open_rig(old.url) as rig:
        await rig.send_records(40)
        await rig.until(
            lambda stats: stats.waiting_batch == 0 and stats.waiting_queue + stats.in_flight + stats.accepted == 40
        )
        await change(rig, new.url)
        await rig.send_records(8, first=41)
        stats = await rig.settled(48)
    assert ids(old) == list(range(1, 41))
    assert ids(new) == list(range(41, 49))
    assert (stats.accepted, stats.dropped) == (48, {})
    (only,) = stats.destinations
    assert only.elsewhere == 0


async def test_what_waits_is_sent_with_the_new_key_in_the_same_place():
    async with open_backend(*[answer(503)] * 1000) as backend, open_rig(backend.url) as rig:
        await rig.send_records(12)
        await rig.until(lambda stats: stats.uploads.get("retryable:http_503", 0) > 3)
        await change(
            rig, backend.url, public_key="pk-rotated", retry={"initial_interval": "20ms", "max_elapsed_time": "5s"}
        )
        tried = len(backend.received)
        backend.script.clear()
        stats = await rig.settled(12)
        assert {each.headers["x-public-key"] for each in backend.received[tried + 8 :]} <= {"pk-rotated"}
        await rig.send_records(4, first=13)
        stats = await rig.settled(16)
    assert backend.received[-1].headers["x-public-key"] == "pk-rotated"
    assert (stats.accepted, stats.dropped) == (16, {})


async def test_an_upload_that_hangs_is_cut_off_and_made_again(monkeypatch):
    monkeypatch.setattr("sp_proxy.exporter.outlet.STOP_SECONDS", 0.05)
    async with open_backend(never_answer, never_answer) as backend, open_rig(backend.url) as rig:
        await rig.send_records(8)
        await rig.until(lambda stats: stats.in_flight == 8)
        await change(rig, backend.url, upload={"concurrency": 1})
        stats = await rig.settled(8)
    assert stats.accepted == 8
    assert stats.destinations[0].concurrency == 1


async def test_exporters_come_and_go_each_with_books_of_its_own():
    async with open_backend() as one, open_backend() as two, open_rig(one.url) as rig:
        first = {"type": "otlp", "name": "one", "url": one.url}
        second = {"type": "otlp", "name": "two", "url": two.url}
        await change(rig, one.url, exporters=[first])
        await rig.until(lambda stats: [each.name for each in stats.destinations] == ["one"])
        await rig.send_records(4)
        await rig.settled(4)
        await change(rig, one.url, exporters=[first, second])
        await rig.send_records(4, first=5)
        stats = await rig.settled(8)
        assert [(each.name, each.elsewhere, each.accepted) for each in stats.destinations] == [
            ("one", 0, 8),
            ("two", 4, 4),
        ]
        await change(rig, one.url, exporters=[second])
        await rig.until(lambda stats: [each.name for each in stats.destinations] == ["two"])
        await rig.send_records(4, first=9)
        await rig.settled(12)
        await change(rig, one.url, exporters=[first, second])
        stats = await rig.settled(12)
        assert [(each.name, each.elsewhere, each.accepted) for each in stats.destinations] == [
            ("two", 4, 8),
            ("one", 12, 0),
        ]
        assert stats.balanced
    assert ids(one) == list(range(1, 9))
    assert ids(two) == list(range(5, 13))


async def test_one_that_is_taken_back_before_it_has_ended_has_the_same_books():
    async with open_backend(*[answer(503)] * 1000) as one, open_backend() as two, open_rig(one.url) as rig:
        first = {"type": "otlp", "name": "one", "url": one.url}
        second = {"type": "otlp", "name": "two", "url": two.url}
        await change(rig, one.url, exporters=[first, second])
        await rig.send_records(8)
        await rig.until(lambda stats: stats.destinations[-1].accepted == 8)
        await change(rig, one.url, exporters=[second])
        await rig.send_records(4, first=9)
        await rig.until(lambda stats: stats.captured == 12 and not stats.waiting_batch)
        await change(rig, one.url, exporters=[first, second])
        one.script.clear()
        await rig.send_records(4, first=13)
        stats = await rig.settled(16)
        known = {each.name: (each.elsewhere, each.accepted) for each in stats.destinations}
        assert known == {"one": (4, 12), "two": (0, 16)}
    assert ids(one) == [*range(1, 9), *range(13, 17)]


@pytest.mark.parametrize("mode", ["overflow", "always"])
async def test_what_is_spooled_for_one_backend_waits_for_it(tmp_path, mode):
    spool = {"mode": mode, "directory": str(tmp_path), "overflow_after": "10ms"}
    async with (
        open_backend(*[answer(503)] * 10_000) as old,
        open_backend() as new,
        open_rig(old.url, spool=spool) as rig,
    ):
        await rig.send_records(40)
        await rig.until(lambda stats: stats.captured == 40 and not stats.waiting_batch and not stats.waiting_queue)
        await change(rig, new.url, spool=spool)
        await rig.send_records(4, first=41)
        await rig.until(lambda stats: stats.accepted == 4)
        # Back, while the first way out is still there: it is the same one, with its lock on the spool.
        old.script.clear()
        await change(rig, old.url, spool=spool)
        await rig.send_records(4, first=45)
        stats = await rig.until(lambda stats: stats.accepted == 48)
        assert (stats.spooled, stats.recovered, stats.dropped) == (0, 0, {})
    assert ids(old) == [*range(1, 41), *range(45, 49)]
    assert ids(new) == list(range(41, 45))


async def test_what_an_old_backend_never_takes_is_left_on_disk_and_in_the_books(tmp_path):
    spool = {"mode": "overflow", "directory": str(tmp_path)}
    short = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "300ms"}
    gone = refused_url()
    async with open_backend() as new, open_rig(gone, spool=spool, retry=short) as rig:
        await rig.send_records(8)
        await rig.until(lambda stats: stats.captured == 8 and not stats.waiting_batch)
        await change(rig, new.url, spool=spool, retry=short)
        await rig.send_records(4, first=9)
        stats = await rig.until(lambda stats: stats.accepted == 4 and stats.spooled == 8 and not stats.waiting)
        # And once more there: what was left is found again.
        await change(rig, gone, spool=spool, retry=short)
        stats = await rig.until(lambda stats: stats.recovered == 8)
        assert stats.spooled + stats.in_flight == 16
        await change(rig, new.url, spool=spool, retry=short)
        stats = await rig.until(lambda stats: stats.spooled == 16)
    assert stats.dropped == {}
    assert ids(new) == list(range(9, 13))


async def test_without_a_spool_it_is_given_up_after_the_time_that_it_has_anyway():
    short = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "200ms"}
    async with open_backend() as new, open_rig(refused_url(), retry=short) as rig:
        await rig.send_records(8)
        await rig.until(lambda stats: stats.captured == 8 and not stats.waiting_batch)
        await change(rig, new.url, retry=short)
        stats = await rig.until(lambda stats: stats.dropped.get("retries_exhausted") == 8)
    assert stats.accepted == 0


async def test_a_spool_is_switched_on_and_off(tmp_path):
    on = {"mode": "always", "directory": str(tmp_path)}
    async with open_backend() as backend, open_rig(backend.url) as rig:
        for number, spool in enumerate([on, {"mode": "off"}, on, on | {"max_size": "2MiB", "fsync": True}]):
            await change(rig, backend.url, spool=spool)
            await rig.send_records(4, first=1 + 4 * number)
            stats = await rig.until(lambda stats, count=4 * number + 4: stats.accepted == count)  # type: ignore[misc]
    assert ids(backend) == list(range(1, 17))
    assert stats.accepted == 16


async def test_under_load_nothing_is_lost_whatever_changes(tmp_path):
    async with open_backend() as one, open_backend() as two, open_rig(one.url) as rig:

        async def load(first: int) -> None:
            for start in range(first, first + 100, 20):
                await rig.send(Records(make_exchanges(20, start)))
                await trio.sleep(0.002)

        for turn in range(6):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(load, turn * 100 + 1)
                await change(
                    rig,
                    (one, two)[turn % 2].url,
                    public_key=f"k{turn}",
                    upload={"concurrency": 1 + turn % 3},
                    spool={"mode": "always" if turn % 3 else "off", "directory": str(tmp_path)},
                    batch={"max_records": 4 + turn % 5, "flush_timeout": "5ms"},
                    redaction={"binary_bodies": ("keep", "drop")[turn % 2]},
                )
        stats = await rig.until(lambda stats: stats.accepted == 600)
    assert stats.dropped == {}
    assert ids(one, two) == list(range(1, 601))


async def test_records_of_older_workers_are_redacted_as_then_and_as_now():
    """A reload that lets more in and takes more out, and the reverse: neither leaks, whichever worker it came from."""
    then = {"rules": [{"headers": ["x-then"]}]}
    now = {"rules": [{"headers": ["x-now"]}]}
    fields = b"x-then: SECRET-1\r\nx-now: SECRET-2\r\n"
    async with open_backend() as backend, open_rig(backend.url, redaction=then) as rig:
        exporter: Exporter = rig.exporter
        prepared = exporter.prepare(settings(backend.url, redaction=now))
        edition = exporter.open_edition(prepared)
        ours, channel = connect_worker(exporter, 0)
        theirs, _ = connect_worker_of(exporter, edition)
        async with ours, theirs:
            # Before they are in force already, new workers' records are redacted as the new settings say.
            await theirs.send_all(frame(Records([make_exchange(1, request_fields=fields)])))
            await rig.settled(1)
            assert (b"SECRET-1" in bodies(backend), b"SECRET-2" in bodies(backend)) == (True, False)
            backend.received.clear()
            await exporter.apply(prepared, edition)
            await ours.send_all(frame(Records([make_exchange(2, request_fields=fields)])))
            await rig.settled(2)
            assert b"SECRET" not in bodies(backend)
            backend.received.clear()
            await theirs.send_all(frame(Records([make_exchange(3, request_fields=fields)])))
            await rig.settled(3)
            assert (b"SECRET-1" in bodies(backend), b"SECRET-2" in bodies(backend)) == (True, False)
            assert len(exporter._editions) == 2
            # What an old worker says last is taken; with the last of them its edition ends.
            await ours.send_all(frame(Records([make_exchange(4, request_fields=fields)])) + frame(Drained()))
            await ours.aclose()
            await rig.send(Drained())
            await rig.worker.aclose()
            await rig.settled(4)
            while len(exporter._editions) > 1:
                await trio.lowlevel.checkpoint()
            assert channel.ended.is_set()
    assert ids(backend) == [3, 4]


async def test_settings_that_do_not_come_into_force_leave_nothing_behind():
    async with open_backend() as backend, open_rig(backend.url) as rig:
        exporter = rig.exporter
        edition = exporter.open_edition(exporter.prepare(settings(backend.url, tags={"a": "b"})))
        worker, _ = connect_worker_of(exporter, edition)
        async with worker:
            await worker.send_all(frame(Records([make_exchange(1)])))
            await rig.settled(1)
            exporter.abandon(edition)
            await worker.send_all(frame(Records([make_exchange(2)])))
        await rig.settled(2)
        while len(exporter._editions) > 1:
            await trio.lowlevel.checkpoint()
        with pytest.raises(ValueError, match=r"upload.ca_file: /nowhere: No such file"):
            exporter.prepare(settings(backend.url, upload={"ca_file": "/nowhere"}))
        await rig.send_records(1, first=3)
        await rig.settled(3)
    assert ids(backend) == [1, 2, 3]


async def test_a_certificate_that_was_renewed_is_a_difference(tmp_path):
    one, two = (CertificateAuthority(tmp_path, name) for name in ("one", "two"))
    path = tmp_path / "ca.pem"
    path.write_bytes(one.ca_file.read_bytes())
    same = settings("https://backend.example", upload={"ca_file": str(path)})
    exporter = Exporter(same)
    assert not exporter.differs(exporter.prepare(same))
    path.write_bytes(two.ca_file.read_bytes())
    assert exporter.differs(exporter.prepare(same))


def connect_worker_of(exporter, edition):
    ours, theirs = socket.socketpair()
    channel = exporter.attach(theirs, 0, edition)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), channel
