"""The whole exporter between a worker's socket and a real backend that misbehaves. The books are checked at every step
(see ``rig.BalanceCheck``), and what arrived is read with OpenTelemetry's own messages.
"""

import logging
import socket
import threading

import pytest
import trio
import trio.lowlevel
from structlog.testing import capture_logs

from sp_proxy.channel.frames import Records, Totals, frame
from sp_proxy.exporter.encode import Encoder
from sp_proxy.exporter.pipeline import Exporter
from tests.exporter.rig import connect_worker, make_exchange, make_exchanges, open_rig, settings
from tests.misbehaving_backend import (
    answer,
    close_without_answer,
    cut_answer,
    huge_answer,
    never_answer,
    open_backend,
    partial_success,
    refused_url,
    reset_within_head,
    reset_without_answer,
    slow_body,
    speak_no_http,
)

ONE_BATCH = {"batch": {"max_records": 10, "flush_timeout": "1h"}}


def ids(backend) -> list[int]:
    return sorted(int.from_bytes(span.span_id) for span in backend.spans)


async def deliver(*behaviours, **sections):
    """Ten records in one batch; the books and the backend afterwards."""
    async with open_backend(*behaviours) as backend, open_rig(backend.url, **ONE_BATCH, **sections) as rig:
        await rig.send_records(10)
        stats = await rig.settled(10)
    return stats, backend


async def test_everything_arrives_once():
    async with open_backend() as backend, open_rig(backend.url) as rig:
        await rig.send_records(3)
        await rig.send_records(20, first=4)
        stats = await rig.finish()
    assert ids(backend) == list(range(1, 24))
    assert (stats.captured, stats.accepted, stats.rejected, stats.dropped) == (23, 23, 0, {})
    assert stats.bytes_sent == sum(len(received.body) for received in backend.received)
    assert stats.last_success_unix is not None
    assert stats.last_error == ""


async def test_a_request_has_many_spans_by_service_with_resource_and_scope():
    environ = {"HOSTNAME": "orders-1", "POD_NAME": "orders-1", "POD_NAMESPACE": "shop"}
    async with open_backend() as backend:
        exporter = Exporter(settings(backend.url, tags={"team": "checkout"}), environ)
        async with trio.open_nursery() as nursery:
            await nursery.start(exporter.run)
            worker, _ = connect_worker(exporter)
            await worker.send_all(
                frame(Records([*make_exchanges(2), make_exchange(3, service_name=b"payment"), make_exchange(4)]))
            )
            await worker.aclose()
            await exporter.drain(trio.current_time() + 5)
    (request,) = backend.requests
    resources = []
    for resource_spans in request.resource_spans:
        attributes = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
        (scope_spans,) = resource_spans.scope_spans
        assert scope_spans.scope.name == "sp-proxy"
        resources.append((attributes["service.name"], [int.from_bytes(span.span_id) for span in scope_spans.spans]))
        assert attributes["sp.public.key"] == "pk-secret"
        assert attributes["sp.resource.type"] == "sp-envoy-proxy"
        assert attributes["host.name"] == "orders-1"
        assert attributes["k8s.namespace.name"] == "shop"
        assert attributes["team"] == "checkout"
    assert resources == [("orders", [1, 2, 4]), ("payment", [3])]
    span = request.resource_spans[0].scope_spans[0].spans[0]
    assert span.name == "/orders?n=1"
    values = {pair.key: pair.value.string_value for pair in span.attributes}
    assert values["http.request.body"] == '{"sku":"A-1"}'


async def test_an_open_batch_is_sent_when_it_is_old_enough():
    async with open_backend() as backend, open_rig(backend.url, batch={"flush_timeout": "50ms"}) as rig:
        sent = trio.current_time()
        await rig.send_records(1)
        await backend.wait_received(1)
        assert trio.current_time() - sent >= 0.05


async def test_uploads_run_side_by_side_over_kept_connections():
    async with open_backend() as backend, open_rig(backend.url, upload={"concurrency": 3}) as rig:
        await rig.send_records(200)
        await rig.finish()
    assert len(backend.received) == 50
    assert backend.connections <= 3


