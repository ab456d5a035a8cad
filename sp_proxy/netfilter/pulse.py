"""Is the daemon at work? For ``verify``: redirecting may depend on it, and the probes are to show what the rules do in any case.

A daemon that sends heartbeats is used as it is. Where nothing listens on its ports there is none, and nothing is
redirected: the probes then send heartbeats themselves, and withdraw them as soon as each has been answered, since what
is redirected in between is refused. Listening without heartbeats is a fault.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

from sp_proxy.netfilter import probes
from sp_proxy.netfilter.rules import Chain, Redirect, Rule, Ruleset

type ReadCounters = Callable[[], dict[tuple[Chain, int], int]]

_LOOK_INTERVAL_SECONDS = 0.1


class Pulse(Enum):
    """What was found."""

    NOT_NEEDED = auto()
    """The rules redirect in any case."""
    STEADY = auto()
    """The daemon sends heartbeats."""
    MISSING = auto()
    """It listens and sends none."""
    NO_DAEMON = auto()


def feel(ruleset: Ruleset, listens: Callable[[int], bool], read_counters: ReadCounters) -> Pulse:
    """Waits for a heartbeat of the daemon, if it listens: half of the timeout, which is twice as long as one may take."""
    rule = ruleset.heartbeat
    if rule is None:
        return Pulse.NOT_NEEDED
    if not any(listens(port) for port in redirect_ports(ruleset)):
        return Pulse.NO_DAEMON
    key = (Chain.OUTBOUND, ruleset.chain(Chain.OUTBOUND).index(rule))
    before = read_counters()[key]
    deadline = time.monotonic() + timeout_seconds(ruleset) / 2
    while read_counters()[key] == before:
        if time.monotonic() > deadline:
            return Pulse.MISSING
        time.sleep(_LOOK_INTERVAL_SECONDS)
    return Pulse.STEADY


def redirect_ports(ruleset: Ruleset) -> list[int]:
    """The daemon's ports, in order."""
    return sorted({rule.action.port for rule in ruleset.rules if isinstance(rule.action, Redirect)})


def timeout_seconds(ruleset: Ruleset) -> int:
    """How long redirecting outlives a heartbeat; 0: it does not depend on them."""
    rule = ruleset.heartbeat
    return getattr(rule.action, "timeout_seconds", 0) if rule else 0


@dataclass(frozen=True, slots=True)
class Heart:
    """Sends heartbeats for the probes; none if the daemon does, or none are needed."""

    rule: Rule | None

    @contextmanager
    def beating(self) -> Iterator[None]:
        """What the rules redirect, they redirect in this block. Raises ``NetfilterError`` where that is not permitted."""
        if self.rule is None:
            yield
            return
        port, user = self.rule.match.ports[0].first, self.rule.match.users[0]
        probes.heartbeat(port, user)
        try:
            yield
        finally:
            probes.heartbeat(port + 1, user)
