"""One deadline for the end of a pod: its ``terminationGracePeriodSeconds``, divided (pure).

The kubelet counts the preStop hook and what comes after SIGTERM together, and kills at the end. A native sidecar gets
its SIGTERM when the application has ended, so all that is left is the daemon's. A classic one gets it at once, with everybody
else: its preStop hook keeps it in service while the application finishes and other nodes learn that the pod is gone.
"""

from dataclasses import dataclass

DEFAULT_SECONDS = 30
"""``terminationGracePeriodSeconds`` where a pod says nothing."""
_PRE_STOP, _FLUSH, _MARGIN = 5, 5, 4
"""At most, in seconds. The margin is the supervisor's own (3 s: ``GRACE_MARGIN`` and ``KILL_MARGIN``) and the exit."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """Whole seconds, which together with a margin make the pod's."""

    pre_stop: int
    grace_period: int
    """``shutdown.grace_period``."""
    flush_timeout: int
    """``shutdown.flush_timeout``."""


def divide(seconds: int, *, pre_stop: bool) -> Deadline:
    """The parts of a pod's ``terminationGracePeriodSeconds``; of a short one, all get less."""
    seconds = max(seconds, 0)
    margin = min(_MARGIN, seconds // 4)
    flush = min(_FLUSH, seconds // 4)
    before = min(_PRE_STOP, seconds // 5) if pre_stop else 0
    return Deadline(before, seconds - margin - flush - before, flush)
