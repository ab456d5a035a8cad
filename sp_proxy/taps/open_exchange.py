"""An exchange while it is going on: what a tap collects until it becomes a record."""

from binascii import unhexlify
from typing import Literal

from sp_proxy.core.exchange import ErrorType, Exchange
from sp_proxy.core.inject import Plan
from sp_proxy.core.rules import Decision
from sp_proxy.taps.context import Endpoints, TapContext


class OpenExchange:
    """Mutable, owned by one tap. Bodies are kept up to the context's limit and only if the exchange may be captured."""

    __slots__ = (
        "_context",
        "_endpoints",
        "_finished",
        "_protocol_version",
        "_request_body",
        "_response_body",
        "_response_fields",
        "_start_ns",
        "_status",
        "_ttfb_ns",
        "authority",
        "capture",
        "end_ns",
        "may_tunnel",
        "method",
        "plan",
        "request_ended",
        "request_fields",
        "request_size",
        "request_trailers",
        "response_ended",
        "response_size",
        "response_trailers",
        "rule",
        "scheme",
        "target",
    )

    def __init__(
        self,
        context: TapContext,
        endpoints: Endpoints,
        start_ns: int,
        method: bytes,
        target: bytes,
        authority: bytes,
        protocol_version: str,
        decision: Decision,
    ) -> None:
        self._context = context
        self._endpoints = endpoints
        self._start_ns = start_ns
        self._protocol_version = protocol_version
        self.scheme: Literal["http", "https"] = "http"
        self._finished = False
        self.method = method
        self.target = target
        self.authority = authority
        self.capture = decision.capture
        self.rule = decision.rule
        self.plan: Plan | None = None
        self.request_fields = b""
        self._request_body: bytes | bytearray = b""
        self.request_size = 0
        self.request_trailers = b""
        self.request_ended = False
        self.may_tunnel = False
        self._status = 0
        self._ttfb_ns = -1
        self._response_fields = b""
        self._response_body: bytes | bytearray = b""
        self.response_size = 0
        self.response_trailers = b""
        self.response_ended = False
        self.end_ns = 0

    def tee_request(self, data: bytes, start: int, end: int) -> None:
        """A piece of request body passed by."""
        have = self.request_size
        self.request_size = have + end - start
        if self.capture and (room := self._context.max_body_size - have) > 0:
            piece = data[start : min(end, start + room)]
            if not have:
                self._request_body = piece
            elif isinstance(self._request_body, bytearray):
                self._request_body += piece
            else:
                self._request_body = bytearray(self._request_body + piece)

    def tee_response(self, data: bytes, start: int, end: int) -> None:
        """A piece of response body passed by."""
        have = self.response_size
        self.response_size = have + end - start
        if self.capture and (room := self._context.max_body_size - have) > 0:
            piece = data[start : min(end, start + room)]
            if not have:
                self._response_body = piece
            elif isinstance(self._response_body, bytearray):
                self._response_body += piece
            else:
                self._response_body = bytearray(self._response_body + piece)

    def begin_response(self, first_byte_ns: int, status: int, fields: bytes, lower: bytes) -> None:
        """The head of the final response is there. ``lower``: its lower-cased fields with a leading CRLF."""
        self._status = status
        self._ttfb_ns = max(0, first_byte_ns - self._start_ns)
        self._response_fields = fields
        if self.capture:
            reason = self._context.policy.response(lower)
            if reason:
                self.capture = False
                self._request_body = b""
                self._context.counters["responses_skipped:" + reason] += 1

    def finish(self, error: ErrorType) -> None:
        """The exchange is over: hand out its record, once, if it is to be captured."""
        if self._finished:
            return
        self._finished = True
        plan = self.plan
        if not self.capture or plan is None:
            return
        context, ends = self._context, self._endpoints
        end_ns = self.end_ns or context.unix_ns()
        context.counters["captured"] += 1
        context.sink(
            Exchange(
                direction=context.direction,
                start_unix_ns=self._start_ns,
                ttfb_ns=self._ttfb_ns,
                duration_ns=max(0, end_ns - self._start_ns),
                trace_id=unhexlify(plan.trace_id),
                span_id=unhexlify(plan.span_id),
                parent_span_id=unhexlify(plan.parent_span_id),
                session_id=plan.session_id,
                service_name=plan.service_name,
                scheme=self.scheme,
                protocol_version=self._protocol_version,
                method=self.method,
                target=self.target,
                authority=self.authority,
                request_fields=self.request_fields,
                request_body=self._request_body,
                request_body_size=self.request_size,
                status=self._status,
                response_fields=self._response_fields,
                response_body=self._response_body,
                response_body_size=self.response_size,
                client_address=ends.client_address,
                client_port=ends.client_port,
                server_address=ends.server_address,
                server_port=ends.server_port,
                request_trailers=self.request_trailers,
                response_trailers=self.response_trailers,
                error=error,
                rule=self.rule,
            )
        )
