"""What may leave this machine of an exchange: the seam between the span encoder and redaction, and the contract's part.

Everything of an exchange that a client or a server wrote passes through here before it is encoded. ``redact/redactor.py``
adds the rules and the detectors. The answers are pure, so an encoder may remember them.
"""

from binascii import b2a_base64
from typing import Final, Protocol

from sp_proxy.core.body import body_text

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
"""Lower-case names of header fields that are never sent, value and name (contract section 4)."""


class RedactionError(Exception):
    """Redaction failed: the record must be lost, as nobody knows what is in it. Says nothing of its content."""


class Redaction(Protocol):
    """Answers for one part of an exchange each. Raises RedactionError, nothing else."""

    def header(self, name: str, value: str, *, clean: bool = False) -> str | None:
        """The value to send of a header or trailer field, by its lower-case name; None to leave the field out.

        ``clean``: it stands in a part of which ``is_clean`` has said so. The answer is the same, and sooner there.
        """
        ...

    def is_plain(self, name: str) -> bool:
        """Whether a field's value, by its lower-case name, is sent as it is where it is clean and no ``://`` is in it."""
        ...

    def is_clean(self, *parts: bytes) -> bool:
        """Whether no detector would find anything in these: one look at field blocks instead of one at each line."""
        ...

    def target(self, target: bytes) -> bytes:
        """The request target to send (UTF-8 in, UTF-8 out)."""
        ...

    def authority(self, authority: bytes) -> bytes:
        """The ``Host`` or ``:authority`` value to send (likewise)."""
        ...

    def session(self, session_id: bytes, *, clean: bool = False) -> bytes:
        """The session id to send (likewise; ``clean`` as for a header)."""
        ...

    def body(self, content: bytes, content_type: bytes, *, complete: bool) -> bytes | None:
        """A body, its content codings undone, as an attribute's value; None to leave it out.

        ``complete`` is False when this is only its beginning.
        """
        ...

    def coded_body(self, body: bytes) -> bytes | None:
        """A body whose content coding nobody here can undo, likewise."""
        ...


class NeverSent:
    """The contract's redaction and no more."""

    def header(self, name: str, value: str, *, clean: bool = False) -> str | None:  # noqa: ARG002 (no matter here)
        """The value to send of a header field, by its lower-case name; None for what is never sent."""
        return None if name in NEVER_SENT else value

    def is_plain(self, name: str) -> bool:
        """All but what is never sent."""
        return name not in NEVER_SENT

    def is_clean(self, *parts: bytes) -> bool:  # noqa: ARG002 (no matter here)
        """Nobody looks."""
        return True

    def target(self, target: bytes) -> bytes:
        """As it is."""
        return target

    def authority(self, authority: bytes) -> bytes:
        """As it is."""
        return authority

    def session(self, session_id: bytes, *, clean: bool = False) -> bytes:  # noqa: ARG002 (no matter here)
        """As it is."""
        return session_id

    def body(self, content: bytes, content_type: bytes, *, complete: bool) -> bytes | None:  # noqa: ARG002 (no matter here)
        """As text where it is text, else in base64."""
        return body_text(content, content_type)

    def coded_body(self, body: bytes) -> bytes | None:
        """In base64."""
        return b2a_base64(body, newline=False)
