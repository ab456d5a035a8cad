"""The fault matrix: every way in which a backend misbehaves, and for each what becomes of the records.

A fault is one of three kinds. *Retried*: nothing is lost while it passes; if it lasts, records stay in the spool, and
without one are lost with ``retries_exhausted``. *Refused*: what was sent is lost with ``permanent_error``, and no more.
*Taken*: the backend has said that it has the records, whatever else was wrong with its answer.

In each run the fault holds until all records are in, so an intake that waited for the backend would never see the end;
and the books are checked at every step (``rig.BalanceCheck``). Sockets, HTTP and TLS are real.
"""

import socket
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sp_proxy.exporter.stats import ExporterStats
from sp_proxy.exporter.upload import MAX_ANSWER_BYTES
from tests.certificate_authority import CertificateAuthority
from tests.exporter.rig import Rig, open_rig
from tests.misbehaving_backend import (
    Backend,
    Behaviour,
    answer,
    close_without_answer,
    cut_answer,
    endless_head,
    huge_answer,
    interim_answers,
    never_answer,
    open_backend,
    partial_success,
    refused_url,
    reset_within_head,
    reset_without_answer,
    slow_answer,
    slow_body,
    speak_no_http,
)

RECORDS = 40
PER_BATCH = 4
TIMES = {"retry": {"initial_interval": "10ms", "max_interval": "40ms", "max_elapsed_time": "1h"}}
SHORT_RETRY = {"initial_interval": "10ms", "max_interval": "40ms", "max_elapsed_time": "100ms"}
UPLOAD = {"concurrency": 4, "read_timeout": "300ms", "timeout": "600ms"}
GIB = 1 << 30

Kind = Literal["retried", "refused", "taken"]


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, and what is made of it."""

    kind: Kind
    uploads: str
    """The counter of such an attempt."""
    behave: Behaviour = field(default_factory=answer)
    rejected: int = 0
    """Of each batch."""
    reason: str = ""
    """Why, in the backend's words."""
    unreadable: bool = False
    seen: bool = True
    """The backend gets to see whole requests."""


def retried(reason: str, behave: Behaviour, *, seen: bool = True) -> Fault:
    return Fault("retried", f"retryable:{reason}", behave, seen=seen)


def refused(status: int, **headers: str) -> Fault:
    return Fault("refused", f"permanent:http_{status}", answer(status, b"no", **headers))


def unreadable(behave: Behaviour) -> Fault:
    return Fault("taken", "accepted", behave, unreadable=True)


FAULTS = {
    "400": refused(400),
    "401": refused(401),
    "403": refused(403),
    "404": refused(404),
    "405": refused(405),
    "500": refused(500),
    "501": refused(501),
    "301 to another host": refused(301, location="http://elsewhere.example/v1/traces"),
    "307 to another host": refused(307, location="http://elsewhere.example/v1/traces"),
    "308 to nowhere": refused(308),
    "429": retried("http_429", answer(429)),
    "429 retry-after seconds": retried("http_429", answer(429, retry_after="0")),
    "429 retry-after date": retried("http_429", answer(429, retry_after="Thu, 01 Jan 1970 00:00:00 GMT")),
    "429 retry-after nonsense": retried("http_429", answer(429, retry_after="soon")),
    "502": retried("http_502", answer(502)),
    "503": retried("http_503", answer(503)),
    "503 cut off": retried("http_503", cut_answer(503)),
    "504": retried("http_504", answer(504)),
    "never answers": retried("read_timeout", never_answer),
    "resets before the answer": retried("read_error", reset_without_answer),
    "resets within the head": retried("read_error", reset_within_head),
    "closes before the answer": retried("remote_protocol_error", close_without_answer),
    "speaks no HTTP": retried("remote_protocol_error", speak_no_http),
    "a head byte by byte, too slow": retried("timeout", slow_answer(pause=0.1)),
    "a head without an end": retried("remote_protocol_error", endless_head()),
    "100 (Continue) for ever": retried("timeout", interim_answers),
    "200 byte by byte": Fault("taken", "accepted", slow_answer(pause=0.002)),
    "200 with a body without an end": unreadable(slow_body()),
    "200 reset within the body": unreadable(cut_answer()),
    "200 with 1 GiB": unreadable(huge_answer(GIB)),
    "200 with invalid protobuf": unreadable(answer(200, b"\xff\xff", content_type="application/x-protobuf")),
    "200 with a page": unreadable(answer(200, b"<html>hello</html>", content_type="text/html")),
    "200 encoded": unreadable(answer(200, b"\x1f\x8b", content_encoding="gzip")),
    "partial success": Fault("taken", "partial_success", partial_success(1, "too old"), rejected=1, reason="too old"),
    "partial success of more than there is": Fault(
        "taken", "partial_success", partial_success(1 << 40, "all"), rejected=PER_BATCH, reason="all"
    ),
    "partial success of less than nothing": Fault("taken", "partial_success", partial_success(-5, "odd")),
}