@pytest.mark.parametrize("status", [200, 202])
async def test_accepted(status):
    stats, _ = await deliver(answer(status))
    assert (stats.accepted, stats.uploads) == (10, {"accepted": 1})


async def test_partial_success_is_not_sent_again():
    stats, backend = await deliver(partial_success(3, "too old"))
    assert (stats.accepted, stats.rejected, stats.uploads) == (7, 3, {"partial_success": 1})
    assert len(backend.received) == 1


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 500, 501])
async def test_permanent_is_dropped_and_not_sent_again(status):
    stats, backend = await deliver(answer(status, location="http://elsewhere.example/"))
    assert (stats.accepted, stats.dropped) == (0, {"permanent_error": 10})
    assert stats.uploads == {f"permanent:http_{status}": 1}
    assert len(backend.received) == 1
    assert str(status) in stats.last_error


async def test_413_splits_the_batch_until_it_is_taken():
    stats, backend = await deliver(answer(413), answer(413))
    assert (stats.accepted, stats.dropped) == (10, {})
    assert stats.uploads == {"too_large": 2, "accepted": 4}
    spans = [request.resource_spans[0].scope_spans[0].spans for request in backend.requests]
    assert [len(some) for some in spans] == [10, 5, 2, 3, 2, 3]  # the second half is not tried whole
    assert [int.from_bytes(span.span_id) for some in spans[2:] for span in some] == list(range(1, 11))


async def test_a_record_that_is_too_large_by_itself_is_lost_alone():
    # 10, 5 and 2 records are refused, then 1
    stats, backend = await deliver(*[answer(413)] * 4)
    assert (stats.accepted, stats.dropped) == (9, {"too_large": 1})
    assert len(backend.received[3].otlp().resource_spans[0].scope_spans[0].spans) == 1


async def test_a_payload_over_the_limit_is_split_before_it_is_sent():
    async with (
        open_backend() as backend,
        open_rig(backend.url, **ONE_BATCH, upload={"max_request_size": "16KiB", "compression": "none"}) as rig,
    ):
        await rig.send_records(10, request_body=bytes(3000), request_fields=b"")
        stats = await rig.settled(10)
    assert stats.accepted == 10
    assert len(backend.received) > 2
    assert all(len(received.body) <= 16 << 10 for received in backend.received)


@pytest.mark.parametrize(
    "behaviour,reason",
    [
        (answer(429), "http_429"),
        (answer(429, retry_after="0"), "http_429"),
        (answer(503, retry_after="Thu, 01 Jan 1970 00:00:00 GMT"), "http_503"),
        (answer(502), "http_502"),
        (answer(503), "http_503"),
        (answer(504), "http_504"),
        (reset_without_answer, "read_error"),
        (reset_within_head, "read_error"),
        (close_without_answer, "remote_protocol_error"),
        (speak_no_http, "remote_protocol_error"),
        (never_answer, "read_timeout"),
    ],
)
async def test_retryable_is_sent_again_until_accepted(behaviour, reason):
    upload = {"read_timeout": "300ms"} if behaviour is never_answer else {}
    stats, backend = await deliver(behaviour, behaviour, answer(), upload=upload)
    assert (stats.accepted, stats.dropped) == (10, {})
    assert stats.uploads == {f"retryable:{reason}": 2, "accepted": 1}
    first, second, third = backend.received
    assert first.body == second.body == third.body


async def test_retry_after_is_obeyed():
    _, backend = await deliver(answer(429, retry_after="1"))
    first, second = backend.received
    assert second.time - first.time >= 1.0


@pytest.mark.parametrize(
    "behaviour",
    [
        answer(200, b"\xff\xff", content_type="application/x-protobuf"),
        cut_answer(),
        slow_body(),
        huge_answer(16 << 20),
    ],
)
async def test_an_answer_that_cannot_be_read_is_accepted_once_and_counted(behaviour):
    stats, backend = await deliver(behaviour, upload={"read_timeout": "500ms"})
    assert (stats.accepted, stats.unreadable_answers, stats.uploads) == (10, 1, {"accepted": 1})
    assert len(backend.received) == 1


