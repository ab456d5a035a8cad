"""Where the tap, h11 and llhttp do not read alike: tables, asserted case by case in ``test_agreement.py``.

Each reader's answer is an outcome (``readers.Reading``) and the bodies it read, ``-`` for an empty one. ``refused`` means for
the tap: raw from here on. Sections are of RFC 9112 unless another is named.
"""

from typing import NamedTuple


class Disagreement(NamedTuple):
    """One case."""

    name: str
    data: bytes
    tap: str
    h11: str
    llhttp: str
    why: str


HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n"
FIVE = b"Content-Length: 5\r\n\r\nhello"
