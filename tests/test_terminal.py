"""Captured text on a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.terminal import safe


@pytest.mark.parametrize(
    "text, shown",
    [
        ("GET /größe?日本=1", "GET /größe?日本=1"),
        ("a\x1b[31m\r\n\x9b\u202eé日", "a\\x1b[31m\\x0d\\x0a\\x9b\\u202eé日"),
        ("a\u200bb\ufeff\u00a0", "a\\u200bb\\ufeff\\xa0"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
    ],
)
def test_what_cannot_be_seen_is_its_code(text, shown):
    assert safe(text) == shown


def test_lines_stay_lines_where_they_may():
    assert safe("a\tb\r\nc\x1b", lines=True) == "a\tb\\x0d\nc\\x1b"


@given(st.text(st.characters()), st.booleans())
def test_nothing_instructs_a_terminal(text, lines):
    shown = safe(text, lines=lines)
    assert (shown.replace("\n", "").replace("\t", "") if lines else shown).isprintable()
    shown.encode()
