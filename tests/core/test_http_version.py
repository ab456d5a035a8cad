"""Which HTTP version an upload goes over."""

import pytest

from sp_proxy.core.http_version import AVOID_SECONDS, INITIAL_WINDOW, VersionChoice

SMALL, LARGE = INITIAL_WINDOW, INITIAL_WINDOW + 1


def test_http2_for_what_fits_its_first_window():
    choice = VersionChoice()
    assert choice.choose(0, 0.0) == "2"
    assert choice.choose(SMALL, 0.0) == "2"
    assert choice.choose(LARGE, 0.0) == "1.1"


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_after_no_answer_the_other_one_for_a_while(size):
    choice = VersionChoice()
    best = choice.choose(size, 0.0)
    choice.unanswered(best, 0.0)
    for now in (0.0, AVOID_SECONDS - 1):
        assert choice.choose(size, now) != best
    assert choice.choose(size, AVOID_SECONDS) == best


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_when_neither_is_answered_the_best_one(size):
    choice = VersionChoice()
    best = choice.choose(size, 0.0)
    choice.unanswered("2", 0.0)
    choice.unanswered("1.1", 1.0)
    assert choice.choose(size, 2.0) == best


def test_an_answer_clears_a_version():
    choice = VersionChoice()
    choice.unanswered("2", 0.0)
    choice.answered("1.1")
    assert choice.choose(SMALL, 1.0) == "1.1"
    choice.answered("2")
    assert choice.choose(SMALL, 1.0) == "2"
