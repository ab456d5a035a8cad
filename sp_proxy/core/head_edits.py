"""What an operator's request hook wants of a request head, and how it joins what is injected anyway (``inject.Plan``).

Framing and the daemon's own fields are nobody's to change: a hook which asks for that has made a mistake (``OWN``).
"""

from typing import Final, Protocol

from msgspec import Struct, structs

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import COMPAT, REPLACED, Plan
from sp_proxy.core.rules import Decision

OWN: Final = frozenset(
    {
        *(name.decode() for name in (*REPLACED, *COMPAT)),
        *("host", "traceparent", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te"),
        *("trailer", "proxy-connection", "expect", "http2-settings"),
    }
)
"""Lower-case names of fields that hooks do not set or take away; ``host`` has a way of its own."""
_OVERRULED: Final = frozenset({"no_rule", "excluded", "static", "prefetch"})
"""Reasons against capture that a hook may overrule: what is switched off, or exempt, stays so."""


class HeadEdit(Struct, frozen=True):
    """For one request."""

    remove: tuple[bytes, ...] = ()
    """Lower-case names of fields to take away, those that ``lines`` puts others in the place of included."""
    lines: bytes = b""
    r"""Fields to add, as lines ``name: value\r\n`` with lower-case names."""
    authority: bytes = b""
    """Another ``Host`` or ``:authority``; empty: the one that was sent."""
    capture: bool | None = None
    """Capture or not; None: as the rules say."""
    tags: tuple[tuple[str, str], ...] = ()


class HeadHooks(Protocol):
    """All request hooks of a process, one after the other."""

    pure: bool
    """The same head gets the same answer, which may be remembered with it, if it is ``whole``."""
    whole: bool
    """To the latest answer every hook has contributed: none has failed, or was left out for a while."""

    def edit(
        self, direction: Direction, method: bytes, target: bytes, authority: bytes, fields: bytes
    ) -> HeadEdit | None:
        r"""What they want; None for nothing. ``fields`` with a leading CRLF. Raises nothing."""
        ...


def joined(plan: Plan, edit: HeadEdit, lower: bytes, *, host: bool) -> Plan:
    r"""The plan with what a hook wants. ``lower`` is the lower-cased field block of the head with a leading CRLF.

    ``host``: another authority is a field ``host``, as in HTTP/1.
    """
    remove, lines = edit.remove, edit.lines
    if edit.authority:
        remove = (*remove, b"host")
        if host:
            lines = b"host: %b\r\n%b" % (edit.authority, lines)
    present = tuple(name for name in remove if name not in plan.remove and lower.find(b"\r\n" + name + b":") >= 0)
    return structs.replace(plan, remove=plan.remove + present, lines=plan.lines + lines, extra=lines)


def captured(decision: Decision, edit: HeadEdit) -> bool:
    """Whether an exchange is captured after all."""
    if edit.capture is None:
        return decision.capture
    return edit.capture and (decision.capture or decision.reason in _OVERRULED)
