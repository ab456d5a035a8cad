import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.query.syntax import (
    EVERYTHING,
    And,
    Match,
    Not,
    Or,
    Pattern,
    Range,
    Text,
    Word,
    all_of,
    conjuncts,
    containing,
    exactly,
    fold,
    has_text,
    text_of,
    words,
)
from tests.backend.query.strategies import patterns

GET = Match("method", exactly("GET"))
FAILED = Range("status", 500, None)
SEARCH = Text((Word("ok"),))


def test_the_shapes_of_a_pattern():
    assert exactly("a*").exact == "a*"
    assert Pattern(("/api/", "*", "")).prefix == "/api/"
    assert containing("x").part == "x"
    assert (containing("x").exact, containing("x").prefix, exactly("x").part) == (None, None, None)
    assert Pattern(("", "?", "")).prefix is None


@pytest.mark.parametrize(
    "pattern, fits, not_fits",
    [
        (("/a/", "*", ""), ["/a/", "/a/b\n\x00"], ["/a", "x/a/"]),
        (("", "?", ""), ["x", "é", "\n"], ["", "xx"]),
        (("a.", "*", "z"), ["a.z", "a.*z"], ["abz", "a.zz."]),
    ],
)
def test_a_pattern_is_about_the_whole_value(pattern, fits, not_fits):
    regex = Pattern(pattern).regex()
    assert [bool(regex.fullmatch(value)) for value in fits] == [True] * len(fits)
    assert [bool(regex.fullmatch(value)) for value in not_fits] == [False] * len(not_fits)


@given(patterns(), st.text(alphabet="x/o*\\é", max_size=12))
@example(Pattern(("x", "*", "o", "?", "", "*", "x")), "xooxx")
@example(Pattern(("", "*", "oo", "*", "o")), "oo")
def test_a_pattern_fits_what_it_says(pattern, value):
    wild = {"*": ".*", "?": "."}
    plain = "".join(wild[piece] if at % 2 else re.escape(piece) for at, piece in enumerate(pattern.pieces))
    found = re.fullmatch(plain, value, re.DOTALL) is not None
    assert (pattern.regex().fullmatch(value) is not None) == found


def test_many_stars_on_a_long_value_are_soon_answered():
    """By going back and forth between the stars it would take years: the test's own time limit holds here."""
    regex = Pattern(("", *("*", "a") * 12, "?", "b")).regex()
    assert regex.fullmatch("a" * 2048) is None
    assert regex.fullmatch("a" * 2048 + "b") is not None


def test_conjunctions_are_flat():
    assert all_of() == EVERYTHING
    assert all_of(GET) == GET
    assert all_of(And((GET, FAILED)), SEARCH, EVERYTHING) == And((GET, FAILED, SEARCH))
    assert conjuncts(GET) == (GET,)
    assert conjuncts(And((GET, FAILED))) == (GET, FAILED)


def test_a_text_search_is_found_at_any_depth():
    assert has_text(And((GET, Or((FAILED, Not(SEARCH))))))
    assert not has_text(And((GET, Or((FAILED, Not(GET))))))


def test_words_are_runs_of_letters_and_digits():
    assert words(fold("Order-17: Größe_x \x00日本")) == ["order", "17", "größe", "x", "日本"]


@given(st.text())
def test_a_word_holds_no_separator(text):
    for word in words(fold(text)):
        assert re.fullmatch(r"[0-9a-z\x80-\U0010ffff]+", word)


@given(patterns())
def test_a_pattern_reads_exactly_the_same(pattern):
    assert parse(text_of(Match("path", pattern)), now_unix_ns=0) == Match("path", pattern)
