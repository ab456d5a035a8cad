"""One replay: sequences side by side, each answer compared as it comes; results in the order of the recording.

The target is someone's service: no more than ``concurrency`` requests are on their way at a time, whatever the pace.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Protocol

import trio
from msgspec import Struct

from sp_proxy.core.redaction import NEVER_SENT, Redaction, RedactionError
from sp_proxy.replay.carry import Carried
from sp_proxy.replay.compare import Answer, Comparer, Comparison
from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.prepare import Changes, Preparer, Request, Skipped
from sp_proxy.replay.recorded import Recorded
from sp_proxy.replay.redacted import hide, redact
from sp_proxy.replay.rules import RuleBook
from sp_proxy.replay.schedule import Sequence, Step, plan
from sp_proxy.replay.send import NoAnswer, Sender


class Options(Struct, frozen=True):
    """How to send."""

    speed: float | None = 1.0
    """n-fold; None: as fast as possible."""
    concurrency: int = 8
    timeout: float = 30.0
    verify: bool = True
    """Certificates."""


class Outcome(Struct, frozen=True):
    """What became of one exchange: exactly one of ``skipped``, ``no_answer`` and ``comparison`` says something."""

    recorded: Recorded
    skipped: str = ""
    no_answer: str = ""
    connected: bool = True
    """False when nobody was there to answer."""
    status: int = 0
    comparison: Comparison | None = None
    took: float = 0.0
    """Seconds from the request to the end of the answer."""

    @property
    def differs(self) -> bool:
        """Whether the answer is not the recorded one."""
        return bool(self.no_answer or (self.comparison and self.comparison.differences))


class Report(Struct, frozen=True):
    """All of them."""

    to: str
    run: str
    """Names the replay in the sessions of its requests: ``replay-RUN-…``."""
    outcomes: tuple[Outcome, ...]

    @property
    def sent(self) -> int:
        """Requests that were sent."""
        return sum(not each.skipped for each in self.outcomes)

    @property
    def different(self) -> int:
        """Of these, those whose answer differs, or which had none."""
        return sum(each.differs for each in self.outcomes)

    @property
    def skipped(self) -> int:
        """Those that were not sent."""
        return len(self.outcomes) - self.sent

    @property
    def reached(self) -> bool:
        """Whether anyone was there at all."""
        return any(not each.skipped and each.connected for each in self.outcomes)

    @property
    def exit_code(self) -> int:
        """0: no difference. 1: differences. 2: nothing was sent, or nobody was there."""
        if not self.sent or not self.reached:
            return 2
        return 1 if self.different else 0


class Sends(Protocol):
    """What sends a request."""

    async def send(self, request: Request) -> Answer:
        """Raises NoAnswer."""

    async def aclose(self) -> None:
        """The replay is over."""


async def replay(
    exchanges: Iterable[Recorded],
    changes: Changes,
    book: RuleBook,
    options: Options,
    *,
    redaction: Redaction | None = None,
    on_outcome: Callable[[Outcome], None] = lambda _: None,
    sender: Sends | None = None,
) -> Report:
    """Send them all. ``redaction`` is put over the new answers, so that what is compared and reported is redacted as the
    recording is; ``on_outcome`` is called as they come. ``sender`` is closed at the end; without one it is HTTP's.
    """
    run = secrets.token_hex(4)
    if sender is None:
        sender = Sender(concurrency=options.concurrency, timeout=options.timeout, verify=options.verify)
    try:
        replaying = _Replay(sender, changes, book, options, run, redaction, on_outcome)
        sequences = plan(exchanges, options.speed)
        await replaying.all(sequences)
    finally:
        with trio.CancelScope(shield=True):
            await sender.aclose()
    outcomes = sorted(replaying.outcomes, key=lambda each: (each.recorded.start_unix_ns, each.recorded.span_id))
    return Report(changes.to, run, tuple(outcomes))


class _Replay:
    def __init__(
        self,
        sender: Sends,
        changes: Changes,
        book: RuleBook,
        options: Options,
        run: str,
        redaction: Redaction | None,
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self._sender = sender
        self._book = book
        self._options = options
        self._redaction = redaction
        self._on_outcome = on_outcome
        self._placeholders = Placeholders(book.placeholders)
        self._secrets = [secret.value for secret in changes.secrets]
        self._secrets += [value for name, value in changes.set if name in NEVER_SENT]
        self._preparer = Preparer(changes, self._placeholders, run=run, new_span_id=lambda: secrets.token_hex(8))
        self._slots = trio.CapacityLimiter(options.concurrency)
        self.outcomes: list[Outcome] = []

    async def all(self, sequences: list[Sequence]) -> None:
        """As fast as possible, no more sequences are begun than can go on; else each when it is due."""
        start = trio.current_time()
        begun = trio.Semaphore(self._options.concurrency)
        async with trio.open_nursery() as nursery:
            for sequence in sequences:
                if self._options.speed:
                    await trio.sleep_until(start + sequence.due)
                    nursery.start_soon(self._sequence, sequence, start, None)
                else:
                    await begun.acquire()
                    nursery.start_soon(self._sequence, sequence, start, begun)

    async def _sequence(self, sequence: Sequence, start: float, begun: trio.Semaphore | None) -> None:
        carried = Carried(self._book.carry)
        try:
            for step in sequence.steps:
                await trio.sleep_until(start + step.due)
                outcome = await self._step(step, carried)
                self.outcomes.append(outcome)
                self._on_outcome(outcome)
        finally:
            if begun is not None:
                begun.release()

    async def _step(self, step: Step, carried: Carried) -> Outcome:
        recorded = step.recorded
        request = self._preparer.prepare(recorded, carried)
        if isinstance(request, Skipped):
            return Outcome(recorded, skipped=request.reason)
        async with self._slots:
            began = trio.current_time()
            try:
                answer = await self._sender.send(request)
            except NoAnswer as error:
                took = trio.current_time() - began
                return Outcome(recorded, no_answer=str(error), connected=error.connected, took=took)
            took = trio.current_time() - began
        host = dict(request.fields)["host"]
        comparer = Comparer(self._book.of(recorded), self._placeholders, carried, self._book.carry, host)
        comparison = await trio.to_thread.run_sync(self._compare, comparer, recorded, answer, carried)
        return Outcome(recorded, status=answer.status, comparison=comparison, took=took)

    def _compare(self, comparer: Comparer, recorded: Recorded, answer: Answer, carried: Carried) -> Comparison:
        """In a thread: it takes time in proportion to the bodies. The sequence waits for it, so ``carried`` is its own."""
        try:
            redacted = hide(answer if self._redaction is None else redact(answer, self._redaction), self._secrets)
        except RedactionError:
            return Comparison((), notes=("not compared: the new answer could not be redacted",))
        if answer.status == recorded.status:
            # Before it is compared: the answer that makes a value may name it in other places (Location).
            carried.learn(recorded.response_body, answer.body)
        return comparer.compare(recorded, redacted)
