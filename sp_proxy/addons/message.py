"""A captured request or response, as hooks see it. Its docstrings are the reference of ``docs/addons.md``."""

import json
from typing import Any, Final

from sp_proxy.addons.headers import Headers
from sp_proxy.exporter.body import decode_body

MAX_CONTENT: Final = 16 << 20
"""Bytes that a body is decoded to."""


class Message:
    """A request or a response."""

    def __init__(self, fields: bytes, body: bytes, size: int) -> None:
        self.headers = Headers(fields)
        """Its header fields, as they were forwarded: a mapping by name in any case, to read, set and ``del``."""
        self.size = size
        """Bytes of the body as it passed, coded as it was, captured or not."""
        self._body = body
        self._content: bytes | None = None
        self._complete = len(body) >= size
        self._set = False

    @property
    def content(self) -> bytes:
        """The captured body, its content coding (gzip, br, zstd, deflate) undone; as it is where that cannot be undone.
        Set it (to bytes or text) to have that captured instead; empty: no body is sent.
        """
        return self._decode()

    @content.setter
    def content(self, content: bytes | str) -> None:
        self._content = content.encode() if isinstance(content, str) else bytes(content)
        self._set = True

    @property
    def complete(self) -> bool:
        """Whether ``content`` is the whole body: a long one is captured in part (``capture.max_body_size``)."""
        self._decode()
        return self._complete

    @property
    def text(self) -> str:
        """``content`` as UTF-8; what is none reads as U+FFFD."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, parsed as JSON; None where it is no JSON, or not complete."""
        try:
            return json.loads(self.content) if self.complete and self.content else None
        except (ValueError, RecursionError):
            return None

    def set_json(self, value: Any) -> None:
        """Have this captured as the body, as JSON."""
        self.content = json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def parts(self) -> tuple[bytes, bytes, int]:
        """Fields, body and size for the record."""
        if not self._set:
            return self.headers.block(), self._body, self.size
        if "content-encoding" in self.headers:
            del self.headers["content-encoding"]
        content = self._content or b""
        # What was cut stays cut, for redaction must know that it does not see the end.
        return self.headers.block(), content, len(content) if self._complete or not content else self.size

    def _decode(self) -> bytes:
        if self._content is None:
            coding = self.headers.get("content-encoding", "")
            decoded = decode_body(self._body, coding.encode(), MAX_CONTENT) if coding and self._body else None
            self._content = self._body if decoded is None else decoded.data
            if decoded is not None and not decoded.complete:
                self._complete = False
        return self._content

    def copy(self) -> "Message":
        """Another one like it is now."""
        other = Message(self.headers.block(), self._body, self.size)
        other._content, other._complete, other._set = self._content, self._complete, self._set
        return other
