"""Judges the requests: whether each that failed would have failed without sp_proxy too. Pure.

What excuses a failure is exactly what the design says of failing open (docs/netfilter.md), and nothing else:

- it was in flight in a process of the daemon at the moment that was killed (or, of a drain, at the end of the grace period,
  when what is left is reset). Outbound that is known by its connection;
  inbound, where Envoy opens it, by its time, and there are no more of them than the process had connections;
- everything was killed at once, and the kernel had not missed a heartbeat for its timeout yet: new connections are refused, and
  it must be a refusal that the client tells of;
- an Envoy on its way was down. That the control group fares alike then, without sp_proxy, is a condition of its own;
- ``netfilter apply`` tried the rules without a daemon: its own heartbeats have connections redirected for some milliseconds, and
  they are refused.

A process that is stopped, a drain, other settings, a full disk, a backend that is down, rules that come and go: none of these
excuses anything. Nothing excuses an answer with other bytes, or none at all for as long as a client waits: of all that is
killed here, the kernel tells at once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import sqrt

from benchmarks.chaos.clients import NO_ANSWER, WRONG_CONTENT, Request
from benchmarks.chaos.history import History, Killed
from benchmarks.chaos.schedule import Kind

SHOP, CONTROL = "shop", "control"
"""The pod with sp_proxy, and the one without."""
MARGIN = 1.5
"""Seconds beyond the heartbeat's timeout: the kernel's granularity, and a busy machine."""
AFTERMATH = 5.0
"""Seconds in which the failure of a connection has come through Envoy to the client."""
ENVOY_MARGIN = 1.0
"""Seconds after an Envoy is ready in which connections to it may still be found dead."""
MOST_TRIED = 10
"""Requests that one ``netfilter apply`` may cost: it has no more than some ten probes."""
NEAR = 5.0
"""Seconds around a failure of which its line tells what happened."""
_ENVOYS = {Kind.ENVOY_KILLED, Kind.ENVOY_STOPPED, Kind.PEER_KILLED, Kind.PEER_STOPPED}
_RULES = {Kind.RULES_APPLIED, Kind.RULES_REMOVED}


class Excuse(StrEnum):
    """Why a request may have failed."""

    KILLED = "in flight in a killed process"
    SILENCE = "refused until heartbeats were missed"
    ENVOY = "an Envoy was down"
    TRIED = "rules tried without a daemon"


@dataclass(slots=True)
class Count:
    """Requests of one pod on one way."""

    asked: int = 0
    through: int = 0
    """Answered, and came through sp_proxy."""
    failed: Counter[Excuse] = field(default_factory=Counter)
    unexcused: int = 0


@dataclass(slots=True)
class Traffic:
    """The judgement."""

    counts: dict[tuple[str, str], Count]
    """By pod and way."""
    offences: list[str]

    def failed(self, pod: str, excuse: Excuse) -> int:
        """Of a whole pod."""
        return sum(count.failed[excuse] for (of, _), count in self.counts.items() if of == pod)


def judge(
    requests: Sequence[Request], arrived: Iterable[str], history: History, heartbeat_timeout: float, begun: float
) -> Traffic:
    """``arrived``: the paths with which requests came to the applications. ``begun``: when the run did, for the lines."""
    counts: defaultdict[tuple[str, str], Count] = defaultdict(Count)
    offences: list[str] = []
    room = {id(kill): kill.inbound for kill in history.kills}
    room |= {id(done): MOST_TRIED for done in history.done if done.kind in _RULES}
    for request in sorted(requests, key=lambda each: each.begun):
        count = counts[request.pod, request.way]
        count.asked += 1
        if not request.error:
            count.through += request.hops > 0
            if request.hops != (request.hops == 1 and request.pod == SHOP):
                offences.append(f"{request.path} came through {request.hops} sp_proxies")
            continue
        excuse = _excuse(request, history, room, heartbeat_timeout)
        if excuse is None:
            count.unexcused += 1
            offences.append(_line(request, history, begun))
        else:
            count.failed[excuse] += 1
    offences += [f"{path} arrived {times} times" for path, times in Counter(arrived).items() if times > 1]
    traffic = Traffic(dict(counts), offences)
    offences += _more_than_without(traffic)
    return traffic


def _excuse(request: Request, history: History, room: dict[int, int], heartbeat_timeout: float) -> Excuse | None:
    if request.error == WRONG_CONTENT or (request.error == NO_ANSWER and request.pod == SHOP):
        return None
    if request.pod == SHOP:
        for kill in history.kills:
            if _was_in(request, kill, room, AFTERMATH + history.late(kill.at, kill.gone + AFTERMATH)):
                return Excuse.KILLED
        for kill in history.kills:
            if kill.silent and _met_silence(request, kill, history, heartbeat_timeout):
                return Excuse.SILENCE
    for done in history.done:
        late = history.late(done.begun, done.over + ENVOY_MARGIN)
        if done.kind in _ENVOYS and _meets(request, done.begun, done.over + ENVOY_MARGIN + late):
            return Excuse.ENVOY
    if request.pod == SHOP and _refused(request):
        for done in history.done:
            tried = done.kind in _RULES and _meets(request, done.begun, done.over)
            if tried and _without_daemon(done.over, history) and room[id(done)]:
                room[id(done)] -= 1
                return Excuse.TRIED
    return None


def _was_in(request: Request, kill: Killed, room: dict[int, int], aftermath: float) -> bool:
    """Its connection was open in there."""
    if not (request.begun <= kill.gone and kill.at <= request.ended <= kill.gone + aftermath):
        return False
    if request.way.startswith("out"):
        return request.port in kill.outbound and request.opened <= kill.gone
    if not room[id(kill)]:
        return False
    room[id(kill)] -= 1
    return True


def _refused(request: Request) -> bool:
    """Its connection never was one: outbound the client itself is told so, inbound Envoy is, and says 503."""
    if request.way.startswith("out"):
        return not request.port
    return request.error.startswith("status 503")


def _met_silence(request: Request, kill: Killed, history: History, heartbeat_timeout: float) -> bool:
    """Refused until nothing is redirected to nobody any more: the heartbeat is missed, or there is another daemon. Or it waited to
    be accepted when the listening sockets went.
    """
    missed = kill.gone + heartbeat_timeout + MARGIN
    back = [over for begun, over in history.down if begun == kill.at]
    if not _meets(request, kill.at, min([missed + history.late(kill.at, missed), *back])):
        return False
    waited = kill.at - MARGIN - history.late(kill.at - MARGIN, kill.at) <= request.opened <= kill.gone
    return _refused(request) or (waited and request.way.startswith("out"))


def _meets(request: Request, begun: float, over: float) -> bool:
    return request.begun <= over and begun <= request.ended


def _without_daemon(applied: float, history: History) -> bool:
    return any(begun <= applied and over >= applied - NEAR for begun, over in history.down)


def _line(request: Request, history: History, begun: float) -> str:
    near = [
        f"{done.kind} at {done.begun - begun:.2f}-{done.over - begun:.2f}"
        for done in sorted(history.done, key=lambda each: each.begun)
        if _meets(request, done.begun - NEAR, done.over + NEAR)
    ]
    return (
        f"{request.path} failed: {request.error}; begun at {request.begun - begun:.3f}, ended at {request.ended - begun:.3f}, "
        f"port {request.port} opened at {request.opened - begun:.3f}; near: {', '.join(near) or 'nothing'}"
    )


def _more_than_without(traffic: Traffic) -> list[str]:
    """While an Envoy was down as many fail with sp_proxy as without, but for chance: four standard deviations and a quarter."""
    ours, theirs = traffic.failed(SHOP, Excuse.ENVOY), traffic.failed(CONTROL, Excuse.ENVOY)
    limit = 1.25 * theirs + 4 * sqrt(ours + theirs) + 5
    if ours <= limit:
        return []
    return [f"while an Envoy was down {ours} requests failed, and without sp_proxy {theirs}"]