def ids(backend: Backend) -> Counter[int]:
    return Counter(int.from_bytes(span.span_id) for span in backend.spans)


def rig_to(backend: Backend, **sections: Any) -> AbstractAsyncContextManager[Rig]:
    values = {"batch": {"max_records": PER_BATCH, "flush_timeout": "1h"}, "upload": UPLOAD, **TIMES}
    return open_rig(backend.url, **(values | sections))


async def take_in(rig: Rig, count: int = RECORDS, first: int = 1) -> ExporterStats:
    """The worker sends, and the exporter takes it, whatever the backend does meanwhile. No frame waits."""
    for number in range(first, first + count, PER_BATCH):
        await rig.send_records(min(PER_BATCH, first + count - number), first=number)
        await rig.until(lambda stats, end=number + PER_BATCH - 1: stats.captured >= end)  # type: ignore[misc]
    stats = rig.exporter.stats()
    assert not stats.shed
    assert not stats.channel_dropped
    return stats


def check_books(stats: ExporterStats, fault: Fault, faulty: int, total: int = RECORDS) -> None:
    """``faulty`` attempts met the fault, all others were accepted."""
    batches = -(-total // PER_BATCH)
    assert stats.balanced
    assert stats.waiting == stats.spooled == 0
    match fault.kind:
        case "retried":
            assert (stats.accepted, stats.rejected, stats.dropped) == (total, 0, {})
            assert stats.uploads == {fault.uploads: faulty, "accepted": batches}
        case "refused":
            assert stats.dropped == {"permanent_error": faulty * PER_BATCH}
            assert (stats.accepted, stats.rejected) == (total - faulty * PER_BATCH, 0)
            assert stats.uploads == {fault.uploads: faulty} | (
                {"accepted": batches - faulty} if faulty < batches else {}
            )
        case "taken":
            assert stats.dropped == {}
            assert (stats.accepted, stats.rejected) == (
                total - faulty * fault.rejected,
                faulty * fault.rejected,
            )
            assert sum(stats.uploads.values()) == batches
            assert stats.destinations[0].rejections == ({fault.reason: stats.rejected} if fault.rejected else {})
            assert stats.unreadable_answers == (faulty if fault.unreadable else 0)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_passes(name):
    """It holds until all records are in and three attempts have met it; then the backend is well."""
    fault = FAULTS[name]
    async with open_backend() as backend:
        backend.otherwise = fault.behave
        async with rig_to(backend, upload=UPLOAD | {"concurrency": 2}) as rig:
            await take_in(rig)
            await backend.wait_received(3)
            backend.otherwise = answer()
            # those that met the fault are still told of it
            stats = await rig.settled(RECORDS)
    faulty = len(backend.received) - stats.uploads.get("accepted", 0)
    if fault.kind == "taken":
        faulty = stats.unreadable_answers or stats.uploads.get("partial_success", 0)
    assert faulty >= 3 or name == "200 byte by byte"
    check_books(stats, fault, faulty)
    delivered = ids(backend)
    assert set(delivered) == set(range(1, RECORDS + 1))
    # what was sent more than once was retried, and nothing else
    assert delivered.total() - RECORDS == (faulty * PER_BATCH if fault.kind == "retried" else 0)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_lasts_without_a_spool(name):
    fault = FAULTS[name]
    async with open_backend() as backend:
        backend.otherwise = fault.behave
        async with rig_to(backend, retry=SHORT_RETRY) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    if fault.kind == "retried":
        assert (stats.accepted, stats.rejected, stats.dropped) == (0, 0, {"retries_exhausted": RECORDS})
        assert set(stats.uploads) == {fault.uploads}
        assert stats.last_error
    else:
        check_books(stats, fault, RECORDS // PER_BATCH)
        assert ids(backend) == Counter(range(1, RECORDS + 1))


@pytest.mark.parametrize("mode", ["overflow", "always"])
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.kind == "retried"])
async def test_a_fault_that_lasts_is_outlived_by_the_spool(name, mode, tmp_path):
    """Nothing of it gets through in one life of the exporter, and all of it in the next one."""
    fault = FAULTS[name]
    spool = {"mode": mode, "directory": str(tmp_path)}
    async with open_backend() as backend:
        backend.otherwise = fault.behave
        async with rig_to(backend, spool=spool) as rig:
            await take_in(rig)
            await rig.until(lambda stats: sum(stats.uploads.values()) >= 2)
            stats = await rig.finish(0.2)
        assert (stats.accepted, stats.dropped, stats.spooled) == (0, {}, RECORDS)
        attempts = len(backend.received)
        backend.otherwise = answer()
        async with rig_to(backend, spool=spool) as rig:
            stats = await rig.until(lambda stats: stats.accepted == RECORDS)
    assert (stats.recovered, stats.captured, stats.dropped, stats.spooled) == (RECORDS, 0, {}, 0)
    delivered = Counter(
        int.from_bytes(span.span_id)
        for received in backend.received[attempts:]
        for resource in received.otlp().resource_spans
        for span in resource.scope_spans[0].spans
    )
    assert delivered == Counter(range(1, RECORDS + 1))
    assert not list(tmp_path.rglob("*.entry"))


