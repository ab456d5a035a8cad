"""Readiness: a latch that each stage releases once; after that only a drain takes it back.

A worker that restarts does not make the daemon unready: its connections wait in the backlog or are relayed raw, and
taking a pod out of service for that would harm traffic more than the restart does.
"""

from collections.abc import Iterable


class Readiness:
    """Which stages the daemon still waits for, and whether it drains."""

    def __init__(self, stages: Iterable[str]) -> None:
        self._waiting = dict.fromkeys(stages)
        self._draining = False

    def release(self, stage: str) -> None:
        """The stage works. Again is the same as once."""
        self._waiting.pop(stage, None)

    def drain(self) -> None:
        """The daemon takes no more work; this is final."""
        self._draining = True

    @property
    def reasons(self) -> list[str]:
        """Why traffic must not be sent here, for people; empty when it may."""
        waiting = [f"waiting for: {stage}" for stage in self._waiting]
        return [*waiting, "draining"] if self._draining else waiting
