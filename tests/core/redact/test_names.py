"""Names in rules."""

import pytest

from sp_proxy import regex
from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.names import Names

FIRST, SECOND = (Action("replace", text) for text in (b"1", b"2"))


def test_names_are_whole_in_any_case_with_stars():
    names = Names(regex, [("Token", FIRST), ("x-*-key", SECOND), ("a.b", SECOND)])
    assert names.action(b"TOKEN") is FIRST
    assert names.action(b"tokens") is None
    assert names.action(b"x-api-KEY") is SECOND
    assert names.action(b"x--key") is SECOND
    assert names.action(b"x-api-key2") is None
    assert names.action(b"axb") is None
    assert names.action(b"") is None


def test_the_first_rule_decides():
    assert Names(regex, [("a*", FIRST), ("ab", SECOND)]).action(b"ab") is FIRST


def test_patterns_are_searched():
    names = Names(regex, [], [("secret|(key)$", FIRST)])
    assert names.action(b"my-Secret-header") is FIRST
    assert names.action(b"api-key") is FIRST
    assert names.action(b"keyring") is None


def test_none_at_all():
    names = Names(regex, [])
    assert not names
    assert names.action(b"anything") is None


def test_any_bytes_are_a_name():
    names = Names(regex, [("*ü*", FIRST)])
    assert names.action("xÜ".encode()) is FIRST
    assert names.action(b"\xff\xfe") is None
    assert names.action(b"x" * 100_000) is None


def test_a_bad_pattern():
    with pytest.raises(ValueError):
        Names(regex, [], [("(", FIRST)])
