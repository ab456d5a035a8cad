"""What a captured body looks like in a span: text where its content type says so, else base64 (contract section 4).

Content codings need decoders that are not in the standard library, so a decoder is passed in (``DecodeBody``);
``exporter/body.py`` has the real one. The rule kept here: the answer is always valid UTF-8, because it becomes a
protobuf string, and nothing in a body can make it fail.
"""

import codecs
from binascii import b2a_base64
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from msgspec import Struct

from sp_proxy.core.otlp import text

TEXT_TYPES: Final = (b"text/", b"application/json", b"application/xml", b"application/x-www-form-urlencoded")
TEXT_SUFFIXES: Final = (b"+json", b"+xml")
MAX_CONTENT_TYPE: Final = 256
"""Longer content types are cut before they are looked at: no client may fill the cache's memory."""

_CHARSETS: Final = frozenset(
    codecs.lookup(name).name
    for name in (
        *("ascii", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "koi8-r", "koi8-u", "cp866"),
        *("big5", "cp932", "euc-jp", "euc-kr", "gb18030", "gb2312", "gbk", "iso2022-jp", "shift_jis"),
        *(f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16)),
        *(f"cp125{part}" for part in range(9)),
    )
)
"""Charsets that are believed. Not every codec of Python: ``punycode`` takes quadratic time, others are no charsets."""


class Content(Struct, frozen=True):
    """A body after content decoding. ``complete`` is False when more was there than the limit let through, or the
    coded bytes broke off.
    """

    data: bytes
    complete: bool


DecodeBody = Callable[[bytes, bytes, int], Content | None]
"""From a body, its ``content-encoding`` and a limit in bytes to the content; None when it cannot be decoded."""


class MediaType(Struct, frozen=True):
    """What matters of a content type."""

    is_text: bool
    charset: str
    """Codec name of a charset that is believed; empty for UTF-8, and where none is named."""


@lru_cache(maxsize=512)
def media_type(content_type: bytes) -> MediaType:
    """Read a ``content-type`` value (RFC 9110 section 8.3); anything malformed is taken as far as it goes."""
    essence, *parameters = content_type.lower().split(b";")
    essence = essence.strip()
    is_text = essence.startswith(TEXT_TYPES) or (
        # application/grpc+json is length-prefixed frames, which are binary.
        essence.endswith(TEXT_SUFFIXES) and not essence.startswith(b"application/grpc")
    )
    charset = ""
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset":
            charset = _charset(value.strip(b" \t\"'"))
            break
    return MediaType(is_text=is_text, charset=charset)


def _charset(name: bytes) -> str:
    try:
        codec = codecs.lookup(name.decode("ascii")).name
    except (LookupError, ValueError):  # unknown, not ASCII, or with a NUL in it
        return ""
    return codec if codec in _CHARSETS and codec != "utf-8" else ""


def body_text(body: bytes, content_type: bytes) -> bytes:
    """The body as the value of an attribute, in UTF-8: itself if it is text, else base64."""
    made = text_of(body, content_type)
    return b2a_base64(body, newline=False) if made is None else made


def text_of(body: bytes, content_type: bytes) -> bytes | None:
    """The body in UTF-8 if it is text, else None.

    Text is read in the charset that its content type names, without one as UTF-8, and as Latin-1 where it is not
    UTF-8 either (as header values are). A character which the capture limit cut in two is left out.
    """
    media = media_type(content_type[:MAX_CONTENT_TYPE])
    if not media.is_text:
        return None
    if media.charset:
        return text(body.decode(media.charset, "replace"))
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and error.start >= len(body) - 3:
            return body[: error.start]
        return body.decode("latin-1").encode()
    return body
