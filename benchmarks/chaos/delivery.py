"""Judges the delivery: where every exchange is, whether some came twice, whether the books are right. Pure.

An exchange is expected that a client saw answered through sp_proxy. Then it was accepted; or it ended so shortly before its
worker or its exporter was killed that docs/delivery.md lets it be lost; or it is among those that the exporter held in memory when
it was killed, or that were dropped with a reason: of these the number is known, for each life of the daemon, and there may be no
more missing of that life (or of an earlier one, where that life had found something on disk).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.chaos.clients import Request
from benchmarks.chaos.history import Done, History, Killed
from benchmarks.chaos.schedule import Kind
from benchmarks.chaos.sink import Accepted, Answered, Entry
from benchmarks.chaos.traffic import SHOP

CHANNEL_SECONDS = 1.5
"""Before the death of a worker, for what it had not handed on: 5 ms, and a busy machine."""
CHANNEL_RECORDS = 20
"""That the death of workers may cost: none or one in most cases, as they hand on every 5 ms; on a machine without time, some."""
EXPORTER_SECONDS = 3.0
"""Before the death of a supervisor, for what was on its way to the count of what waits: channel, batch, the look itself."""
AFTER = 0.5
"""Seconds by which a client may know of its answer later than the process that gave it lived."""
CUT_OFF_SECONDS = 6.0
"""In which a reload, or an end, lets uploads that are under way finish, or cuts them off."""
SHOWN = 10
"""Paths in a line."""
_LATE = {Kind.BACKEND_KILLED, Kind.BACKEND_STOPPED, Kind.BACKEND_LOSSY, Kind.SUPERVISOR_STOPPED}
_ENVOYS = {Kind.ENVOY_KILLED, Kind.ENVOY_STOPPED, Kind.PEER_KILLED, Kind.PEER_STOPPED}
_CUT_OFF = {Kind.SETTINGS_CHANGED, Kind.SETTINGS_WRONG, Kind.TERMINATED}


@dataclass(frozen=True, slots=True)
class Delivery:
    """The judgement; numbers are exchanges."""

    expected: int
    """That a client saw answered through sp_proxy."""
    accepted: int
    """Of those."""
    lost_with_processes: int
    """By their time."""
    among: int
    """Missing otherwise: in memory of a killed exporter, or dropped."""
    in_memory: int
    """Records that killed exporters held."""
    dropped: dict[str, int]
    """By reason."""
    unknown: int
    """Accepted, and not among the expected: their client did not see the answer."""
    twice: dict[str, int]
    """Accepted again, by why."""
    offences: list[str]


def judge(requests: Sequence[Request], entries: Sequence[Entry], history: History) -> Delivery:
    """All requests, and all that the backend has written."""
    expected = {each.path: each.ended for each in requests if each.pod == SHOP and not each.error and each.hops}
    accepted = [each for each in entries if isinstance(each, Accepted)]
    answered = {each.batch: each.time for each in entries if isinstance(each, Answered)}
    ids: defaultdict[str, set[str]] = defaultdict(set)
    taken: defaultdict[str, list[Accepted]] = defaultdict(list)
    for batch in accepted:
        for span, path in batch.spans:
            ids[path].add(span)
            taken[span].append(batch)
    missing = sorted(expected.keys() - ids.keys())
    elsewhere = _not_lost_with_processes({path: expected[path] for path in missing}, history)
    nowhere = _without_room({path: expected[path] for path in elsewhere}, _rooms(history))
    dropped = _dropped(history)
    in_memory = sum(kill.waiting for kill in history.kills if kill.supervisor)
    issued = {each.path for each in requests}
    twice = _twice(taken, answered, history)

    offences = [f"{path} was captured as {len(found)} exchanges" for path, found in ids.items() if len(found) > 1]
    offences += [f"{path} was accepted, and nobody asked for it" for path in sorted(ids.keys() - issued)]
    if nowhere:
        offences.append(
            f"{len(nowhere)} exchanges are nowhere: more than their daemons had in memory when they were killed, or have dropped "
            f"(of all, {in_memory} and {sum(dropped.values())}): " + ", ".join(nowhere[:SHOWN])
        )
    if twice["unexplained"]:
        offences.append(f"{twice['unexplained']} exchanges were accepted again without a reason")
    claimed, found = sum(life.accepted for life in history.lives), sum(len(batch.spans) for batch in accepted)
    if claimed > found:
        offences.append(f"{claimed} records count as accepted, and the backend has accepted {found}")
    return Delivery(
        len(expected),
        len(expected) - len(missing),
        len(missing) - len(elsewhere),
        len(elsewhere),
        in_memory,
        dropped,
        len(ids.keys() - expected.keys()),
        dict(sorted(twice.items())),
        offences,
    )


def _not_lost_with_processes(missing: Mapping[str, float], history: History) -> list[str]:
    """The paths for which no death is near enough; that of workers alone explains few."""
    room = {id(kill): CHANNEL_RECORDS for kill in history.kills}
    left = []
    for path, ended in sorted(missing.items(), key=lambda item: item[1]):
        near = [kill for kill in history.kills if _may_be_lost(ended, kill, history)]
        if any(kill.supervisor for kill in near):
            continue
        kill = next((kill for kill in near if room[id(kill)]), None)
        if kill is None:
            left.append(path)
        else:
            room[id(kill)] -= 1
    return sorted(left)


def _may_be_lost(ended: float, kill: Killed, history: History) -> bool:
    if kill.kind is Kind.TERMINATED:  # what is reset at the end of the grace period was not answered
        return False
    before = EXPORTER_SECONDS if kill.supervisor else CHANNEL_SECONDS
    late = history.late(kill.at - before, kill.gone + AFTER)
    return kill.at - before - late <= ended <= kill.gone + AFTER + late


@dataclass(slots=True)
class _Room:
    """How many exchanges may be missing of a life."""

    began: float
    ended: float
    count: int
    carried: bool
    """It found something on disk: what it dropped may be of an earlier life."""


def _rooms(history: History) -> list[_Room]:
    """What each life has dropped, and what it held in memory when it was killed."""
    rooms = []
    for life in history.lives:
        count = sum(life.dropped.values()) + life.rejected + life.lost_before + life.lost_at_shutdown
        rooms.append(_Room(life.began, life.ended, count, life.recovered > 0))
    for kill in history.kills:
        if kill.supervisor:
            began = max((life.began for life in history.lives if life.began <= kill.at), default=0.0)
            rooms.append(_Room(began, kill.gone, kill.waiting, carried=False))
    return rooms


def _without_room(missing: Mapping[str, float], rooms: Sequence[_Room]) -> list[str]:
    """The paths for which there is none. The later one ended, the fewer lives it can be of: so the latest choose first, and
    what only their own life has.
    """
    left = []
    for path, ended in sorted(missing.items(), key=lambda item: -item[1]):
        fitting = [
            room
            for room in rooms
            if room.count and ended <= room.ended + AFTER and (room.carried or room.began - AFTER <= ended)
        ]
        if fitting:
            min(fitting, key=lambda room: room.carried).count -= 1
        else:
            left.append(path)
    return sorted(left)


def _dropped(history: History) -> dict[str, int]:
    found: Counter[str] = Counter()
    for life in history.lives:
        found.update(life.dropped)
        found["rejected"] += life.rejected
        found["channel"] += life.lost_before
        found["shutdown"] += life.lost_at_shutdown
    return {reason: count for reason, count in sorted(found.items()) if count}


def _twice(taken: dict[str, list[Accepted]], answered: dict[str, float], history: History) -> Counter[str]:
    """Spans that were accepted again, by the reason why the daemon could not know of an acceptance before."""
    reasons: Counter[str] = Counter()
    memory: dict[str, str] = {}
    for batches in taken.values():
        for before in batches[:-1]:
            if before.batch not in memory:
                memory[before.batch] = _why(before, answered.get(before.batch), history)
            reasons[memory[before.batch]] += 1
    return reasons


def _why(before: Accepted, answered: float | None, history: History) -> str:
    if answered is None:
        return "answer lost"
    near = [each for each in history.done if _meets(each, before.time - 1.0, answered + CUT_OFF_SECONDS)]
    if any(kill.supervisor and before.time - 1.0 <= kill.at <= answered + EXPORTER_SECONDS for kill in history.kills):
        return "killed before it was removed"
    for kinds, reason in ((_LATE, "answer late"), (_ENVOYS, "Envoy down"), (_CUT_OFF, "attempt cut off")):
        if any(each.kind in kinds for each in near):
            return reason
    return "unexplained"


def _meets(done: Done, begun: float, over: float) -> bool:
    return done.begun <= over and begun <= done.over
