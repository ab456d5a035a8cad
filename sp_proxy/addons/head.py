"""What a request hook is called with: ``def request(head)``. Its docstrings are the reference of ``docs/addons.md``."""

import re
from typing import Final, override

from sp_proxy.addons.headers import Headers
from sp_proxy.addons.wire import add_tag
from sp_proxy.core.exchange import Direction
from sp_proxy.core.head_edits import OWN, HeadEdit

_HOST: Final = re.compile(r"[A-Za-z0-9._\[\]:-]{1,255}")
MAX_ADDED: Final = 16384
"""Bytes of fields that hooks add to one head."""


class RequestHeaders(Headers):
    """The header fields of a request head: a mapping by name in any case, to read, set, ``add`` and ``del``. Not to be
    changed are ``host`` (see ``head.host``), what frames the message, and the trace's and the daemon's own fields.
    """

    @override
    def _check(self, name: str) -> None:
        if name.lower() in OWN:
            raise ValueError("this field is not a hook's to change")


class Head:
    """A request's head on its way through the relay, before it is forwarded. Nothing else of the exchange is there yet.

    The hook runs in the relay, in the way of the traffic of its worker: it must not wait, and should take microseconds.
    """

    def __init__(self, direction: Direction, method: bytes, target: bytes, authority: bytes, fields: bytes) -> None:
        self._direction = direction
        self._method = method
        self._target = target
        self._authority = authority
        self._fields = fields
        self._headers: RequestHeaders | None = None
        self._host = b""
        self._tags: dict[str, str] = {}
        self._capture: bool | None = None

    @property
    def direction(self) -> str:
        """``inbound`` or ``outbound``."""
        return self._direction.value

    @property
    def method(self) -> str:
        """``GET``."""
        return self._method.decode("latin-1")

    @property
    def path(self) -> str:
        """The request target with its query."""
        return self._target.decode("utf-8", "replace")

    @property
    def headers(self) -> RequestHeaders:
        """The header fields: a mapping by name in any case, to read, set, ``add`` and ``del``."""
        if self._headers is None:
            self._headers = RequestHeaders(self._fields[2:])
        return self._headers

    @property
    def host(self) -> str:
        """``Host`` or ``:authority``. Settable: the server sees another one, the connection goes where it went."""
        return (self._host or self._authority).decode("utf-8", "replace")

    @host.setter
    def host(self, host: str) -> None:
        if not _HOST.fullmatch(host):
            raise ValueError("a host has letters, digits, . - _ and perhaps a port")
        self._host = host.encode()

    @property
    def capture(self) -> bool | None:
        """None: as the rules say. Settable: False for not; True also where no rule selects it, or one excludes it, but not
        where capture is switched off or the request is exempt.
        """
        return self._capture

    @capture.setter
    def capture(self, capture: bool | None) -> None:
        if capture is not None and not isinstance(capture, bool):
            raise ValueError("True, False or None")
        self._capture = capture

    def tag(self, name: str, value: object) -> None:
        """Add the attribute ``sp.tag.NAME`` to what is captured, as ``ex.tag`` does."""
        add_tag(self._tags, name, value)

    # ---- for the relay

    def saved(self) -> tuple[RequestHeaders | None, bytes, dict[str, str], bool | None]:
        """What hooks have changed so far, for ``restore``."""
        headers = self._headers.copy() if self._headers is not None and self._headers.changed else None
        return headers, self._host, dict(self._tags), self._capture

    def restore(self, state: tuple[RequestHeaders | None, bytes, dict[str, str], bool | None]) -> None:
        """Forget what a hook has done that failed."""
        self._headers, self._host, self._tags, self._capture = state

    def edit(self) -> HeadEdit | None:
        """What all hooks want. Raises ValueError for more than a head has room for."""
        changed = self._headers.changed if self._headers is not None else []
        if not changed and not self._host and not self._tags and self._capture is None:
            return None
        lines = b""
        if self._headers is not None:
            lines = b"".join(
                b"%b: %b\r\n" % (name.encode(), value) for name in changed for value in self._headers.lines(name)
            )
        if len(lines) > MAX_ADDED:
            raise ValueError(f"more than {MAX_ADDED} bytes of header fields")
        names = tuple(name.encode() for name in changed)
        return HeadEdit(names, lines, self._host, self._capture, tuple(self._tags.items()))
