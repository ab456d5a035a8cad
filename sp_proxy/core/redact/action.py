"""What becomes of a value that must not leave: replaced by a fixed text, by a keyed hash, or left out.

A hash is HMAC-SHA256 (RFC 2104) under the salt, cut to 80 bits, so equal values stay equal, nobody without the salt can
try values, and two of a million different values meet by chance once in 10¹² times. It is written in base 32: without
long runs of digits, a detector never takes it for something else.
"""

import hmac
from base64 import b32encode
from collections.abc import Iterable
from typing import Final, Self

from msgspec import Struct

from sp_proxy.core.redact.config import ActionKind
from sp_proxy.core.redact.engine import Span

HASH_PREFIX: Final = b"hash:"
_HASH_BYTES: Final = 10


class Action(Struct, frozen=True):
    """An action of one rule or detector."""

    kind: ActionKind
    replacement: bytes
    salt: bytes = b""

    @classmethod
    def make(cls, kind: ActionKind, replacement: str, salt: bytes) -> Self:
        """Raises ValueError for a hash without a salt: anyone could try values."""
        if kind == "hash" and not salt:
            raise ValueError("a hash needs a salt")
        return cls(kind, replacement.encode(), salt)

    @property
    def drops(self) -> bool:
        """Whether what holds the value is to be left out; where it cannot be, it is replaced."""
        return self.kind == "drop"

    def substitute(self, value: bytes) -> bytes:
        """What stands in the place of a value."""
        if self.kind != "hash":
            return self.replacement
        digest = hmac.digest(self.salt, value, "sha256")[:_HASH_BYTES]
        return HASH_PREFIX + b32encode(digest).lower()


def splice(text: bytes, spans: Iterable[Span], action: Action, ignored: bytes = b"") -> bytes:
    """The text with each of these places substituted. Places are in order and do not overlap.

    Without the ``ignored`` bytes, values are equal which mean the same (``4111 1111…`` and ``41111111…``).
    """
    pieces = []
    at = 0
    for start, end in spans:
        pieces += [text[at:start], action.substitute(text[start:end].translate(None, ignored))]
        at = end
    return b"".join([*pieces, text[at:]])
