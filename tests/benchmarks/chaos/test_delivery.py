"""Where every exchange is."""

from collections.abc import Mapping

import pytest

from benchmarks.chaos.clients import Request
from benchmarks.chaos.delivery import CHANNEL_RECORDS, Delivery, judge
from benchmarks.chaos.history import Done, History, Killed, Life
from benchmarks.chaos.schedule import Kind
from benchmarks.chaos.sink import Accepted, Answered, Entry


def asked(*times: float, hops: int = 1, error: str = "") -> list[Request]:
    """Requests by when they ended; named by their place."""
    return [
        Request(f"/{number}", "shop", "out4", "kept", 4000, at - 0.1, at - 0.1, at, error, hops)
        for number, at in enumerate(times)
    ]


def taken(*paths: str, at: float = 50.0, batch: str = "b", answered: bool = True) -> list[Entry]:
    accepted = Accepted(batch, at, [(f"span of {path}", path) for path in paths])
    return [accepted, *([Answered(batch, at)] if answered else [])]


def killed(*, supervisor: bool, waiting: int = 0, at: float = 10.0) -> History:
    kill = Killed(
        Kind.ALL_KILLED, at, at + 0.1, frozenset(), 0, supervisor=supervisor, silent=supervisor, waiting=waiting
    )
    return History(kills=[kill])


def life(accepted: int = 0, dropped: Mapping[str, int] | None = None, **more: int) -> Life:
    return Life(0.0, 100.0, 0, 0, accepted, more.get("rejected", 0), 0, 0, dropped or {}, more.get("lost_before", 0))


def numbers(judged: Delivery) -> tuple[int, int, int, int]:
    return judged.expected, judged.accepted, judged.lost_with_processes, judged.among


def test_all_is_well():
    judged = judge(asked(1.0, 2.0), taken("/0", "/1"), History(lives=[life(2)]))
    assert numbers(judged) == (2, 2, 0, 0)
    assert (judged.offences, judged.twice, judged.dropped) == ([], {}, {})


def test_only_what_came_through_is_expected():
    requests = asked(1.0, error="no answer") + asked(1.0, hops=0)
    assert numbers(judge(requests, [], History())) == (0, 0, 0, 0)
    assert judge(requests, taken("/0"), History()).unknown == 1


@pytest.mark.parametrize(
    "ended, supervisor, lost",
    [
        (8.6, False, True),
        (8.4, False, False),
        (7.1, True, True),
        (6.9, True, False),
        (10.5, False, True),
        (11.0, True, False),
    ],
)
def test_what_ended_shortly_before_a_kill_may_be_lost(ended, supervisor, lost):
    judged = judge(asked(ended), [], killed(supervisor=supervisor))
    assert numbers(judged) == ((1, 0, 1, 0) if lost else (1, 0, 0, 1))
    assert bool(judged.offences) is not lost
    assert all(offence.startswith("1 exchanges are nowhere: ") for offence in judged.offences)


def test_the_death_of_a_worker_costs_few():
    allowed = asked(*[9.9] * CHANNEL_RECORDS)
    assert judge(allowed, [], killed(supervisor=False)).offences == []
    more = asked(*[9.9] * (CHANNEL_RECORDS + 2))
    assert judge(more, [], killed(supervisor=False)).offences[0].startswith("2 exchanges are nowhere")
    assert judge(more, [], killed(supervisor=True)).offences == []


def test_of_what_was_in_memory_or_dropped_the_number_is_known():
    assert judge(asked(1.0, 2.0), [], killed(supervisor=True, waiting=2)).offences == []
    assert judge(asked(1.0, 2.0), [], killed(supervisor=True, waiting=1)).offences
    assert judge(asked(1.0, 2.0), [], killed(supervisor=False, waiting=2)).offences
    history = History(lives=[life(dropped={"queue_full": 1}), life(lost_before=1)])
    judged = judge(asked(1.0, 2.0), [], history)
    assert (judged.offences, judged.dropped) == ([], {"channel": 1, "queue_full": 1})
    assert judge(asked(1.0, 2.0, 3.0), [], history).offences


