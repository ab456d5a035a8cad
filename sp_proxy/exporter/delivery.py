"""Delivery to one destination: payloads leave its queue, are attempted until they are decided, and are accounted for.

N tasks, each with one leased payload at a time; a payload that must wait keeps its task. How many of them may upload at
the same moment adapts to the destination, a ``Retry-After`` holds all of them back, and a destination that keeps failing
is asked by one probe only. Whatever happens to a payload, the task goes on.

What cannot be delivered now goes back to a queue that keeps it on disk, and is lost only by one that does not.
"""

from collections.abc import Callable
from typing import Literal

import trio
from msgspec import Struct

from sp_proxy.core.breaker import Breaker, BreakerPolicy
from sp_proxy.core.concurrency import ConcurrencyLimit
from sp_proxy.core.retry import Backoff, RetryPolicy
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Permanent, Retryable, TooLarge
from sp_proxy.exporter.queue import Lease, SendingQueue
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.split import first_trace_id, split
from sp_proxy.exporter.stats import DropReason, Ledger
from sp_proxy.exporter.upload import Send

OVERLOAD = frozenset({"http_429", "http_503", "timeout", "read_timeout", "write_timeout"})
"""Reasons that tell of too many uploads; a refused connection tells nothing about their number."""
SIZE_MEMORY_SECONDS = 600.0
"""So long what is as large as something that was too large is split before it is sent."""

GiveBack = Literal["next", "later", "park"]
"""Not decided: to be tried again, as the next one, or behind the others; or only in another life."""


class Verdict(Struct, frozen=True):
    """Where records ended."""

    decided: Accepted | DropReason
    records: int
    size: int = 0
    """Bytes that were accepted."""


