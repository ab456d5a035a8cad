"""``name=value`` pairs: in URLs, in form bodies, in cookies.

Only values change. What stands between pairs stays as it is, also where it breaks every rule: a broken URL is redacted
as far as pairs can be seen in it.
"""

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.names import Names

_PAIR: Final = re.compile(
    rb"(?:(?<=[?&#])|\A)(?P<name>[^=?&;#]+)=(?P<value>[^&#]+)|(?<=;)(?P<parameter>[^=?&;#]+)=(?P<held>[^&;?#]+)"
)
"""A pair in a URL's query, in a fragment (OAuth 2.0 implicit grants), or after ``;`` in a path."""
_FORM_PAIR: Final = re.compile(
    rb"(?:(?<=&)|\A)(?P<name>[^=&]+)=(?P<value>[^&]+)|(?P<parameter>\Z.)(?P<held>\Z.)"  # no ; in forms
)
_USERINFO: Final = re.compile(rb"(?<=://)[^/?#@\s]*@")
_COOKIE: Final = re.compile(rb"(?:(?<=;)|\A)([^=;]+)=([^;]+)")
_PART: Final = re.compile(rb"[^&;?#]+")
_SAFE: Final = "/:@!$'()*,~[]=-._"
_MAX_DECODING: Final = 3
"""Times that a value may be percent-encoded."""


def unquoted(text: bytes) -> bytes:
    """Percent-encoding undone (RFC 3986 section 2.1), with ``+`` for a space as forms have it."""
    return unquote_to_bytes(text.replace(b"+", b" "))


def fully_unquoted(text: bytes) -> bytes:
    """The same, as often as it was done."""
    for _ in range(_MAX_DECODING):
        if b"%" not in text and b"+" not in text:
            break
        text = unquoted(text)
    return text


def quoted(text: bytes) -> bytes:
    """The text as it may stand in a URL's query or a form."""
    return quote_from_bytes(text, safe=_SAFE).encode()


def without_userinfo(text: bytes, replacement: bytes) -> bytes:
    """URLs in a text without user and password (RFC 3986 section 3.2.1)."""
    return _USERINFO.sub(replacement + b"@", text) if b"@" in text and b"://" in text else text


def redact_url(text: bytes, names: Names) -> bytes:
    """A URL, or a text with one in it, without the values of these parameters, in URLs within it as well."""
    return _redact_pairs(text, names, _PAIR, _MAX_DECODING, [])


def redact_form(text: bytes, names: Names) -> tuple[bytes, Action | None]:
    """A form body without the values of these fields, and the first action that drops, if any did."""
    dropping: list[Action] = []
    redacted = _redact_pairs(text, names, _FORM_PAIR, _MAX_DECODING, dropping)
    return redacted, dropping[0] if dropping else None


def redact_cookies(value: bytes, names: Names, *, attributes: bool) -> bytes:
    """A ``cookie`` value, or with ``attributes`` a ``set-cookie`` value (RFC 6265 section 4), without these."""
    seen = 0

    def redact(match: re.Match[bytes]) -> bytes:
        nonlocal seen
        seen += 1
        if attributes and seen > 1:
            return match[0]  # Path, Domain and the like are no cookies
        action = names.action(match[1].strip())
        if action is None:
            return match[0]
        return match[1] + b"=" + action.substitute(match[2].strip().strip(b'"'))

    return _COOKIE.sub(redact, value)


def redact_decoded(text: bytes, redact: Callable[[bytes], bytes]) -> bytes:
    """A text with each percent-encoded part of it redacted as what it means; parts in which nothing is found stay."""
    if b"%" not in text and b"+" not in text:
        return text

    def part(match: re.Match[bytes]) -> bytes:
        encoded = match[0]
        if b"%" not in encoded and b"+" not in encoded:
            return encoded
        meaning = fully_unquoted(encoded)
        redacted = redact(meaning)
        return encoded if redacted == meaning else quoted(redacted)

    return _PART.sub(part, text)


def _redact_pairs(text: bytes, names: Names, pattern: re.Pattern[bytes], depth: int, dropping: list[Action]) -> bytes:
    def redact(match: re.Match[bytes]) -> bytes:
        name, value = match["name"] or match["parameter"], match["value"] or match["held"]
        action = names.action(fully_unquoted(name).rpartition(b"/")[2])
        if action is not None:
            if action.drops:
                dropping.append(action)
            return name + b"=" + quoted(action.substitute(unquoted(value)))
        if depth and (b"=" in value or b"%" in value):
            inner = unquoted(value)
            redacted = _redact_pairs(inner, names, _PAIR, depth - 1, dropping) if b"=" in inner else inner
            if redacted != inner:
                return name + b"=" + quoted(redacted)
        return match[0]

    return pattern.sub(redact, text)
