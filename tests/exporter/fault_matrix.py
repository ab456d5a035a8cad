"""The fault matrix: every way in which a backend misbehaves, and for each what becomes of the records.

A fault is one of three kinds. *Retried*: nothing is lost while it passes; if it lasts, records stay in the spool, and
without one are lost with ``retries_exhausted``. *Refused*: what was sent is lost with ``permanent_error``, and no more.
*Taken*: the backend has said that it has the records, whatever else was wrong with its answer.

In each run the fault holds until all records are in, so an intake that waited for the backend would never see the end;
and the books are checked at every step (``rig.BalanceCheck``). Sockets, HTTP and TLS are real.
"""

from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from sp_proxy.exporter.stats import ExporterStats
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
    partial_success,
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
    slow: bool = False
    """It is for the time limit to end it. Where it is not, no stall of the machine may reach the limit."""

    @property
    def upload(self) -> dict[str, Any]:
        """Settings under which the attempt ends as it should."""
        return UPLOAD if self.slow else UPLOAD | {"read_timeout": "20s", "timeout": "20s"}


def retried(reason: str, behave: Behaviour, *, seen: bool = True) -> Fault:
    return Fault("retried", f"retryable:{reason}", behave, seen=seen, slow=reason.endswith("timeout"))


def refused(status: int, **headers: str) -> Fault:
    return Fault("refused", f"permanent:http_{status}", answer(status, b"no", **headers))


def unreadable(behave: Behaviour, *, slow: bool = False) -> Fault:
    return Fault("taken", "accepted", behave, unreadable=True, slow=slow)


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
    "200 with a body without an end": unreadable(slow_body(), slow=True),
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