class Delivery:
    """One destination's uploads."""

    def __init__(
        self,
        queue: SendingQueue,
        destination: Send,
        policy: RetryPolicy,
        ledger: Ledger,
        *,
        concurrency: int,
        clock: Callable[[], float],
        randomness: Callable[[], float],
        name: str = "",
    ) -> None:
        """``clock`` tells unix time, ``randomness`` is uniform in 0 to 1; ``name`` is for the log."""
        self._queue = queue
        self._destination = destination
        self._policy = policy
        self._ledger = ledger
        self._concurrency = concurrency
        self._clock = clock
        self._randomness = randomness
        self._limit = ConcurrencyLimit(concurrency)
        self._slots = trio.CapacityLimiter(self._limit.value)
        self.breaker = Breaker(BreakerPolicy(policy.initial_interval, policy.max_interval))
        self._not_before = float("-inf")
        self._too_large = 0
        self._too_large_until = float("-inf")
        self._waits = trio.lowlevel.ParkingLot()
        """Those that wait between two attempts."""
        self._gate = trio.lowlevel.ParkingLot()
        """Those that have no leave to attempt."""
        self._draining = False
        self._drain_deadline = float("inf")
        self._stopping = False
        self._leasing: set[trio.CancelScope] = set()
        self._log = SparingLog(exporter=name) if name else SparingLog()

    @property
    def concurrency(self) -> int:
        """Uploads that may run side by side now."""
        return self._limit.value

    async def run(self) -> None:
        """Deliver until ``stop`` or until cancelled; what was not decided by then is given back."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._concurrency):
                nursery.start_soon(self._task)

    def drain(self, deadline: float) -> None:
        """From now on, waits are cut to what is left until the deadline (trio's clock): those that wait try once more
        at once, and what would have to wait beyond the deadline is left, in favour of what was never tried.
        """
        self._drain_deadline = deadline
        self._draining = True
        self._waits.unpark_all()
        self._gate.unpark_all()

    def stop(self) -> None:
        """Another delivery takes over the queue: lease nothing more, give back what waits. ``run`` returns when the
        attempts that are under way have ended.
        """
        self._stopping = True
        for scope in self._leasing:
            scope.cancel()
        self._waits.unpark_all()
        self._gate.unpark_all()

    async def _task(self) -> None:
        while (lease := await self._lease()) is not None:
            try:
                end = await self._deliver(lease)
            except Exception as error:  # noqa: BLE001 (only a fault of our own: it costs this payload, not the daemon)
                self._log.fault("upload_failed", error, records_dropped=lease.payload.records)
                end = [Verdict("internal_error", lease.payload.records)]
            except BaseException:  # a cancellation, or a group of them
                self._queue.release(lease)
                raise
            if end == "next" or end == "later":  # noqa: PLR1714 (a list has no hash)
                self._queue.release(lease, later=end == "later")
            elif end == "park":
                self._queue.park(lease)
                self._queue.leave_disk()  # no use in reading it all now
                self._ledger.settle()
            else:
                self._queue.ack(lease)
                self._count(end)

    async def _lease(self) -> Lease | None:
        """The next payload; None when there is to be no more."""
        if self._stopping:
            return None
        with trio.CancelScope() as scope:
            self._leasing.add(scope)
            try:
                return await self._queue.lease()
            finally:
                self._leasing.discard(scope)
        return None

    def _count(self, verdicts: list[Verdict]) -> None:
        for verdict in verdicts:
            if isinstance(verdict.decided, Accepted):
                self._ledger.accept(verdict.decided, verdict.records, verdict.size, self._clock())
            else:
                self._ledger.drop(verdict.decided, verdict.records)

    async def _deliver(self, lease: Lease) -> list[Verdict] | GiveBack:
        """Attempt until all of it is decided, in parts if it is too large. What is given back is given back whole: the
        parts of it that were accepted will be sent again.
        """
        parts = [lease.payload]
        verdicts: list[Verdict] = []
        while parts:
            part = parts.pop()
            end = TooLarge() if self._was_too_large(part) else await self._attempt(part, lease)
            match end:
                case "next" | "later" | "park":
                    return end
                case TooLarge():
                    halves = await trio.to_thread.run_sync(split, part) if part.records > 1 else None
                    if halves is not None:
                        parts += reversed(halves)
                    else:
                        self._log.warning("record_too_large", detail=end.detail, size_bytes=part.raw_size)
                        verdicts.append(Verdict("too_large", part.records))
                case Verdict():
                    verdicts.append(end)
        return verdicts

    def _was_too_large(self, payload: Payload) -> bool:
        known = trio.current_time() < self._too_large_until
        return known and payload.records > 1 and payload.raw_size >= self._too_large

    async def _attempt(self, payload: Payload, lease: Lease) -> Verdict | TooLarge | GiveBack:
        """Attempt one payload until it is decided, delivered or lost."""
        backoff: Backoff | None = None
        while True:
            if not await self._may_send():
                return "next" if self._stopping else "park"
            began = trio.current_time()
            backoff = backoff or Backoff(self._policy, began)
            probes = self.breaker.state == "half_open"
            try:
                outcome = await self._destination.send(payload)
                in_flight = int(self._slots.borrowed_tokens)
            except BaseException:
                if probes:
                    self.breaker.lost_probe()
                    self._gate.unpark()
                raise
            finally:
                self._slots.release()
            now = trio.current_time()
            self._ledger.attempt(outcome)
            if not isinstance(outcome, Retryable):
                self._works(now - began, in_flight)
            match outcome:
                case Accepted(partial, unreadable):
                    if partial:
                        self._log.warning("upload_partial", message=partial.message, records_rejected=partial.rejected)
                    if unreadable:
                        self._log.warning("upload_answer_unreadable", detail=unreadable)
                    return Verdict(outcome, payload.records, len(payload.body))
                case TooLarge():
                    known = now < self._too_large_until
                    self._too_large = min(self._too_large, payload.raw_size) if known else payload.raw_size
                    self._too_large_until = now + SIZE_MEMORY_SECONDS
                    return outcome
                case Permanent(reason, detail):
                    self._log.warning(
                        "upload_refused",
                        reason=reason,
                        detail=detail,
                        records_dropped=payload.records,
                        size_bytes=payload.raw_size,
                        sample_trace_id=lambda: first_trace_id(payload),
                    )
                    return Verdict("permanent_error", payload.records)
                case Retryable(reason, after, detail):
                    self._fails(reason, after, now)
                    wait = backoff.next_wait(now, self._randomness(), after)
                    if wait is None:
                        if await self._queue.keep(lease):
                            return "later"
                        self._log.warning(
                            "upload_given_up", reason=reason, detail=detail, records_dropped=payload.records
                        )
                        return Verdict("retries_exhausted", payload.records)
                    if now + wait > self._drain_deadline:
                        return "park"
                    self._log.warning("upload_retried", reason=reason, detail=detail, wait_seconds=round(wait, 3))
                    await self._wait(wait)

    def _works(self, seconds: float, in_flight: int) -> None:
        """The destination answered something that is no sign of trouble."""
        self._limit.answered(seconds, in_flight)
        self._slots.total_tokens = self._limit.value
        was_closed = self.breaker.state == "closed"
        self.breaker.succeeded()
        if not was_closed:
            self._waits.unpark_all()
            self._gate.unpark_all()

    def _fails(self, reason: str, after: float | None, now: float) -> None:
        """An attempt failed in a way that may pass."""
        if after is not None:
            self._not_before = max(self._not_before, now + after)
        if reason in OVERLOAD:
            self._limit.overloaded()
            self._slots.total_tokens = self._limit.value
        was_probe = self.breaker.state == "half_open"
        self.breaker.failed(now)
        if was_probe:
            self._gate.unpark_all()  # they wait for a probe that is over; the next one may be theirs

    async def _may_send(self) -> bool:
        """Wait for leave to attempt, and take a slot; False when that takes longer than we have, or is not wanted."""
        while not self._stopping:
            now = trio.current_time()
            wait = self._not_before - now
            if wait <= 0:
                await self._slots.acquire()
                now = trio.current_time()
                wait = self._not_before - now
                if wait <= 0:
                    wait = self.breaker.wait(now)  # asked by who may go only, as leave may be that of the one probe
                if wait <= 0:
                    return True
                self._slots.release()
            if now + wait > self._drain_deadline:
                return False
            await _park(self._gate, wait)
        return False

    async def _wait(self, seconds: float) -> None:
        """Sleep; a drain that begins meanwhile, or a destination that works again, ends it."""
        if self._draining:
            await trio.sleep(seconds)
        else:
            await _park(self._waits, seconds)


async def _park(lot: trio.lowlevel.ParkingLot, seconds: float) -> None:
    """Wait until the time is over or the lot is emptied."""
    with trio.move_on_after(seconds):
        await lot.park()
