"""Pairs in URLs, forms and cookies: named values go, all else stays byte by byte."""

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy import regex
from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.names import Names
from sp_proxy.core.redact.pairs import (
    fully_unquoted,
    redact_cookies,
    redact_decoded,
    redact_form,
    redact_url,
    without_userinfo,
)

GONE = Action("replace", b"[R]")
HASH = Action("hash", b"", b"0123456789abcdef")
NAMES = Names(regex, [("token", GONE), ("*secret*", HASH), ("gone", Action("drop", b"[D]"))])


@pytest.mark.parametrize(
    "url,left",
    [
        (b"/x?a=1&token=abc&b=2", b"/x?a=1&token=[R]&b=2"),
        (b"/x?TOKEN=abc", b"/x?TOKEN=[R]"),
        (b"/x?tok%65n=abc", b"/x?tok%65n=[R]"),
        (b"/x?token=a;b=c", b"/x?token=[R]"),
        (b"/x?token=a?b=c/d", b"/x?token=[R]"),
        (b"https://h/cb#id=1&token=abc", b"https://h/cb#id=1&token=[R]"),
        (b"/a;token=abc?b=1", b"/a;token=[R]?b=1"),
        (b"/a?b=1;token=abc;c", b"/a?b=1%3Btoken=[R]%3Bc"),
        (b"/a?next=%2Fx%3Ftoken%3Dabc&z=1", b"/a?next=/x%3Ftoken=[R]&z=1"),
        (b"/a?next=https://h/?token=abc", b"/a?next=https://h/%3Ftoken=[R]"),
        (b"/a?gone=1", b"/a?gone=[D]"),
        (b"/x?token=", b"/x?token="),
        (b"/x?token", b"/x?token"),
        (b"/x?tokens=1&=2&&==", b"/x?tokens=1&=2&&=="),
        (b"/token=abc", b"/token=[R]"),
        (b"", b""),
        (b"/\xff?token=\xff", b"/\xff?token=[R]"),
    ],
)
def test_urls(url, left):
    assert redact_url(url, NAMES) == left


def test_user_and_password():
    assert without_userinfo(b"go to https://u:p@h/a@b", b"[R]") == b"go to https://[R]@h/a@b"
    assert without_userinfo(b"https://h/a@b mailto:x@y", b"[R]") == b"https://h/a@b mailto:x@y"
    assert without_userinfo(b"http://u:p%40@h http://v@h", b"-") == b"http://-@h http://-@h"


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), TEXT.map(lambda text: "S3" + text))
def test_a_form_is_still_one_and_its_other_fields_are_the_same(fields, secret):
    fields = [(name, value) for name, value in fields if "=" not in value and name.lower() not in {"token", "gone"}]
    fields = [(name, value) for name, value in fields if "secret" not in name.lower()]
    body = urlencode([*fields, ("token", secret), ("mySecret", secret)]).encode()
    redacted, dropping = redact_form(body, NAMES)
    assert dropping is None
    assert parse_qsl(redacted.decode(), keep_blank_values=True) == [
        *fields,
        ("token", "[R]"),
        ("mySecret", HASH.substitute(secret.encode()).decode()),
    ]


def test_a_form_tells_of_an_action_that_drops():
    assert redact_form(b"a=1&gone=2", NAMES)[1] is not None
    assert redact_form(b"a=1", NAMES) == (b"a=1", None)


@pytest.mark.parametrize(
    "value,attributes,left",
    [
        (b"a=1; token=abc; b=2", False, b"a=1; token=[R]; b=2"),
        (b'token="a b"', False, b"token=[R]"),
        (b"token=abc; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT", True, None),
        (b"a=1; token=abc", True, b"a=1; token=abc"),
        (b"nonsense", False, b"nonsense"),
        (b"token=a=b;c", False, b"token=[R];c"),
    ],
)
def test_cookies(value, attributes, left):
    expected = left if left is not None else value.replace(b"abc", b"[R]")
    assert redact_cookies(value, NAMES, attributes=attributes) == expected


def test_what_is_encoded_is_redacted_as_what_it_means():
    def redact(text: bytes) -> bytes:
        return text.replace(b"a b@c", b"[R]")

    assert redact_decoded(b"/x?u=a+b%40c&v=%20+", redact) == b"/x?u=[R]&v=%20+"
    assert redact_decoded(b"/a%20b%2540c/d", redact) == b"/[R]/d"
    assert redact_decoded(b"/plain", redact) == b"/plain"


@given(st.binary(max_size=50))
def test_any_bytes_can_be_decoded(text):
    assert b"%41" not in fully_unquoted(text.replace(b"%", b"")) or b"%41" in text
    redact_url(text, NAMES)
    redact_form(text, NAMES)
    redact_cookies(text, NAMES, attributes=False)
