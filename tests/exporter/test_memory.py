"""An outage of the backend under load, in the short form of ``python -m benchmarks.backend_down``: the real daemon, real
traffic, 2,000 exchanges a second of 2 x 16 KiB. Memory is held, the books balance, and the traffic does not notice.
"""

import pytest

from benchmarks.backend_down import NO_SPOOL, Outcome, entered, problems, run, slower
from benchmarks.steady import Load

RATE = 2000.0
BODY_SIZE = 16384
CEILING = 48 << 20
UP_SECONDS = 4.0
DOWN_SECONDS = 7.0
LEAST = 0.7
"""Of the throughput with a backend: an outage that the traffic waited for would leave far less, and a busy machine more."""

HELD = {"exporter": {"max_memory": CEILING}}
SPOOLED = HELD | {"queue": {"max_size": "16MiB"}}
UNSPOOLED = {**NO_SPOOL, **HELD}


@pytest.fixture(scope="module")
def up() -> Outcome:
    return run(Load(RATE, UP_SECONDS, BODY_SIZE), up=True, settings=HELD)


def test_a_backend_that_is_up_gets_them(up):
    assert problems(up, CEILING) == []
    assert up.books["accepted"] + up.books["waiting"] + up.books["spooled"] > 0.5 * up.asked
    assert up.books["accepted"] > 0
    assert up.books["last_error"] == ""


@pytest.mark.parametrize("settings", [SPOOLED, UNSPOOLED], ids=["spool", "no spool"])
def test_one_that_is_down_costs_neither_memory_nor_traffic(up, settings):
    down = run(Load(RATE, DOWN_SECONDS, BODY_SIZE), up=False, settings=settings)
    assert problems(down, CEILING) == []
    assert slower(down, up, LEAST) == []
    assert entered(down.status) == down.asked
    assert down.books["accepted"] == 0
    assert down.books["last_error"]
    if settings is UNSPOOLED:  # the ceiling was reached, so it is what has held
        assert down.books["dropped"]["memory_limit"] > 0
    else:
        assert down.books["spooled"] > 0
