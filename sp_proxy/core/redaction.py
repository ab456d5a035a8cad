"""What may leave this machine of a header field (contract section 4).

The one place through which every header value passes before it is encoded. It answers for a single field, so an
encoder may cache the answer.
"""

from collections.abc import Callable
from typing import Final

NEVER_SENT: Final = frozenset(
    {
        "authorization",
        "bearer",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-auth-token",
        "x-public-key",
    }
)
"""Lower-case names of header fields that are never sent, value and name."""

RedactHeader = Callable[[str, str], str | None]
"""From a lower-case name and a value to the value to send, or None to leave the field out. Pure."""


def redact_header(name: str, value: str) -> str | None:
    """The value to send of a header field, by its lower-case name; None for what is never sent."""
    return None if name in NEVER_SENT else value
