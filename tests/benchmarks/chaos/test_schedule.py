"""What goes wrong when: the same for the same seed, everything in its turn."""

from collections import Counter
from itertools import pairwise

import pytest

from benchmarks.chaos.schedule import END_QUIET, LONG, SHORT, TRACKS, Fault, Kind, schedule


def of_track(faults: tuple[Fault, ...], name: str) -> list[Fault]:
    return [fault for fault in faults if fault.track == name]


def test_a_seed_decides():
    assert schedule(7, 600) == schedule(7, 600)
    assert schedule(7, 600) != schedule(8, 600)
    assert schedule(1, 35)[:2] == (
        Fault("daemon", Kind.ALL_KILLED, 1.867, 0.845, 681),
        Fault("backend", Kind.BACKEND_STOPPED, 2.002, 1.93, 109),
    )


@pytest.mark.parametrize("seconds", [35.0, 200.0, 600.0])
def test_within_a_track_one_is_over_before_the_next_and_all_before_the_end(seconds):
    faults = schedule(3, seconds)
    assert list(faults) == sorted(faults, key=lambda fault: fault.at)
    for name in TRACKS:
        own = of_track(faults, name)
        assert own
        assert all(one.at + one.lasts < other.at for one, other in pairwise(own))
        assert own[-1].at + own[-1].lasts <= seconds - END_QUIET


@pytest.mark.parametrize("name", TRACKS)
def test_every_kind_comes_before_any_comes_again(name):
    own = of_track(schedule(5, 600), name)
    kinds = {fault.kind for fault in own}
    assert kinds >= TRACKS[name].kinds.keys()
    for end in range(1, len(own) + 1):
        counted = Counter(dict.fromkeys(kinds, 0) | Counter(fault.kind for fault in own[:end]))
        assert max(counted.values()) - min(counted.values()) <= 1


def test_ten_minutes_have_everything_and_only_a_long_run_waits_for_one_that_is_stuck():
    assert {fault.kind for fault in schedule(1, 600)} == set(Kind)
    assert Kind.WORKER_STUCK not in {fault.kind for seed in range(20) for fault in schedule(seed, LONG - 1)}


def test_a_short_run_is_faster():
    short, long = (len(of_track(schedule(1, seconds), "daemon")) for seconds in (SHORT - 1, SHORT + 1))
    assert short > 1.5 * long
