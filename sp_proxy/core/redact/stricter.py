"""Two redactions, one after the other: what either of them would not send is not sent.

For records of workers that still serve with older settings: these decided what is captured, newer ones what may leave.
"""

from binascii import b2a_base64

from sp_proxy.core.body import text_of
from sp_proxy.core.redaction import Redaction


class Stricter:
    """Keeps the protocol ``Redaction``."""

    def __init__(self, first: Redaction, second: Redaction) -> None:
        self._first = first
        self._second = second

    def header(self, name: str, value: str, *, clean: bool = False) -> str | None:
        """The value to send of a header field; None when one of them leaves it out."""
        made = self._first.header(name, value, clean=clean)
        return None if made is None else self._second.header(name, made, clean=clean and made == value)

    def is_plain(self, name: str) -> bool:
        """Whether both send it as it is."""
        return self._first.is_plain(name) and self._second.is_plain(name)

    def is_clean(self, *parts: bytes) -> bool:
        """Whether both find nothing."""
        return self._first.is_clean(*parts) and self._second.is_clean(*parts)

    def target(self, target: bytes) -> bytes:
        """The request target to send."""
        return self._second.target(self._first.target(target))

    def authority(self, authority: bytes) -> bytes:
        """The authority to send."""
        return self._second.authority(self._first.authority(authority))

    def session(self, session_id: bytes, *, clean: bool = False) -> bytes:
        """The session id to send."""
        made = self._first.session(session_id, clean=clean)
        return self._second.session(made, clean=clean and made == session_id)

    def body(self, content: bytes, content_type: bytes, *, complete: bool) -> bytes | None:
        """A body; None when one of them leaves it out."""
        made = self._first.body(content, content_type, complete=complete)
        if made is None:
            return None
        if text_of(content, content_type) is not None:
            # UTF-8 by now, whatever it was before.
            essence = content_type.partition(b";")[0]
            return self._second.body(made, essence + b"; charset=utf-8", complete=complete)
        # What is not text is an attribute in base64 already: the second must see it as it was, and one answer is enough.
        other = self._second.body(content, content_type, complete=complete)
        return other if other is None or made == _in_base64(content) else made

    def coded_body(self, body: bytes) -> bytes | None:
        """A body that nobody could read, likewise."""
        made = self._first.coded_body(body)
        if made is None:
            return None
        other = self._second.coded_body(body)
        return other if other is None or made == _in_base64(body) else made


def _in_base64(content: bytes) -> bytes:
    return b2a_base64(content, newline=False)
