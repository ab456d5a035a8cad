"""When to start a dead worker again, and when the workers are so bad that traffic must go on without them.

A state machine over facts (started, ready, exited) and a given ``now``; randomness is passed in, so every decision can
be replayed. Two rules: one crash costs nothing (the first restart is immediate, and connections wait in the backlog
meanwhile), and a worker that keeps crashing must neither spin the processor nor hold up traffic.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Exponential backoff between restarts, in seconds."""

    initial: float = 0.1
    """Wait before the second quick restart; the first has none."""
    multiplier: float = 2.0
    maximum: float = 10.0
    jitter: float = 0.2
    """Part of a wait that chance may take away, so that workers which died together do not start together."""
    healthy_after: float = 60.0
    """A life of this length clears the record."""
    patience: float = 5.0
    """Without any ready worker for this long, traffic goes on without them, whether they crash or hang."""

    def delay(self, failures: int, chance: float) -> float:
        """The wait after the given number of quick exits in a row; ``chance`` is from 0 to 1."""
        if failures <= 1:
            return 0.0
        # The exponent is bounded because a float overflows long before a patient operator gives up.
        wait = min(self.initial * self.multiplier ** min(failures - 2, 64), self.maximum)
        return wait * (1.0 - self.jitter * chance)


@dataclass(slots=True)
class _Worker:
    started_at: float
    ready: bool = False
    failures: int = 0
    """Exits in a row, each after a life shorter than ``healthy_after``."""


@dataclass(slots=True)
class Restarts:
    """What happened to each of a fixed set of workers, and what follows from it."""

    worker_count: int
    policy: RestartPolicy
    now: float
    """When the supervisor began: until the first worker is ready, patience runs from here."""
    _workers: dict[int, _Worker] = field(init=False)
    _none_ready_since: float | None = field(init=False)

    def __post_init__(self) -> None:
        self._workers = {worker_id: _Worker(self.now) for worker_id in range(self.worker_count)}
        self._none_ready_since = self.now

    def started(self, worker_id: int, now: float) -> None:
        """A process was started for this worker."""
        self._workers[worker_id].started_at = now

    def ready(self, worker_id: int) -> None:
        """It accepts connections."""
        self._workers[worker_id].ready = True
        self._none_ready_since = None

    def exited(self, worker_id: int, now: float, chance: float) -> float:
        """It ended without being asked to. Returns how long to wait before starting it again, in seconds."""
        worker = self._workers[worker_id]
        worker.ready = False
        worker.failures = 1 if now - worker.started_at >= self.policy.healthy_after else worker.failures + 1
        if self.ready_count == 0 and self._none_ready_since is None:
            self._none_ready_since = now
        return self.policy.delay(worker.failures, chance)

    @property
    def ready_count(self) -> int:
        """How many workers accept connections."""
        return sum(worker.ready for worker in self._workers.values())

    def fail_open(self, now: float) -> bool:
        """Whether traffic must go on without the workers: none is ready, and either all of them are held back by a
        backoff or failed again after one, or patience has run out.
        """
        if self._none_ready_since is None:
            return False
        if all(worker.failures >= 2 for worker in self._workers.values()):
            return True
        return now - self._none_ready_since >= self.policy.patience

    def next_check(self) -> float | None:
        """When ``fail_open`` may change by time alone; None when only an event can change it."""
        return None if self._none_ready_since is None else self._none_ready_since + self.policy.patience
