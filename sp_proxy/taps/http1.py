r"""The HTTP/1.x tap: watches one connection, edits request heads, and makes a record of each exchange.

Rules it keeps:

- What it returns differs from what it got only in request heads (fields of ``core.inject`` added and replaced) and in a
  response head that carries ``traceparent`` (one more is added).
- Whatever it does not read as every sane implementation would makes the connection *raw* from that byte on: forwarded
  untouched, neither injected nor captured. With a strict context it is refused instead (``Signal.ANSWER``).
- It neither raises nor buffers beyond ``max_head_size`` and one read, whatever it is fed.
"""

from sp_proxy.taps.http1_requests import RequestSide
from sp_proxy.taps.http1_responses import ResponseSide


class Http1Tap(RequestSide, ResponseSide):
    """One per connection. See ``context.Tap`` for the calls."""

    __slots__ = ()

    def passed(self, size: int, *, client: bool) -> None:
        """See ``Tap``."""
        if client:
            exchange = self._request
            assert exchange is not None
            exchange.request_size += size
            self._client_left -= size
            if not self._client_left:
                self._request_ended(exchange)
        else:
            exchange = self._response
            assert exchange is not None
            exchange.response_size += size
            self._server_left -= size
            if not self._server_left:
                self._response_ended(exchange, 0)
