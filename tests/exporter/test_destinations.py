"""Destinations side by side, and one that is down beside one that is not."""

from tests.exporter.rig import open_rig
from tests.misbehaving_backend import answer, open_backend, refused_url


async def test_headers_go_to_their_own_destination_only(tmp_path):
    async with open_backend() as softprobe, open_backend() as collector:
        exporters = [
            {"type": "softprobe", "url": softprobe.url},
            {"type": "otlp", "url": collector.url, "headers": {"Authorization": "Bearer t"}},
        ]
        async with open_rig(softprobe.url, exporters=exporters) as rig:
            await rig.send_records(4)
            stats = await rig.finish()
    (first,), (second,) = softprobe.received, collector.received
    assert (first.headers["x-public-key"], first.headers.get("authorization")) == ("pk-secret", None)
    assert (second.headers.get("x-public-key"), second.headers["authorization"]) == (None, "Bearer t")
    assert b"pk-secret" not in second.otlp().SerializeToString()
    assert [each.accepted for each in stats.destinations] == [4, 4]
    assert stats.accepted == 8


async def test_one_that_is_down_does_not_stop_the_others(tmp_path):
    path = tmp_path / "spans.jsonl"
    async with open_backend() as up, open_backend(*[answer(503)] * 1000) as failing:
        exporters = [
            {"type": "otlp", "name": "gone", "url": refused_url()},
            {"type": "otlp", "name": "failing", "url": failing.url},
            {"type": "otlp", "name": "up", "url": up.url},
            {"type": "file", "path": str(path)},
        ]
        async with open_rig(up.url, exporters=exporters) as rig:
            await rig.send_records(200)
            await rig.until(lambda stats: [each.accepted for each in stats.destinations[2:]] == [200, 200])
            stats = await rig.finish(0.2)
    gone, failing_stats, up_stats, file_stats = stats.destinations
    assert (up_stats.accepted, file_stats.accepted) == (200, 200)
    assert gone.dropped == failing_stats.dropped == {"shutdown": 200}
    assert gone.breaker == "open" or gone.breaker_opened
    assert len(path.read_bytes().splitlines()) == 50


async def test_what_could_not_be_sent_is_sent_in_the_next_life(tmp_path):
    spool = {"mode": "overflow", "directory": str(tmp_path)}
    async with open_backend(*[answer(503)] * 1000) as backend:
        async with open_rig(backend.url, spool=spool) as rig:
            await rig.send_records(40)
            stats = await rig.finish(0.2)
        assert (stats.accepted, stats.dropped, stats.spooled) == (0, {}, 40)
        backend.script.clear()
        sent = len(backend.received)
        async with open_rig(backend.url, spool=spool) as rig:
            await rig.send_records(4, first=41)
            await rig.until(lambda stats: stats.accepted == 44)
            stats = await rig.finish()
        assert (stats.recovered, stats.captured, stats.accepted, stats.spooled) == (40, 4, 44, 0)
    delivered = {
        int.from_bytes(span.span_id)
        for received in backend.received[sent:]
        for resource in received.otlp().resource_spans
        for span in resource.scope_spans[0].spans
    }
    assert delivered == set(range(1, 45))


async def test_with_always_a_hard_end_loses_only_what_was_not_in_a_closed_batch(tmp_path):
    spool = {"mode": "always", "directory": str(tmp_path)}
    batch = {"max_records": 4, "flush_timeout": "1h"}
    async with open_backend(*[answer(503)] * 1000) as backend:
        async with open_rig(backend.url, spool=spool, batch=batch) as rig:
            await rig.send_records(22)
            await rig.until(lambda stats: stats.captured == 22 and stats.waiting_batch == 2 and not stats.waiting_queue)
        stats = rig.exporter.stats()
    assert stats.dropped == {"shutdown": 2}
    assert stats.spooled == 20


async def test_the_ceiling_is_held_by_dropping_the_newest():
    sections = {
        "exporter": {"max_memory": "32MiB"},
        "queue": {"max_size": "1GiB"},
        "upload": {"compression": "none"},
        "batch": {"max_records": 64, "max_size": "1MiB"},
    }
    async with open_backend(*[answer(503)] * 1000) as backend, open_rig(backend.url, **sections) as rig:
        for start in range(1, 4000, 20):
            await rig.send_records(20, first=start, request_body=bytes(10_000), request_body_size=10_000)
        stats = await rig.until(lambda stats: stats.captured == 4000 and not stats.waiting_batch)
        assert stats.held_bytes <= 16 << 20
        assert stats.shed["memory_limit"] > 2000
        assert stats.waiting_queue + stats.in_flight + stats.shed["memory_limit"] == 4000
