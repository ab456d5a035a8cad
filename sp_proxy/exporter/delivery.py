"""Delivery to one destination: payloads leave its queue, are attempted until they are decided, and are accounted for.

N tasks, each with one leased payload at a time; a payload that must wait keeps its task, so a backend that is down is
asked by N tasks and no more. A ``Retry-After`` holds all of them back. Whatever happens to a payload, the task goes on.
"""

from collections.abc import Callable

import trio

from sp_proxy.core.retry import Backoff, RetryPolicy
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Permanent, Retryable
from sp_proxy.exporter.queue import SendingQueue
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.stats import DropReason, Ledger
from sp_proxy.exporter.upload import Send


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
    ) -> None:
        """``clock`` tells unix time, ``randomness`` is uniform in 0 to 1."""
        self._queue = queue
        self._destination = destination
        self._policy = policy
        self._ledger = ledger
        self._concurrency = concurrency
        self._clock = clock
        self._randomness = randomness
        self._not_before = float("-inf")
        self._draining = trio.Event()
        self._drain_deadline = float("inf")
        self._log = SparingLog()

    async def run(self) -> None:
        """Deliver until cancelled. A payload in the hands of a cancelled task stays leased."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._concurrency):
                nursery.start_soon(self._task)

    def drain(self, deadline: float) -> None:
        """From now on, waits are cut to what is left until the deadline (trio's clock): those that wait try once more
        at once, and what would have to wait beyond the deadline is dropped, in favour of what was never tried.
        """
        self._drain_deadline = deadline
        self._draining.set()

    async def _task(self) -> None:
        while True:
            lease = await self._queue.lease()
            payload = lease.payload
            decided: Accepted | DropReason
            try:
                decided = await self._deliver(payload)
            except Exception as error:  # noqa: BLE001 (only a fault of our own: it costs this payload, not the daemon)
                self._log.fault("upload_failed", error, records_dropped=payload.records)
                decided = "internal_error"
            self._queue.ack(lease)
            if isinstance(decided, Accepted):
                self._ledger.accept(decided, payload.records, len(payload.body), self._clock())
            else:
                self._ledger.drop(decided, payload.records)

    async def _deliver(self, payload: Payload) -> Accepted | DropReason:
        """Attempt until decided: delivered, or why it is lost."""
        backoff: Backoff | None = None
        while True:
            if not await self._held_back():
                return "shutdown"
            backoff = backoff or Backoff(self._policy, trio.current_time())
            outcome = await self._destination.send(payload)
            self._ledger.attempt(outcome)
            match outcome:
                case Accepted(partial, unreadable):
                    if partial:
                        self._log.warning("upload_partial", message=partial.message, records_rejected=partial.rejected)
                    if unreadable:
                        self._log.warning("upload_answer_unreadable", detail=unreadable)
                    return outcome
                case Permanent(reason, detail):
                    self._log.warning("upload_refused", reason=reason, detail=detail, records_dropped=payload.records)
                    return "permanent_error"
                case Retryable(reason, after, detail):
                    now = trio.current_time()
                    if after is not None:
                        self._not_before = max(self._not_before, now + after)
                    wait = backoff.next_wait(now, self._randomness(), after)
                    if wait is None:
                        self._log.warning(
                            "upload_given_up", reason=reason, detail=detail, records_dropped=payload.records
                        )
                        return "retries_exhausted"
                    if now + wait > self._drain_deadline:
                        return "shutdown"
                    self._log.warning("upload_retried", reason=reason, detail=detail, wait_seconds=round(wait, 3))
                    await self._wait(wait)

    async def _held_back(self) -> bool:
        """Wait as long as a ``Retry-After`` asks for; False when that is longer than we have."""
        while (now := trio.current_time()) < self._not_before:
            if self._not_before > self._drain_deadline:
                return False
            await self._wait(self._not_before - now)
        return True

    async def _wait(self, seconds: float) -> None:
        """Sleep; a drain that begins meanwhile ends it."""
        if self._draining.is_set():
            await trio.sleep(seconds)
        else:
            with trio.move_on_after(seconds):
                await self._draining.wait()
