"""Text or base64, and always valid UTF-8."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.body import body_text, media_type

BINARY = bytes(range(256))

TEXT_TYPES = [
    "text/plain",
    "TEXT/HTML; charset=UTF-8",
    "text/event-stream",
    "application/json",
    "Application/JSON; charset=utf-8",
    "application/xml",
    "application/x-www-form-urlencoded",
    "application/merge-patch+json",
    "application/soap+xml;charset=utf-8",
    " application/problem+json ; x=y",
]
BINARY_TYPES = [
    "",
    "application/octet-stream",
    "image/png",
    "multipart/form-data; boundary=text/plain",
    "application/grpc",
    "application/grpc+json",
    "application/x; y=+json",
    ";text/plain",
]


@pytest.mark.parametrize("content_type", TEXT_TYPES)
def test_text_types(content_type):
    assert body_text('{"grüße":1}'.encode(), content_type.encode()).decode() == '{"grüße":1}'


@pytest.mark.parametrize("content_type", BINARY_TYPES)
def test_everything_else_is_base64(content_type):
    assert base64.b64decode(body_text(BINARY, content_type.encode()), validate=True) == BINARY
    assert body_text(b"hello", content_type.encode()) == b"aGVsbG8="


@pytest.mark.parametrize(
    "content_type, body, expected",
    [
        ("text/plain; charset=iso-8859-1", b"gr\xfc\xdfe", "grüße"),
        ("text/plain; charset=ISO-8859-15", b"\xa4", "€"),
        ('text/plain; charset="windows-1252"', b"\x80", "€"),
        ("text/plain;charset=utf-16", "€".encode("utf-16"), "€"),
        ("text/plain;charset=utf-16", b"\xff\xfe\x00\xd8", "�"),  # a lone surrogate
        ("text/plain;charset=shift_jis", "日本".encode("shift_jis"), "日本"),
        ("text/plain;charset=utf-8", b"gr\xfc\xdfe", "grüße"),  # a lie
        ("text/plain", b"gr\xfc\xdfe", "grüße"),
        ("text/plain;charset=punycode", b"abc-", "abc-"),  # not believed
        ("text/plain;charset=base64", b"abc", "abc"),
        ("text/plain;charset=x-unknown", "ü".encode(), "ü"),
        ("text/plain;charset=\x00", "ü".encode(), "ü"),
        ("text/plain;charset=\xff", "ü".encode(), "ü"),
    ],
)
def test_charsets(content_type, body, expected):
    assert body_text(body, content_type.encode("latin-1")).decode() == expected


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_character_cut_in_two_is_left_out(cut):
    assert body_text(b"abc" + "🎈".encode()[:cut], b"text/plain") == b"abc"


def test_a_long_content_type_is_cut():
    assert body_text(b"\xff", b"text/plain" + b"x" * 100_000).decode() == "ÿ"
    media_type.cache_clear()
    body_text(b"\xff", b"text/plain" + b"x" * 100_000)
    body_text(b"\xff", b"text/plain" + b"x" * 200_000)
    assert media_type.cache_info().currsize == 1


@given(
    st.binary(),
    st.binary() | st.sampled_from(TEXT_TYPES + BINARY_TYPES).map(str.encode),
    st.sampled_from(["", "utf-16", "utf-32", "gb18030", "iso-2022-jp", "utf-7", "big5", "cp1258"]),
)
def test_any_body_gives_valid_utf8(body, content_type, charset):
    if charset:
        content_type += b"; charset=" + charset.encode()
    body_text(body, content_type).decode()
