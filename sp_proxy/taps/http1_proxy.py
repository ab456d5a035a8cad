"""The HTTP/1.x tap of the explicit proxy: requests in absolute form, which go to one origin in origin form (RFC 9112 section 3.2).

All else is as in ``Http1Tap``, with one rule more: no byte goes to an origin that may be meant for another. So an incomplete
head never passes, what is not read in one way is answered 400 and not forwarded, and a request for another origin ends the
tap (``Signal.AGAIN``): the connection then begins anew with that request.
"""

import re
from typing import Final

from sp_proxy.taps.context import Endpoints, Signal, TapContext
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.http1_heads import RequestHead
from sp_proxy.taps.http1_state import HOLDING, NONE, REFUSED
from sp_proxy.taps.proxy_front import Absolute, Origin, parse_absolute

_FOR_THE_PROXY: Final = re.compile(rb"\r\nproxy-(?:connection|authorization):[^\r]*+", re.IGNORECASE).sub
_HOST: Final = re.compile(rb"\r\nhost:[^\r]*+", re.IGNORECASE).sub
_OUR_SCHEMES: Final = frozenset((b"http", b"ws"))


class ProxyTap(Http1Tap):
    """One for each origin that a connection asks for, one after the other."""

    __slots__ = ("_deaf", "_next", "_origin")

    def __init__(self, context: TapContext, endpoints: Endpoints, origin: Origin) -> None:
        super().__init__(context, endpoints)
        self._origin = origin
        self._next = bytearray()  # what begins with the request for another origin
        self._deaf = False  # the server's bytes pass unread: nobody knows where to the client's next ones belong

    @property
    def over(self) -> bool:
        """Whether all that was asked of this origin has been answered."""
        return not self._open and self._request is None

    def client(self, data: bytes) -> bytes:
        """See ``Tap``."""
        if self._next:
            self._next += data
            return b""
        if self._deaf:
            self.signal = Signal.ABORT
            return b""
        return super().client(data)

    def take_held(self) -> bytes:
        """See ``Tap``; after AGAIN, what begins with the other request."""
        if self._next:
            data = bytes(self._next)
            self._next.clear()
            return data
        return super().take_held()

    def timeout(self) -> bytes:
        """See ``Tap``: what is no whole head does not pass."""
        return b""

    def client_eof(self) -> bytes:
        """See ``Tap``: nor at the end."""
        if self.signal is HOLDING:
            self.signal = NONE
        self._head.clear()
        return b""

    def _worth_holding(self) -> bool:
        return True

    def _read_head(self, data: bytes, at: int, end: int, done: int, head: RequestHead, out: list[bytes]) -> int:
        asked = parse_absolute(head.target)
        if asked is None or asked.scheme not in _OUR_SCHEMES or asked.origin != self._origin:
            self._next += data[at:]
            self._client_state = REFUSED
            self.signal = Signal.AGAIN
            return -1
        if end - at > self._context.max_head_size:
            self._refuse_head("head_too_long")
            return -1
        changed = in_origin_form(head, asked)
        read = self._context.heads.request(changed)
        assert read is not None  # its grammar is the same
        edited: list[bytes] = []
        passed = super()._read_head(changed, 0, len(changed), 0, read, edited)
        if passed < 0:
            return -1
        out += (data[done:at], *edited, changed[passed:])
        return end

    # ---- what is not read

    def _go_raw(self, reason: str) -> None:
        if reason == "behind_upgrade":
            self._step_aside(reason)  # what was declined has been answered already
        else:
            self._reject(reason, self._request)

    def _client_goes_raw(self, reason: str) -> None:
        self._reject(reason, self._request)

    def _response_fault(self, reason: str, begun: bool) -> None:
        if self._context.strict:
            super()._response_fault(reason, begun)
        else:
            self._step_aside(reason)

    def _step_aside(self, reason: str) -> None:
        """What the server says goes on its way unread; of the client nothing more is taken."""
        super()._go_raw(reason)
        self.signal = NONE
        self._client_state = REFUSED
        self._deaf = True


def in_origin_form(head: RequestHead, asked: Absolute) -> bytes:
    """The head as its origin is to see it: without what is for the proxy, and with the ``Host`` of the target (section 3.2.2)."""
    fields = _FOR_THE_PROXY(b"", head.fields)
    if head.authority != asked.authority:
        fields = b"\r\nHost: " + asked.authority + _HOST(b"", fields)
    path = asked.path or (b"*" if head.method == b"OPTIONS" else b"/")  # section 3.2.4
    return b"%b %b HTTP/%b%b\r\n" % (head.method, path, head.version.encode("ascii"), fields)