async def test_a_retry_that_gives_up_before_its_payload_was_due_on_disk_loses_nothing(tmp_path):
    """``max_elapsed_time`` far below ``spool.overflow_after``: the spool is there all the same."""
    retry = {"initial_interval": "10ms", "max_interval": "20ms", "max_elapsed_time": "50ms"}
    spool = {"directory": str(tmp_path), "overflow_after": "1h"}
    async with open_backend() as backend:
        backend.otherwise = answer(503)
        async with rig_to(backend, retry=retry, spool=spool) as rig:
            await take_in(rig)
            await rig.until(lambda stats: stats.spooled + stats.in_flight == RECORDS and stats.spooled > 0)
            backend.otherwise = answer()
            stats = await rig.until(lambda stats: stats.accepted == RECORDS)
    assert stats.dropped == {}


async def test_413_is_split_until_it_is_taken_and_costs_only_what_cannot_be():
    """A backend that takes no more than two records, and never a certain one."""
    taken: list[int] = []

    async def pick(stream: Any) -> bool:
        spans = backend.requests[-1].resource_spans[0].scope_spans[0].spans
        found = [int.from_bytes(span.span_id) for span in spans]
        if len(found) > 2 or 7 in found:
            return await answer(413)(stream)
        taken.extend(found)
        return await answer()(stream)

    async with open_backend() as backend:
        backend.otherwise = pick
        async with rig_to(backend) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    assert (stats.accepted, stats.dropped) == (RECORDS - 1, {"too_large": 1})
    assert Counter(taken) == Counter(set(range(1, RECORDS + 1)) - {7})
    # Once for what fits, and the one that nobody takes with another and alone.
    assert stats.uploads["too_large"] >= 1 + 2


# ---- connections


async def refuse_then_serve(backend: Backend, rig: Rig) -> ExporterStats:
    await take_in(rig)
    await rig.until(lambda stats: stats.uploads.get("retryable:connect_error", 0) >= 3)
    await backend.come_up()
    return await rig.settled(RECORDS)


async def test_down_from_the_start():
    async with open_backend() as backend:
        await backend.go_down()
        async with rig_to(backend) as rig:
            stats = await refuse_then_serve(backend, rig)
    assert (stats.accepted, stats.dropped) == (RECORDS, {})
    assert ids(backend) == Counter(range(1, RECORDS + 1))
    assert set(stats.uploads) == {"accepted", "retryable:connect_error"}


async def test_down_and_up_again_and_again():
    async with open_backend() as backend, rig_to(backend) as rig:
        for first in range(1, 1 + 6 * RECORDS, RECORDS):
            await take_in(rig, first=first)
            await backend.go_down()
            await trio.testing.wait_all_tasks_blocked(0.02)
            await backend.come_up()
        stats = await rig.settled(6 * RECORDS)
    assert (stats.accepted, stats.dropped) == (6 * RECORDS, {})
    delivered = ids(backend)
    assert set(delivered) == set(range(1, 6 * RECORDS + 1))
    duplicates = delivered.total() - 6 * RECORDS
    # a request that was read whole and not answered is sent again: only then is there a duplicate
    attempts = sum(stats.uploads.values())
    assert duplicates <= (attempts - stats.uploads["accepted"]) * PER_BATCH


