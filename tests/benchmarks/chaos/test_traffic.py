"""What excuses a request that failed, and what does not."""

from typing import Any

import pytest

from benchmarks.chaos.clients import NO_ANSWER, Request
from benchmarks.chaos.history import Done, History, Killed
from benchmarks.chaos.schedule import Kind
from benchmarks.chaos.traffic import CONTROL, SHOP, Excuse, Traffic, judge

TIMEOUT = 2.0


def request(
    begun: float,
    ended: float,
    error: str = "ended without an answer",
    *,
    pod: str = SHOP,
    way: str = "out4",
    port: int = 4000,
    hops: int = 0,
    path: str = "/p",
) -> Request:
    return Request(path, pod, way, "kept", port, begun, begun, ended, error, hops)


def refused(begun: float, ended: float, **more: Any) -> Request:
    """As an outbound client tells it, and an inbound one behind Envoy."""
    if more.get("way", "out4").startswith("out"):
        return request(begun, ended, "ConnectionRefusedError when connecting", port=0, **more)
    return request(begun, ended, "status 503: upstream connect error", **more)


def killed(*, inbound: int = 0, outbound: frozenset[int] = frozenset(), silent: bool = False) -> History:
    """At 10 s, gone 0.1 s later, back after five seconds where everything was killed."""
    kill = Killed(Kind.WORKER_KILLED, 10.0, 10.1, outbound, inbound, supervisor=silent, silent=silent)
    return History(kills=[kill], down=[(10.0, 15.0)] if silent else [])


def done(kind: Kind, begun: float = 10.0, over: float = 12.0) -> History:
    return History(done=[Done(kind, begun, over)])


def judged(history: History, *requests: Request) -> Traffic:
    return judge(requests, [], history, TIMEOUT, 0.0)


def excuses(history: History, *requests: Request) -> dict[Excuse | None, int]:
    traffic = judged(history, *requests)
    found: dict[Excuse | None, int] = {None: 0}
    for count in traffic.counts.values():
        found[None] += count.unexcused
        for excuse, number in count.failed.items():
            found[excuse] = found.get(excuse, 0) + number
    return {excuse: number for excuse, number in found.items() if number}


def test_in_flight_is_known_by_the_connection():
    history = killed(outbound=frozenset({4000}))
    assert excuses(history, request(9, 10.2)) == {Excuse.KILLED: 1}
    assert excuses(history, request(9, 10.2, port=4001)) == {None: 1}
    # The same port of the client's, but later or earlier.
    assert excuses(history, request(10.5, 10.6)) == {None: 1}
    assert excuses(history, request(9, 9.9)) == {None: 1}
    assert excuses(history, request(9, 30.0)) == {None: 1}
    assert excuses(history, request(9, 10.2, pod=CONTROL)) == {None: 1}


def test_inbound_there_are_no_more_than_connections():
    history = killed(inbound=2)
    failures = [request(9, 10.2, "status 503", way="in4") for _ in range(3)]
    assert excuses(history, *failures) == {Excuse.KILLED: 2, None: 1}


def test_new_connections_are_refused_until_the_heartbeat_is_missed():
    history = killed(silent=True)
    assert excuses(history, refused(10.5, 10.6), refused(12.9, 13.0, way="in4")) == {Excuse.SILENCE: 2}
    assert excuses(history, refused(13.7, 13.8)) == {None: 1}
    assert excuses(killed(), refused(10.5, 10.6)) == {None: 1}


def test_only_a_refusal_is_one():
    """A connection that was accepted, and was in no process that died, has no business to fail."""
    history = killed(silent=True)
    assert excuses(history, request(10.5, 10.6), request(8.0, 10.6)) == {None: 2}
    assert excuses(history, request(10.5, 10.6, "ended within the body", way="in6")) == {None: 1}
    waited = request(9.9, 10.3)  # for its turn to be accepted
    assert excuses(history, waited) == {Excuse.SILENCE: 1}


def test_an_answer_that_never_comes_has_no_excuse():
    history = killed(silent=True, outbound=frozenset({4000}))
    history.done.append(Done(Kind.ENVOY_STOPPED, 10.0, 12.0))
    hung = request(9.0, 10.2, NO_ANSWER)
    assert excuses(history, hung) == {None: 1}
    assert excuses(history, request(9.0, 10.2, NO_ANSWER, pod=CONTROL)) == {Excuse.ENVOY: 1}


