"""What stands in the place of a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.redact.action import Action, splice

HASH = Action.make("hash", "", b"0123456789abcdef")
REPLACE = Action.make("replace", "[GONE]", b"")


@given(st.binary(), st.binary())
def test_equal_values_and_no_others_have_equal_hashes(one, other):
    assert (HASH.substitute(one) == HASH.substitute(other)) == (one == other)


@given(st.binary(min_size=8))
def test_a_hash_says_nothing_of_its_value(value):
    made = HASH.substitute(value)
    assert made.startswith(b"hash:")
    assert len(made) == 21
    assert value not in made


def test_another_salt_gives_another_hash():
    assert Action.make("hash", "", b"fedcba9876543210").substitute(b"x") != HASH.substitute(b"x")


def test_a_hash_needs_a_salt():
    with pytest.raises(ValueError, match="salt"):
        Action.make("hash", "", b"")


def test_what_drops_replaces_where_it_cannot():
    drop = Action.make("drop", "[GONE]", b"")
    assert drop.drops
    assert not HASH.drops
    assert drop.substitute(b"x") == b"[GONE]"


def test_splice():
    assert splice(b"abcdef", [(1, 2), (2, 4)], REPLACE) == b"a[GONE][GONE]ef"
    assert splice(b"abc", [], REPLACE) == b"abc"


def test_values_that_mean_the_same_are_equal():
    assert splice(b"4111 1111", [(0, 9)], HASH, b" -") == splice(b"4111-1111", [(0, 9)], HASH, b" -")