async def test_a_port_that_accepts_and_never_reads():
    """The kernel takes connections for a listener that nobody serves: the request is never answered."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    async with listener, open_rig(url, upload=UPLOAD, retry=SHORT_RETRY) as rig:
        await take_in(rig)
        stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert set(stats.uploads) == {"retryable:read_timeout"}


async def test_a_connection_that_is_never_made():
    """The kernel drops what asks for a connection while a listener's queue is full."""
    with socket.socket() as listener, ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        upload = UPLOAD | {"connect_timeout": "100ms"}
        async with open_rig(url, upload=upload, retry=SHORT_RETRY) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert set(stats.uploads) == {"retryable:connect_timeout"}


async def test_a_request_that_is_never_read():
    """It is larger than what the kernel takes on its way."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        upload = {"compression": "none", "write_timeout": "100ms", "read_timeout": "20s", "timeout": "20s"}
        async with open_rig(
            url, upload=upload, retry=SHORT_RETRY, batch={"max_records": 200, "max_size": "1GiB"}
        ) as rig:
            await rig.send_records(200, request_body=bytes(64 << 10), request_body_size=64 << 10)
            stats = await rig.settled(200)
    assert stats.dropped == {"retries_exhausted": 200}
    assert set(stats.uploads) == {"retryable:write_timeout"}


async def test_a_name_that_does_not_exist_is_retried():
    retry = {"initial_interval": "10ms", "max_interval": "40ms", "max_elapsed_time": "50ms"}
    upload = UPLOAD | {"timeout": "20s", "connect_timeout": "5s"}
    async with open_rig("http://backend.invalid:4318", upload=upload, retry=retry) as rig:
        await take_in(rig)
        stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert set(stats.uploads) <= {"retryable:connect_error", "retryable:connect_timeout", "retryable:timeout"}


# ---- TLS

# One upload at a time: httpcore lets requests share a connection that is being made, and when making it fails for the
# first and works for the second of them, it forgets to close it (it is left to the garbage collector).
TLS = UPLOAD | {"concurrency": 1, "read_timeout": "5s", "timeout": "5s"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("stranger"), "somebody else")


CERTIFICATES: dict[str, tuple[Callable[[CertificateAuthority, CertificateAuthority], Any], str]] = {
    "of another authority": (lambda _, stranger: stranger.server("127.0.0.1"), "unable to get local issuer"),
    "expired": (lambda ours, _: ours.server("127.0.0.1", valid_days=(-30, -1)), "expired"),
    "not yet valid": (lambda ours, _: ours.server("127.0.0.1", valid_days=(1, 30)), "not yet valid"),
    "of another host": (lambda ours, _: ours.server("backend.example"), "mismatch"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
async def test_a_wrong_certificate_gets_nothing_and_is_retried_until_it_is_right(name, authority, stranger):
    make, says = CERTIFICATES[name]
    upload = TLS | {"ca_file": str(authority.ca_file)}
    async with open_backend(tls=make(authority, stranger)) as backend, rig_to(backend, upload=upload) as rig:
        await take_in(rig)
        stats = await rig.until(lambda stats: stats.uploads.get("retryable:connect_error", 0) >= 3)
        assert not backend.received
        assert says in stats.last_error
        assert backend.connections == 0 or name == "of another host"
        backend.tls = authority.server("127.0.0.1")
        stats = await rig.settled(RECORDS)
    assert (stats.accepted, stats.dropped) == (RECORDS, {})
    assert set(stats.uploads) == {"accepted", "retryable:connect_error"}
    assert ids(backend) == Counter(range(1, RECORDS + 1))


async def test_a_wrong_certificate_that_stays_is_outlived_by_the_spool(authority, stranger, tmp_path):
    upload = TLS | {"ca_file": str(authority.ca_file)}
    spool = {"mode": "overflow", "directory": str(tmp_path)}
    async with open_backend(tls=stranger.server("127.0.0.1")) as backend:
        async with rig_to(backend, upload=upload, spool=spool) as rig:
            await take_in(rig)
            stats = await rig.finish(0.2)
        assert (stats.spooled, stats.dropped, backend.received) == (RECORDS, {}, [])
        backend.tls = authority.server("127.0.0.1")
        async with rig_to(backend, upload=upload, spool=spool) as rig:
            await rig.until(lambda stats: stats.accepted == RECORDS)
    assert ids(backend) == Counter(range(1, RECORDS + 1))


async def test_plain_http_where_tls_is_expected_gets_nothing(authority):
    upload = TLS | {"ca_file": str(authority.ca_file), "timeout": "600ms"}
    async with open_backend() as backend:
        url = backend.url.replace("http:", "https:")
        async with open_rig(url, upload=upload, retry=SHORT_RETRY) as rig:
            await take_in(rig)
            stats = await rig.settled(RECORDS)
    assert stats.dropped == {"retries_exhausted": RECORDS}
    assert backend.received == []


# ---- where data goes


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("approved", [False, True])
async def test_a_redirect_is_not_followed_even_to_an_approved_host(status, approved):
    async with open_backend() as other, open_backend() as backend:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        backend.otherwise = answer(status, location=f"{elsewhere}/v1/traces")
        hosts = {"approved_backends": ["127.0.0.1", "localhost"]} if approved else {}
        with capture_logs() as logs:
            async with rig_to(backend, **hosts) as rig:
                await take_in(rig)
                stats = await rig.settled(RECORDS)
    assert stats.dropped == {"permanent_error": RECORDS}
    assert (other.connections, other.received) == (0, [])
    told = [line for line in logs if line["event"] == "upload_refused"]
    assert "redirects are not followed" in told[0]["detail"]
    assert len(told) == 1


def test_a_backend_that_is_not_approved_stops_the_start():
    with pytest.raises(ValueError, match="approved_backends"):
        open_rig_once("https://collector.example", approved_backends=["other.example"])


def open_rig_once(url: str, **sections: Any) -> None:
    async def enter() -> None:
        async with open_rig(url, **sections):
            pass

    trio.run(enter)


# ---- time


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_in_seconds_holds_all_uploads_back(status):
    async with open_backend(answer(status, retry_after="1")) as backend, rig_to(backend) as rig:
        await rig.send_records(PER_BATCH)
        await backend.wait_received(1)
        await rig.until(lambda stats: bool(stats.uploads))
        await take_in(rig, first=1 + PER_BATCH)
        stats = await rig.settled(RECORDS + PER_BATCH)
    assert (stats.accepted, stats.uploads[f"retryable:http_{status}"]) == (RECORDS + PER_BATCH, 1)
    first, *others = backend.received
    assert min(received.time for received in others) >= first.time + 1.0


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_as_a_date_is_compared_with_the_wall_clock(status):
    now = 1_700_000_000.0
    date = format_datetime(datetime.fromtimestamp(now + 1, UTC), usegmt=True)
    async with (
        open_backend(answer(status, retry_after=date)) as backend,
        open_rig(backend.url, clock=lambda: now, upload=UPLOAD, **TIMES) as rig,
    ):
        await take_in(rig, PER_BATCH)
        await rig.settled(PER_BATCH)
    first, second = backend.received
    assert 1.0 <= second.time - first.time < 3.0


MINUTE = 60.0
PATIENT = {"concurrency": 4, "connect_timeout": "1d", "write_timeout": "1d", "read_timeout": "1d", "timeout": "1d"}
"""An attempt that is under way when time jumps is not late."""


def far_clock(minutes: Callable[[trio.testing.MockClock], Awaitable[None]]) -> None:
    """Time runs as ever, and may jump as well."""
    clock = trio.testing.MockClock(rate=1.0)
    trio.run(minutes, clock, clock=clock)


async def well_again(clock: trio.testing.MockClock, rig: Rig) -> ExporterStats:
    """Until all is delivered; whoever waits for the time of another attempt need not."""
    while (stats := rig.exporter.stats()).waiting or stats.spooled:
        clock.jump(MINUTE / 4)
        await trio.testing.wait_all_tasks_blocked(0.01)
    return stats


@pytest.mark.parametrize("mode", ["overflow", "always"])
def test_down_in_the_middle_for_six_hours(mode, tmp_path):
    """Traffic goes on; every four minutes of the outage a batch is added. Nothing is lost, not even the first minutes: memory
    holds a few batches, the rest is on disk. Afterwards all of it is delivered, each record once.
    """

    async def day(clock: trio.testing.MockClock) -> None:
        retry = {"initial_interval": "1s", "max_interval": "30s", "max_elapsed_time": "5m"}
        sections = {
            "retry": retry,
            "spool": {"mode": mode, "directory": str(tmp_path)},
            "queue": {"max_records": 40},
            "upload": PATIENT,
            "batch": {"max_records": PER_BATCH, "flush_timeout": "1h"},
        }
        begun = trio.current_time()
        async with (
            open_backend() as backend,
            open_rig(backend.url, clock=lambda: 1.7e9 + trio.current_time(), seconds=1e6, **sections) as rig,
        ):
            await take_in(rig)
            await rig.until(lambda stats: stats.accepted == RECORDS)
            await backend.go_down()
            sent = RECORDS
            for _ in range(90):
                await take_in(rig, PER_BATCH, first=sent + 1)
                sent += PER_BATCH
                clock.jump(4 * MINUTE)
                stats = await rig.until(lambda stats: stats.waiting <= RECORDS and not stats.waiting_batch)
            assert (stats.accepted, stats.dropped) == (RECORDS, {})
            assert stats.spooled + stats.waiting == sent - RECORDS
            assert stats.spooled >= sent - 2 * RECORDS
            assert stats.destinations[0].breaker != "closed"
            attempts = sum(stats.uploads.values())
            assert attempts < 6 * 60 * 2 + 40  # no storm: a probe in half a minute, and a few to find out
            await backend.come_up()
            await take_in(rig, PER_BATCH, first=sent + 1)
            sent += PER_BATCH
            stats = await well_again(clock, rig)
            assert stats.accepted == sent
            assert stats.dropped == {}
            assert ids(backend) == Counter(range(1, sent + 1))
            assert trio.current_time() - begun > 6 * 3600

    far_clock(day)


def test_an_outage_longer_than_the_spool_keeps_loses_the_oldest_and_says_so(tmp_path):
    async def days(clock: trio.testing.MockClock) -> None:
        sections = {
            "retry": {"initial_interval": "1s", "max_interval": "30s", "max_elapsed_time": "5m"},
            "spool": {"mode": "always", "directory": str(tmp_path), "max_age": "2h"},
            "batch": {"max_records": PER_BATCH, "flush_timeout": "1h"},
        }
        async with (
            open_backend() as backend,
            open_rig(backend.url, clock=lambda: 1.7e9 + trio.current_time(), seconds=1e6, **sections) as rig,
        ):
            await backend.go_down()
            for step in range(60):
                await take_in(rig, PER_BATCH, first=1 + step * PER_BATCH)
                await rig.until(lambda stats: not stats.waiting_batch and not stats.waiting_queue)
                clock.jump(3 * MINUTE)
            await rig.until(lambda stats: stats.dropped.get("evicted", 0) >= 12 * PER_BATCH)
            await backend.come_up()
            stats = await well_again(clock, rig)
            assert set(stats.dropped) == {"evicted"}
            assert stats.accepted + stats.dropped["evicted"] == 60 * PER_BATCH
            delivered = ids(backend)
            assert delivered.total() == len(delivered) == stats.accepted
            # What is in an upload at the moment does not expire, so the oldest of two hours are not exactly so old.
            assert 38 * PER_BATCH <= stats.accepted <= 50 * PER_BATCH
            assert set(delivered) >= set(range(1 + 22 * PER_BATCH, 1 + 60 * PER_BATCH))

    far_clock(days)


# ---- memory


@pytest.mark.parametrize("status", [200, 503])
async def test_of_an_answer_of_1_gib_no_more_than_the_limit_is_held(status):
    async with open_backend(huge_answer(GIB, status)) as backend, rig_to(backend) as rig:
        tracemalloc.start()
        try:
            await rig.send_records(PER_BATCH)
            stats = await rig.settled(PER_BATCH)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert stats.accepted == PER_BATCH
    assert peak < 8 * MAX_ANSWER_BYTES


async def test_a_backend_that_is_refused_never_sees_a_byte():
    async with open_rig(refused_url(), upload=UPLOAD, **TIMES) as rig:
        await take_in(rig)
        stats = await rig.until(lambda stats: sum(stats.uploads.values()) >= 3)
        assert set(stats.uploads) == {"retryable:connect_error"}
        stats = await rig.finish(0.2)
    assert stats.dropped == {"shutdown": RECORDS}
