"""A delivery to a destination that answers by a script, without sockets."""

from collections import deque

import trio

from sp_proxy.core.retry import RetryPolicy
from sp_proxy.exporter.delivery import Delivery
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.outcome import Accepted, Outcome, Retryable
from sp_proxy.exporter.queue import MemoryQueue
from sp_proxy.exporter.stats import Ledger

POLICY = RetryPolicy(
    initial_interval=1.0, max_interval=8.0, multiplier=2.0, randomization_factor=0.0, max_elapsed_time=100.0
)
DOWN = Retryable("http_503")


class Destination:
    """Answers by a script for each payload (by its body), then accepts; an attempt takes ``seconds``, or what is
    said for the payload.
    """

    def __init__(self, seconds: float = 0.0, lasting: dict[str, float] | None = None, **script: list[Outcome]) -> None:
        self.attempts: list[tuple[float, str]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self._seconds = seconds
        self._lasting = lasting or {}
        self._script = {name: deque(outcomes) for name, outcomes in script.items()}

    def script(self, payload: Payload, *outcomes: Outcome) -> None:
        self._script[payload.body.decode("latin-1")] = deque(outcomes)

    async def send(self, payload: Payload) -> Outcome:
        name = payload.body.decode("latin-1")
        self.attempts.append((trio.current_time(), name))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await trio.sleep(self._lasting.get(name, self._seconds))
        self.in_flight -= 1
        outcomes = self._script.get(name)
        return outcomes.popleft() if outcomes else Accepted()


def failing(names: str, outcomes: list[Retryable]) -> Destination:
    """Answers this to every payload."""
    destination = Destination()
    for name in names:
        destination.script(Payload(name.encode(), 10, "", 1), *outcomes)
    return destination


class Run:
    """A delivery of payloads of ten records each, and its books."""

    def __init__(
        self,
        destination,
        *names: str,
        concurrency: int = 1,
        policy: RetryPolicy = POLICY,
        queue: MemoryQueue | None = None,
    ) -> None:
        self.destination = destination
        self.queue = queue or MemoryQueue(1000, 1 << 20)
        self.ledger = Ledger()
        self.captured = 10 * len(names)
        for name in names:
            assert self.queue.append(Payload(name.encode(), 10, "", len(name)))
        self.delivery = Delivery(
            self.queue,
            destination,
            policy,
            self.ledger,
            concurrency=concurrency,
            clock=lambda: 1_700_000_000.0,
            randomness=lambda: 0.5,
        )

    async def for_seconds(self, seconds: float, captured: int = 0) -> None:
        self.captured = captured or self.captured
        with trio.move_on_after(seconds):
            await self.delivery.run()
        self.check()

    async def until_empty(self, captured: int) -> None:
        """In real time: the virtual clock does not wait for threads."""
        self.captured = captured
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.delivery.run)
                while self.queue.records:  # noqa: ASYNC110 (nothing announces it)
                    await trio.sleep(0.001)
                nursery.cancel_scope.cancel()

    def check(self) -> None:
        ledger = self.ledger
        decided = ledger.accepted + ledger.rejected + sum(ledger.dropped.values())
        assert decided + self.queue.records == self.captured
