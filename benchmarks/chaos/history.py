"""What has been done to the pod, as it was done: times are of the machine's monotonic clock, in seconds."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.chaos.schedule import Kind


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was made."""

    kind: Kind
    begun: float
    over: float
    """When all was as before: what was ended is ready again."""
    note: str = ""
    """What is worth knowing of it."""


@dataclass(frozen=True, slots=True)
class Killed:
    """Processes of the daemon that were killed together, and what was in them. They were stopped before, to be looked at."""

    kind: Kind
    at: float
    """When they ceased to do anything."""
    gone: float
    """When they had ended; of a supervisor, also the workers that it leaves behind."""
    outbound: frozenset[int]
    """The clients' ports of the outbound connections that they had open."""
    inbound: int
    """Inbound connections that they had open."""
    supervisor: bool
    """It was among them: what the exporter held in memory is lost."""
    silent: bool
    """Nobody was left who could have told the kernel that nothing is to be redirected any more."""
    waiting: int = 0
    """Records that the exporter held in memory, as it said right before."""

    def __str__(self) -> str:
        """What was in them."""
        held = f"{self.inbound} inbound and {len(self.outbound)} outbound connections"
        return (
            held + (f", {self.waiting} records" if self.supervisor else "") + (", no heartbeat" if self.silent else "")
        )


@dataclass(frozen=True, slots=True)
class Life:
    """The books of one daemon, at its end: of its delivery equation (docs/delivery.md)."""

    began: float
    ended: float
    captured: int
    recovered: int
    accepted: int
    rejected: int
    waiting: int
    spooled: int
    dropped: Mapping[str, int]
    lost_before: int
    """Records that workers had dropped because the exporter did not read."""
    lost_at_shutdown: int = 0
    """As the log says."""


@dataclass(slots=True)
class History:
    """Everything, in no particular order."""

    done: list[Done] = field(default_factory=list)
    kills: list[Killed] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    down: list[tuple[float, float]] = field(default_factory=list)
    """When there was no daemon."""
    refused: Counter[str] = field(default_factory=Counter)
    """Connections that the daemon has closed at once, by reason."""
    left_out: int = 0
    """Faults for which there was no time."""
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """When the machine let somebody go on who was to sleep for a moment, and how many seconds late: by so much everything may be
    late that was to happen then.
    """
    seen: Counter[str] = field(default_factory=Counter)
    """Events in the daemon's logs, by name: what it has noticed of all this."""
    written: Counter[str] = field(default_factory=Counter)
    """Rules applied under way, by the tool."""
    troubles: list[str] = field(default_factory=list)
    """What must not be, and was seen on the way: books that did not balance, faults of ours in the log."""

    @property
    def stall(self) -> float:
        """The longest."""
        return max((late for _, late in self.stalls), default=0.0)

    def late(self, begun: float, over: float) -> float:
        """The longest that touches this time."""
        return max((late for at, late in self.stalls if at - late <= over and begun <= at), default=0.0)