async def test_a_backend_that_is_down_costs_the_records_after_max_elapsed_time():
    retry = {"initial_interval": "10ms", "max_interval": "10ms", "max_elapsed_time": "200ms"}
    async with open_rig(refused_url(), **ONE_BATCH, retry=retry) as rig:
        await rig.send_records(10)
        stats = await rig.settled(10)
    assert stats.dropped == {"retries_exhausted": 10}
    assert stats.uploads["retryable:connect_error"] > 2
    assert "ConnectError" in stats.last_error


async def test_a_full_queue_drops_the_newest_and_never_blocks_the_intake():
    queue = {"max_records": 8, "max_size": "1MiB"}
    batch = {"max_records": 4, "flush_timeout": "1h"}
    async with (
        open_backend(never_answer, never_answer) as backend,
        open_rig(backend.url, queue=queue, batch=batch, upload={"concurrency": 2}) as rig,
    ):
        await rig.send_records(400)
        await backend.wait_received(2)
        stats = await rig.until(lambda stats: stats.captured == 400 and not stats.waiting_batch)
        assert stats.dropped == {"queue_full": 392}
        assert stats.in_flight == 8
        assert stats.queue_bytes > 0


async def test_a_queue_full_of_bytes_drops_too():
    async with (
        open_backend(never_answer) as backend,
        open_rig(backend.url, queue={"max_size": 1000}, upload={"concurrency": 1, "compression": "none"}) as rig,
    ):
        await rig.send_records(4, request_body=bytes(2000))
        stats = await rig.settled(4)
        assert stats.dropped == {"queue_full": 4}


async def test_a_drain_delivers_the_open_batch():
    async with open_backend() as backend, open_rig(backend.url, batch={"flush_timeout": "1h"}) as rig:
        await rig.send_records(5)
        stats = await rig.finish()
    assert ids(backend) == [1, 2, 3, 4, 5]
    assert stats.accepted == 5


async def test_a_drain_reads_what_is_still_in_the_channel():
    async with open_backend() as backend, open_rig(backend.url, batch={"max_records": 50}) as rig:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.send_records, 3000)
            await rig.channel.ready.wait()
            nursery.start_soon(rig.exporter.drain, trio.current_time() + 3)
            await trio.lowlevel.checkpoint()
        # the worker does not end its channel: half of the drain's time goes to listening to it
        assert rig.exporter.stats().accepted == 3000
    assert ids(backend) == list(range(1, 3001))


async def test_a_drain_ends_at_its_deadline_and_counts_the_rest():
    async with (
        open_backend(never_answer, never_answer) as backend,
        open_rig(backend.url, upload={"concurrency": 2}) as rig,
    ):
        await rig.send_records(20)
        await backend.wait_received(2)
        start = trio.current_time()
        stats = await rig.finish(seconds=0.3)
        assert 0.25 <= trio.current_time() - start < 2
    assert stats.dropped == {"shutdown": 20}


async def test_a_drain_does_not_wait_for_a_backend_that_is_down():
    retry = {"initial_interval": "20s", "max_interval": "20s", "max_elapsed_time": "5m"}
    async with open_rig(refused_url(), retry=retry) as rig:
        await rig.send_records(100)
        start = trio.current_time()
        stats = await rig.finish(seconds=10)
        assert trio.current_time() - start < 5
    assert stats.dropped == {"shutdown": 100}


async def test_a_hard_cancel_counts_what_waited():
    async with open_backend(never_answer) as backend, open_rig(backend.url, batch={"max_records": 4}) as rig:
        await rig.send_records(10)
        await backend.wait_received(1)
    stats = rig.exporter.stats()
    assert stats.captured == 10
    assert stats.dropped["shutdown"] + stats.accepted == 10
    assert stats.dropped["shutdown"] >= 4


