"""What either of two redactions would not send is not sent, in whatever part of an exchange it stands."""

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy import regex
from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.redact.stricter import Stricter

CARD = "4111111111111111"
JSON = b"application/json"
PNG = b"image/png"


def redactor(detectors=(), **rule) -> Redactor:
    rules = (RuleConfig(**{"action": "replace", "replacement": "[GONE]", **rule}),) if rule else ()
    return Redactor(RedactionConfig(rules=rules, detectors=dict.fromkeys(detectors, "replace")), regex)


CARDS = redactor(["payment_card"])
NAMES = redactor(
    headers=("x-secret",),
    query=("token",),
    json_paths=("$.password",),
    text=("hunter[0-9]",),
)
PLAIN = redactor()
BOTH = [Stricter(CARDS, NAMES), Stricter(NAMES, CARDS)]


@pytest.mark.parametrize("both", BOTH)
def test_headers(both):
    assert both.header("x-secret", "s") == "[GONE]"
    assert CARD not in (both.header("x-card", CARD) or "")
    assert both.header("authorization", "Basic x") is None
    assert both.header("accept", "text/html", clean=True) == "text/html"
    assert not both.is_plain("x-secret")
    assert not both.is_plain("authorization")
    assert not both.is_clean(f"x: {CARD}".encode())
    assert both.is_clean(b"x: y")


@pytest.mark.parametrize("both", BOTH)
def test_targets_authorities_and_sessions(both):
    made = both.target(f"/pay?card={CARD}&token=abc".encode())
    assert CARD.encode() not in made
    assert b"abc" not in made
    assert b"user" not in both.authority(b"user:password@shop.example")
    assert both.session(b"sp-session-1") == b"sp-session-1"


@pytest.mark.parametrize("both", BOTH)
def test_text_bodies(both):
    made = both.body(b'{"password":"p","card":"%s"}' % CARD.encode(), JSON, complete=True)
    assert CARD.encode() not in made
    assert b'"p"' not in made


@pytest.mark.parametrize("both", BOTH)
def test_text_in_another_charset_is_read_once(both):
    body = f"hunter2 é {CARD}".encode("utf-16")
    made = both.body(body, b"text/plain; charset=utf-16", complete=True).decode()
    assert "é" in made
    assert "hunter2" not in made
    assert CARD not in made


@pytest.mark.parametrize("both", BOTH)
def test_binary_bodies(both):
    plain = b"\x00\x01\xff"
    assert both.body(plain, PNG, complete=True) == b64encode(plain)
    made = both.body(plain + b" " + CARD.encode() + b" ", PNG, complete=True)
    assert CARD.encode() not in b64decode(made)


def test_what_one_leaves_out_stays_out():
    class Nothing(Redactor):
        def header(self, name, value, *, clean=False):
            return None

        def body(self, content, content_type, *, complete):
            return None

        def coded_body(self, body):
            return None

    nothing = Nothing(RedactionConfig(), regex)
    for both in (Stricter(nothing, PLAIN), Stricter(PLAIN, nothing)):
        assert both.header("accept", "*/*") is None
        assert both.body(b"x", JSON, complete=True) is None
        assert both.body(b"\xff\x00", PNG, complete=True) is None
        assert both.coded_body(b"x") is None


def test_a_body_that_nobody_could_read():
    assert Stricter(PLAIN, PLAIN).coded_body(b"\x01") == b64encode(b"\x01")
    for both in BOTH:
        assert both.coded_body(b"\x01") != b64encode(b"\x01")


@given(st.binary(max_size=200), st.sampled_from([JSON, b"text/plain", PNG, b""]), st.booleans())
def test_with_one_that_does_nothing_it_is_the_other(content, content_type, complete):
    for both in (Stricter(PLAIN, CARDS), Stricter(CARDS, PLAIN)):
        assert both.body(content, content_type, complete=complete) == CARDS.body(
            content, content_type, complete=complete
        )
        assert both.target(content) == CARDS.target(content)
