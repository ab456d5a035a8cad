"""What goes wrong, and when: a list of faults that a seed decides, and nothing else.

Six tracks run side by side, and their faults overlap as chance has it: the daemon's processes, the Envoys, the backend, the disk,
the redirect rules, the settings. Within a track one fault is over before the next begins. Each track deals its kinds like a deck of
cards: each comes once before any comes again, so that a short run has met them all.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """A fault, by its name in the report."""

    WORKER_KILLED = "a worker killed"
    WORKERS_KILLED = "all workers killed"
    WORKER_STOPPED = "a worker stopped"
    WORKERS_STOPPED = "all workers stopped"
    WORKER_STUCK = "a worker stopped for good"
    """Until the supervisor takes it for stuck, and kills it."""
    SUPERVISOR_STOPPED = "supervisor stopped"
    SUPERVISOR_KILLED = "supervisor killed"
    ALL_KILLED = "everything killed"
    TERMINATED = "asked to end, started again"
    ENVOY_KILLED = "the pods' Envoys killed"
    ENVOY_STOPPED = "the pods' Envoys stopped"
    PEER_KILLED = "the peer's Envoy killed"
    PEER_STOPPED = "the peer's Envoy stopped"
    BACKEND_KILLED = "backend killed"
    BACKEND_STOPPED = "backend stopped"
    BACKEND_BUSY = "backend answers 503"
    BACKEND_LOSSY = "backend's answers lost"
    DISK_FULL = "disk full"
    RULES_REMOVED = "rules removed, applied again"
    RULES_APPLIED = "rules applied by another tool"
    SETTINGS_CHANGED = "other settings"
    SETTINGS_WRONG = "wrong settings, then right ones"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Times are in seconds."""

    track: str
    kind: Kind
    at: float
    """After the beginning of the run, or when the one before on its track is over, if that is later."""
    lasts: float
    """Until what was killed is started again, what was stopped goes on, what was taken away comes back."""
    choice: int
    """Which one, where there are several: a worker, a tool, a form of the settings. 0 to 999."""


@dataclass(frozen=True, slots=True)
class Track:
    """Faults of one subject: how long each kind lasts, and how long it is quiet between two."""

    kinds: dict[Kind, tuple[float, float]]
    quiet: tuple[float, float]


TRACKS = {
    "daemon": Track(
        {
            Kind.WORKER_KILLED: (0.1, 0.5),
            Kind.WORKERS_KILLED: (0.1, 0.5),
            Kind.WORKER_STOPPED: (0.5, 4.0),
            Kind.WORKERS_STOPPED: (0.5, 5.0),
            Kind.SUPERVISOR_STOPPED: (0.5, 4.0),
            Kind.SUPERVISOR_KILLED: (0.3, 4.0),
            Kind.ALL_KILLED: (0.3, 4.0),
            Kind.TERMINATED: (0.0, 3.0),
        },
        (2.0, 6.0),
    ),
    "envoy": Track(
        {
            Kind.ENVOY_KILLED: (0.2, 2.0),
            Kind.ENVOY_STOPPED: (0.3, 2.5),
            Kind.PEER_KILLED: (0.2, 1.0),
            Kind.PEER_STOPPED: (0.3, 2.5),
        },
        (10.0, 20.0),
    ),
    "backend": Track(
        {
            Kind.BACKEND_KILLED: (0.5, 6.0),
            Kind.BACKEND_STOPPED: (0.5, 5.0),
            Kind.BACKEND_BUSY: (0.5, 6.0),
            Kind.BACKEND_LOSSY: (0.5, 3.0),
        },
        (2.0, 8.0),
    ),
    "disk": Track({Kind.DISK_FULL: (2.0, 10.0)}, (6.0, 18.0)),
    "rules": Track({Kind.RULES_REMOVED: (0.2, 3.0), Kind.RULES_APPLIED: (0.0, 0.5)}, (6.0, 15.0)),
    "settings": Track({Kind.SETTINGS_CHANGED: (0.5, 1.0), Kind.SETTINGS_WRONG: (1.5, 3.0)}, (5.0, 14.0)),
}
LONG = 300.0
"""Seconds of a run that has time for a worker that is stuck."""
STUCK_SECONDS = 18.0
"""Above what the supervisor waits for a worker's report."""
SHORT = 90.0
"""Seconds of a run below which things happen faster one after another, and are over sooner."""
SHORT_PACE = 0.4
END_QUIET = 3.0
"""Seconds before the end in which nothing begins."""


def schedule(seed: int, seconds: float) -> tuple[Fault, ...]:
    """All faults of a run, in their order. The same for the same arguments, on any machine."""
    faults = [fault for name, track in TRACKS.items() for fault in _of_track(name, track, seed, seconds)]
    return tuple(sorted(faults, key=lambda fault: (fault.at, fault.track)))


def _of_track(name: str, track: Track, seed: int, seconds: float) -> list[Fault]:
    draw = random.Random(f"{seed} {name}")  # text: numbers of neighbouring seeds would give alike runs
    pace = SHORT_PACE if seconds < SHORT else 1.0
    kinds = dict(track.kinds)
    if name == "daemon" and seconds >= LONG:
        kinds[Kind.WORKER_STUCK] = (STUCK_SECONDS, STUCK_SECONDS)
    faults: list[Fault] = []
    deck: list[Kind] = []
    at = _between(draw, track.quiet, pace)
    while True:
        deck = deck or _dealt(draw, list(kinds))
        kind = deck.pop()
        lasts = _between(draw, kinds[kind], pace)
        if at + lasts > seconds - END_QUIET:
            return faults
        faults.append(Fault(name, kind, at, lasts, draw.randrange(1000)))
        at = round(at + lasts + _between(draw, track.quiet, pace), 3)


def _between(draw: random.Random, limits: Sequence[float], pace: float) -> float:
    return round(pace * draw.uniform(*limits), 3)


def _dealt(draw: random.Random, kinds: list[Kind]) -> list[Kind]:
    draw.shuffle(kinds)
    return kinds