async def test_a_broken_channel_is_closed_and_counted_and_the_others_go_on():
    with capture_logs() as logs:
        async with open_backend() as backend, open_rig(backend.url) as rig:
            foreign, channel = connect_worker(rig.exporter, worker_id=7)
            await foreign.send_all(frame(Records(make_exchanges(2))) + b"GET / HTTP/1.1\r\n\r\n")
            await channel.ended.wait()
            assert await foreign.receive_some(1) == b""
            await foreign.aclose()
            await rig.send_records(2, first=3)
            stats = await rig.finish()
    assert channel.error
    assert stats.channel_errors == 1
    assert ids(backend) == [1, 2, 3, 4]
    assert [line["worker_id"] for line in logs if line["event"] == "channel_closed"] == [7]


async def test_drops_announced_by_workers_add_up_over_restarts():
    async with open_backend() as backend, open_rig(backend.url) as rig:
        for totals in (3, 5), (2, 4):
            worker, channel = connect_worker(rig.exporter, worker_id=1)
            for total in totals:
                await worker.send_all(frame(Totals({"channel_dropped:channel_full": total, "captured": total})))
            await worker.aclose()
            await channel.ended.wait()
        stats = rig.exporter.stats()
    assert stats.channel_dropped == {"channel_full": 9}
    assert stats.workers[1].counters["captured"] == 9


async def test_a_fault_while_encoding_costs_the_batch_only(monkeypatch):
    calls = []

    def encode(self, exchanges):
        calls.append(threading.current_thread())
        if len(calls) == 1:
            raise ZeroDivisionError
        return original(self, exchanges)

    original = Encoder.encode
    monkeypatch.setattr(Encoder, "encode", encode)
    async with open_backend() as backend, open_rig(backend.url) as rig:
        await rig.send_records(8)
        stats = await rig.finish()
    assert (stats.accepted, stats.dropped) == (4, {"internal_error": 4})
    assert ids(backend) == [5, 6, 7, 8]
    assert threading.main_thread() not in calls


async def test_attach_needs_a_running_exporter():
    exporter = Exporter(settings("http://127.0.0.1:9"))
    ours, theirs = socket.socketpair()
    with ours, pytest.raises(RuntimeError, match="not running"):
        exporter.attach(theirs)
    assert theirs.fileno() == -1
    await exporter.drain(trio.current_time() + 1)


async def test_neither_the_public_key_nor_a_body_is_logged(caplog):
    caplog.set_level(logging.DEBUG)
    with capture_logs() as logs:
        await deliver(answer(503), reset_without_answer, answer(401, b"pk-secret is not known"))
    written = repr(logs) + caplog.text
    assert logs
    assert "pk-secret" not in written
    assert "A-1" not in written


async def test_a_frame_that_is_not_whole_yet_counts_as_held():
    """A worker's frame may be large, and there are many workers."""
    whole = frame(Records(make_exchanges(1, request_body=bytes(2 << 20))))
    async with open_backend() as backend, open_rig(backend.url) as rig:
        await rig.worker.send_all(whole[:-1])
        stats = await rig.until(lambda stats: stats.held_bytes == len(whole) - 1)
        assert stats.captured == 0
        await rig.worker.send_all(whole[-1:])
        stats = await rig.settled(1)
        assert (stats.accepted, stats.held_bytes) == (1, 0)


async def test_in_haste_a_batch_does_not_wait_and_an_attempt_is_made_at_once():
    slow = {"initial_interval": "1h", "max_interval": "1h", "max_elapsed_time": "2h"}
    never = {"batch": {"max_records": 10, "flush_timeout": "1h"}}
    async with open_backend(answer(503)) as backend, open_rig(backend.url, retry=slow, **never) as rig:
        await rig.send_records(10)
        await rig.until(lambda stats: stats.uploads.get("retryable:http_503") == 1)
        await rig.send_records(5, first=11)
        await rig.until(lambda stats: stats.waiting_batch == 5)
        rig.exporter.hasten(trio.current_time() + 10)
        await rig.until(lambda stats: stats.accepted == 15)
        await rig.send_records(1, first=16)
        await rig.until(lambda stats: stats.accepted == 16)
