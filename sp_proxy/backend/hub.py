"""Live updates: each new exchange to every subscriber, who never hold up the intake nor each other.

Each subscriber has a bounded queue. Full, it loses its oldest exchange, and is told how many with the next take.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio
from msgspec import Struct

from sp_proxy.backend.model import Arrived, ExchangeSummary
from sp_proxy.backend.query.evaluate import predicate
from sp_proxy.backend.query.syntax import Query

QUEUE = 1000
"""Exchanges that may wait for one subscriber."""


class News(Struct, frozen=True):
    """What a subscriber missed since its last take, and how many of it were lost before these."""

    exchanges: list[ExchangeSummary]
    dropped: int


class Subscription:
    """One subscriber's queue."""

    def __init__(self, query: Query, size: int) -> None:
        self.wants = predicate(query)
        self._queue: deque[ExchangeSummary] = deque(maxlen=size)
        self._dropped = 0
        self._closed = False
        self._wake = trio.Event()

    def put(self, exchange: ExchangeSummary) -> bool:
        """Add one, at the cost of the oldest; False when one was lost."""
        full = len(self._queue) == self._queue.maxlen
        self._dropped += full
        self._queue.append(exchange)
        self._wake.set()
        return not full

    def close(self) -> None:
        """End: ``take`` answers None from now on."""
        self._closed = True
        self._wake.set()

    async def take(self) -> News | None:
        """Wait for news, then take all of it; None when the hub has closed."""
        await self._wake.wait()
        if self._closed:
            return None
        self._wake = trio.Event()
        news = News(exchanges=list(self._queue), dropped=self._dropped)
        self._queue.clear()
        self._dropped = 0
        return news


class Hub:
    """All subscribers."""

    def __init__(self, queue: int = QUEUE) -> None:
        self._queue = queue
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self.dropped = 0
        """Exchanges lost to slow subscribers, all together."""
        self.answers_given = 0
        """Look-ups of stored answers that found one."""
        self.answers_missing = 0

    @property
    def subscribers(self) -> int:
        """How many are listening."""
        return len(self._subscriptions)

    @contextmanager
    def subscribe(self, query: Query) -> Iterator[Subscription]:
        """Listen to what a query asks for, until the block ends."""
        subscription = Subscription(query, self._queue)
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, exchanges: Sequence[Arrived]) -> None:
        """Hand out new exchanges. Never waits."""
        for subscription in self._subscriptions:
            for arrived in exchanges:
                if subscription.wants(arrived) and not subscription.put(arrived.summary):
                    self.dropped += 1

    def close(self) -> None:
        """End every subscription, and those that are still to come."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
