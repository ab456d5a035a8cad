"""The engine for people's regular expressions: what it finds, what it refuses, and that nothing makes it hang."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy import regex


def test_places_are_those_of_the_first_group_or_of_the_whole():
    assert regex.finder("a+")(b"xaayab") == [(1, 3), (4, 5)]
    assert regex.finder("x(a+)(b)?")(b"xaa xa") == [(1, 3), (5, 6)]
    assert regex.finder("a*")(b"bab") == [(1, 2)]
    assert regex.finder("x(y)?")(b"x xy") == [(3, 4)]


def test_text_is_utf_8_or_bytes():
    assert regex.finder("ü.")("aüö".encode()) == [(1, 5)]
    assert regex.finder(r"\xfc.", latin_1=True)("aüö".encode("latin-1")) == [(1, 3)]


@pytest.mark.parametrize("pattern", ["(a", "(?=a)b", r"(a)\1", "a{2000}", "[", "\ud800"])
def test_what_is_no_pattern_is_refused_with_one_line(pattern):
    for compiled in (regex.finder, regex.searcher):
        with pytest.raises(ValueError) as caught:
            compiled(pattern)
        assert "\n" not in str(caught.value)
        assert str(caught.value)


def test_too_many_matches_end_the_search():
    """Each match of this looks at all of the text that follows, so all of them would take time in its square."""
    find = regex.finder("a.*b|a")
    assert find(b"a" * 1000) == [(index, index + 1) for index in range(1000)]
    start = time.process_time()
    assert find(b"a" * 300_000) is None
    assert time.process_time() - start < 20


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*)*x", "(a|aa)+$"])
def test_patterns_that_hang_others_do_not_hang(pattern):
    start = time.process_time()
    regex.finder(pattern)(b"a" * 30_000 + b"!")
    regex.searcher(pattern)("a" * 30_000 + "!")
    assert time.process_time() - start < 5


def test_searching_in_what_may_hold_undecodable_bytes():
    found = regex.searcher("^/a.b$")
    assert found("/aüb")
    assert found("/a\udcffb")
    assert not found("/ab")


def test_a_scan_says_which():
    scan = regex.scanner([r"[0-9]{3}", "x.z", r"\xff"])
    assert not scan(b"12 xz")
    assert sorted(scan(b"xyz 123") or ()) == [0, 1]
    assert list(scan(b"\xff") or ()) == [2]


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_literal_matches_itself(text):
    assert regex.finder(regex.literal(text))(text.encode()) == [(0, len(text.encode()))]


def test_newlines_do_not_end_a_scan():
    assert list(regex.scanner(["b"])(b"a\nb\0") or ()) == [0]
