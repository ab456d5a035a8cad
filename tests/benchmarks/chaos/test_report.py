"""What a run prints."""

from collections import Counter

from benchmarks.chaos.delivery import Delivery
from benchmarks.chaos.history import Done, History
from benchmarks.chaos.report import RULES_ENOUGH, TRACES, problems, report
from benchmarks.chaos.schedule import Kind
from benchmarks.chaos.traffic import Count, Excuse, Traffic


def traffic(*offences: str, through: int = 80) -> Traffic:
    shop = Count(100, through, Counter({Excuse.KILLED: 3}), 1)
    return Traffic({("shop", "out4"): shop, ("control", "out4"): Count(90)}, list(offences))


def delivery(*offences: str) -> Delivery:
    return Delivery(80, 70, 6, 4, 5, {"queue_full": 4}, 2, {"answer lost": 7}, list(offences))


HISTORY = History(done=[Done(Kind.ALL_KILLED, 1.0, 3.5), Done(Kind.ALL_KILLED, 9.0, 10.0)])


def test_everything_is_in_it():
    text = report(7, 600.0, traffic(), delivery(), HISTORY, [])
    assert text.startswith("Chaos of 600 s, seed 7: 190 requests, 2 faults; the machine stalled for 0.0 s at most.\n")
    assert "| shop | out4 | 100 | 80 | 3 | 0 | 0 | 0 | 1 |" in text
    assert "| everything killed | 2 | 3.5 |" in text
    assert "| records dropped, by reason | `queue_full` 4 |" in text
    assert "| accepted twice, by why | answer lost 7 |" in text
    assert text.endswith("every exchange is accounted for.\n")


def test_what_there_was_no_time_for_is_said():
    text = report(7, 600.0, traffic(), delivery(), History(left_out=3), [])
    assert "requests, 0 faults (3 were left out: the machine is too slow); the" in text


def test_what_must_not_be_is_told_with_the_seed():
    text = report(7, 600.0, traffic(), delivery(), HISTORY, [f"/p{number} failed" for number in range(40)])
    assert "**40 must not be** (seed 7):\n\n- /p0 failed\n- /p1 failed\n" in text
    assert text.endswith("- /p29 failed\n\n… and 10 more.\n")


def test_what_is_a_problem():
    history = History(troubles=["unbalanced"])
    assert problems(traffic("failed"), delivery("nowhere"), history) == ["failed", "nowhere", "unbalanced"]
    assert problems(traffic(), delivery(), History()) == []
    loops = History(refused=Counter(loop=2, upstream_connect_failed=7))
    assert problems(traffic(), delivery(), loops) == ["2 connections were taken for a loop, and there is none"]
    enough, event = TRACES[Kind.SETTINGS_CHANGED]
    made = [Done(Kind.SETTINGS_CHANGED, float(at), at + 1.0) for at in range(enough)]
    untold = f"other settings: {enough} times, and the daemon never said {event}"
    assert problems(traffic(), delivery(), History(done=made)) == [untold]
    assert problems(traffic(), delivery(), History(done=made, seen=Counter(reloaded=1))) == []
    assert problems(traffic(), delivery(), History(done=made[1:])) == []
    rules = History(done=[Done(Kind.RULES_APPLIED, float(at), at + 1.0) for at in range(RULES_ENOUGH)])
    assert problems(traffic(), delivery(), rules) == ["rules applied by another tool: 10 times, and never written"]
    assert problems(traffic(through=5), delivery(), History()) == ["only 5 of 100 requests came through sp_proxy"]