def living(began: float, ended: float, *, dropped: int = 0, recovered: int = 0) -> Life:
    return Life(began, ended, 0, recovered, 0, 0, 0, 0, {"queue_full": dropped}, 0)


@pytest.mark.parametrize(
    "lives, nowhere",
    [
        ([living(0, 10, dropped=1), living(10, 20, dropped=1)], []),
        ([living(0, 10, dropped=2), living(10, 20)], ["/1"]),
        ([living(0, 10), living(10, 20, dropped=2)], ["/0"]),
        # What it found on disk may be of a life before, never of one after.
        ([living(0, 10), living(10, 20, dropped=2, recovered=9)], []),
        ([living(0, 10, dropped=1), living(10, 20, dropped=1, recovered=9)], []),
        ([living(0, 10, dropped=9, recovered=9), living(10, 20)], ["/1"]),
    ],
)
def test_what_one_life_has_dropped_is_no_excuse_for_another(lives, nowhere):
    judged = judge(asked(5.0, 15.0), [], History(lives=lives))
    allowed = sum(sum(life.dropped.values()) for life in lives)
    if not nowhere:
        assert judged.offences == []
        return
    (offence,) = judged.offences
    assert offence.startswith(f"{len(nowhere)} exchanges are nowhere: more than their daemons had in memory")
    assert offence.endswith(f"(of all, 0 and {allowed}): {', '.join(nowhere)}")


def test_what_a_killed_exporter_held_is_of_its_own_life():
    kill = Killed(Kind.ALL_KILLED, 20.0, 20.1, frozenset(), 0, supervisor=True, silent=True, waiting=2)
    lives = [living(0, 10), living(10, 20)]
    assert judge(asked(12.0, 13.0), [], History(kills=[kill], lives=lives)).offences == []
    assert judge(asked(5.0, 13.0), [], History(kills=[kill], lives=lives)).offences[0].endswith(": /0")


def again(history: History, *, answered: bool = True) -> dict[str, int]:
    """One that is accepted twice, first at 50 s."""
    entries = [*taken("/0", answered=answered), *taken("/0", at=55.0, batch="c")]
    judged = judge(asked(49.0), entries, history)
    assert bool(judged.offences) is ("unexplained" in judged.twice)
    return judged.twice


@pytest.mark.parametrize(
    "kind, reason",
    [
        (Kind.BACKEND_STOPPED, "answer late"),
        (Kind.SUPERVISOR_STOPPED, "answer late"),
        (Kind.ENVOY_KILLED, "Envoy down"),
        (Kind.SETTINGS_CHANGED, "attempt cut off"),
        (Kind.TERMINATED, "attempt cut off"),
        (Kind.DISK_FULL, "unexplained"),
        (Kind.RULES_REMOVED, "unexplained"),
    ],
)
def test_why_one_is_accepted_twice(kind, reason):
    assert again(History(done=[Done(kind, 48.0, 52.0)])) == {reason: 1}
    assert again(History(done=[Done(kind, 10.0, 11.0)])) == {"unexplained": 1}


def test_an_answer_that_was_not_given_or_not_noted():
    assert again(History(), answered=False) == {"answer lost": 1}
    assert again(killed(supervisor=True, at=50.5)) == {"killed before it was removed": 1}
    assert again(killed(supervisor=False, at=50.5)) == {"unexplained": 1}


def test_books_that_claim_too_much():
    judged = judge(asked(1.0), taken("/0"), History(lives=[life(1), life(1)]))
    assert judged.offences == ["2 records count as accepted, and the backend has accepted 1"]


def test_an_exchange_that_is_two_or_nobodys():
    two: list[Entry] = [Accepted("b", 50.0, [("one", "/0"), ("another", "/0")]), Answered("b", 50.0)]
    assert judge(asked(1.0), two, History()).offences == ["/0 was captured as 2 exchanges"]
    assert judge([], taken("/7"), History()).offences == ["/7 was accepted, and nobody asked for it"]
