"""Which requests go out in what order, and when (pure).

Exchanges of one session (or trace, where there is no session) are sent one after the other, each when the one before has
been answered; different sessions go side by side. As recorded, none is sent before its time.
"""

from collections.abc import Iterable

from msgspec import Struct

from sp_proxy.replay.recorded import Recorded


class Step(Struct, frozen=True):
    """One exchange, and when it is due: seconds after the start of the replay."""

    due: float
    recorded: Recorded


class Sequence(Struct, frozen=True):
    """The exchanges of one session, in order."""

    group: str
    steps: tuple[Step, ...]

    @property
    def due(self) -> float:
        """When its first step is."""
        return self.steps[0].due


def plan(exchanges: Iterable[Recorded], speed: float | None) -> list[Sequence]:
    """Sequences in the order of their first steps. ``speed`` 2 is twice as fast as recorded; None does not wait at all."""
    ordered = sorted(exchanges, key=lambda each: (each.start_unix_ns, each.span_id))
    groups: dict[str, list[Step]] = {}
    for each in ordered:
        after = (each.start_unix_ns - ordered[0].start_unix_ns) / 1e9
        groups.setdefault(each.group, []).append(Step(after / speed if speed else 0.0, each))
    return [Sequence(group, tuple(steps)) for group, steps in groups.items()]