def test_a_machine_that_stalls_is_late_by_as_much():
    history = killed(silent=True)
    history.stalls.append((13.0, 1.0))
    assert excuses(history, refused(14.5, 14.6)) == {Excuse.SILENCE: 1}
    assert excuses(history, refused(14.7, 14.8)) == {None: 1}
    history.stalls[:] = [(30.0, 1.0)]  # long after
    assert excuses(history, refused(14.5, 14.6)) == {None: 1}


def test_with_another_daemon_nobody_is_refused():
    history = killed(silent=True)
    history.down[:] = [(10.0, 11.0)]
    assert excuses(history, refused(10.9, 11.2)) == {Excuse.SILENCE: 1}
    assert excuses(history, refused(11.1, 11.2)) == {None: 1}


@pytest.mark.parametrize("kind", [Kind.ENVOY_KILLED, Kind.ENVOY_STOPPED, Kind.PEER_KILLED, Kind.PEER_STOPPED])
def test_an_envoy_that_is_down_excuses_both_pods(kind):
    assert excuses(done(kind), request(9, 10.5), request(11, 13, pod=CONTROL)) == {Excuse.ENVOY: 2}
    assert excuses(done(kind), request(13.1, 14), request(8, 9, pod=CONTROL)) == {None: 2}


def test_many_more_than_without_are_too_many():
    failures = [request(11, 11.1) for _ in range(60)]
    few = [request(11, 11.1, pod=CONTROL) for _ in range(2)]
    offences = judged(done(Kind.ENVOY_KILLED), *failures, *few).offences
    assert offences == ["while an Envoy was down 60 requests failed, and without sp_proxy 2"]
    as_many = [request(11, 11.1, pod=CONTROL) for _ in range(45)]
    assert judged(done(Kind.ENVOY_KILLED), *failures, *as_many).offences == []


NO_EXCUSE = set(Kind) - {Kind.ENVOY_KILLED, Kind.ENVOY_STOPPED, Kind.PEER_KILLED, Kind.PEER_STOPPED}


@pytest.mark.parametrize("kind", sorted(NO_EXCUSE))
def test_nothing_else_excuses_anything(kind):
    traffic = judged(done(kind), request(10.5, 10.6))
    assert traffic.counts[SHOP, "out4"].unexcused == 1
    (line,) = traffic.offences
    assert line == (
        "/p failed: ended without an answer; begun at 10.500, ended at 10.600, port 4000 opened at 10.500; "
        f"near: {kind} at 10.00-12.00"
    )


def test_rules_that_are_tried_without_a_daemon():
    history = done(Kind.RULES_APPLIED)
    history.down.append((1.0, 20.0))
    assert excuses(history, refused(10.5, 10.6)) == {Excuse.TRIED: 1}
    assert excuses(history, *[refused(10.5, 10.6)] * 12) == {Excuse.TRIED: 10, None: 2}
    assert excuses(history, refused(10.5, 10.6, pod=CONTROL)) == {None: 1}
    assert excuses(history, request(10.5, 10.6)) == {None: 1}, "it was connected"


def test_wrong_content_has_no_excuse():
    history = killed(outbound=frozenset({4000}), silent=True)
    assert excuses(history, request(9, 10.2, "WRONG CONTENT")) == {None: 1}


def test_hops_and_arrivals_are_what_they_must_be():
    right = [request(1, 2, "", hops=1), request(1, 2, ""), request(1, 2, "", pod=CONTROL)]
    traffic = judge(right, ["/a", "/b"], History(), TIMEOUT, 0.0)
    assert traffic.offences == []
    assert (traffic.counts[SHOP, "out4"].asked, traffic.counts[SHOP, "out4"].through) == (2, 1)
    wrong = [request(1, 2, "", hops=2, path="/x"), request(1, 2, "", hops=1, pod=CONTROL, path="/y")]
    assert judge(wrong, ["/a", "/b", "/a"], History(), TIMEOUT, 0.0).offences == [
        "/x came through 2 sp_proxies",
        "/y came through 1 sp_proxies",
        "/a arrived 2 times",
    ]
