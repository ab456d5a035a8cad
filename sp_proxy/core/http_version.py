"""Which HTTP version an upload goes over, where a server may offer both. Pure: time is passed in.

HTTP/2 for what is small, HTTP/1.1 for what is larger than the window a new HTTP/2 stream begins with: a server that
refuses a large request without reading it, as it should, leaves an HTTP/2 client waiting for window, and HTTP/1.1 is the
faster of the two for it (``exporter/upload.py`` has the figures). A version over which a request found no answer is not
used for a while, unless the other one fares no better.
"""

from typing import Literal

Version = Literal["1.1", "2"]

INITIAL_WINDOW = 65_535
"""Bytes of a body that a stream takes before the server has to say anything (RFC 9113 section 6.9.2)."""
AVOID_SECONDS = 600.0
"""So long a version is not used after a request that was not answered over it."""

_OTHER: dict[Version, Version] = {"1.1": "2", "2": "1.1"}


class VersionChoice:
    """The choice for one server."""

    def __init__(self) -> None:
        self._avoided_until: dict[Version, float] = {"1.1": float("-inf"), "2": float("-inf")}

    def choose(self, size: int, now: float) -> Version:
        """For a body of this many bytes."""
        best: Version = "2" if size <= INITIAL_WINDOW else "1.1"
        other = _OTHER[best]
        return other if self._avoided(best, now) and not self._avoided(other, now) else best

    def answered(self, version: Version) -> None:
        """A request was answered over it, whatever the answer."""
        self._avoided_until[version] = float("-inf")

    def unanswered(self, version: Version, now: float) -> None:
        """A request was not."""
        self._avoided_until[version] = now + AVOID_SECONDS

    def _avoided(self, version: Version, now: float) -> bool:
        return now < self._avoided_until[version]
