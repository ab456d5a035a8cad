"""HTTP/1.x as three readers see it: the tap, h11 and llhttp (httptools), each with the same kind of answer."""

from typing import NamedTuple

import h11
import httptools

from tests.taps.rig import INJECTED, Wire

Fields = list[tuple[bytes, bytes]]
LIMIT = 131072


class Read(NamedTuple):
    """One message as a reader understood it. ``start``: method and target, or the status."""

    start: tuple[bytes, ...]
    fields: Fields
    body: bytes
    trailers: Fields


class Reading(NamedTuple):
    """What became of a stream of messages."""

    messages: list[Read]
    outcome: str
    """``read``, ``refused``, ``waits`` (in a message), ``closed`` (reads no more by itself), ``upgrade``."""

    def __str__(self) -> str:
        """For the table: the outcome, and the bodies that were read."""
        bodies = ",".join(repr(message.body)[2:-1] or "-" for message in self.messages)
        return f"{self.outcome} {bodies}".strip()


def _fields(block: bytes) -> Fields:
    return _stripped(
        [(name, value) for name, _, value in (line.partition(b":") for line in block.split(b"\r\n") if line)]
    )


def _stripped(fields: Fields) -> Fields:
    """Without surrounding blanks, and the transfer coding in lower case, as h11 makes it."""
    stripped = [(bytes(name), bytes(value).strip(b" \t")) for name, value in fields]
    return [(name, value.lower() if name.lower() == b"transfer-encoding" else value) for name, value in stripped]


# ---- the tap


def tap_requests(data: bytes) -> Reading:
    wire = Wire(max_body_size=1 << 20, max_head_size=LIMIT)
    wire.client(data)
    if wire.ended is not None:
        return Reading([], "refused")
    waits = wire.http1._request is not None or bool(wire.http1._head.strip(b"\r\n"))
    upgrade = any(exchange.may_tunnel for exchange in wire.http1._open)
    number = len(wire.http1._open) - (wire.http1._request is not None)
    wire.server(b"HTTP/1.1 204 No Content\r\n\r\n" * number)
    messages = [
        Read(
            (record.method, record.target),
            _fields(record.request_fields.replace(INJECTED, b"")),
            bytes(record.request_body),
            _fields(record.request_trailers),
        )
        for record in wire.records
    ]
    return Reading(messages, "upgrade" if upgrade else "waits" if waits else "read")


def tap_responses(data: bytes, number: int = 1) -> Reading:
    wire = Wire(max_body_size=1 << 20, max_head_size=LIMIT)
    wire.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * number).server(data)
    if wire.ended is not None:
        return Reading([], "refused")
    wire.server_eof()
    messages = [
        Read(
            (b"%d" % record.status,),
            _fields(record.response_fields),
            bytes(record.response_body),
            _fields(record.response_trailers),
        )
        for record in wire.records
        if not record.error
    ]
    return Reading(messages, "waits" if len(messages) < number else "read")


# ---- h11


def h11_requests(data: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)
    connection.receive_data(data)
    messages: list[Read] = []
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Reading(messages, "refused")
        if isinstance(event, h11.Request):
            start, fields, body = (event.method, event.target), _stripped(event.headers.raw_items()), b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            messages.append(Read(start, fields, body, _stripped(event.headers.raw_items())))
            if connection.their_state is h11.MIGHT_SWITCH_PROTOCOL:  # type: ignore[attr-defined]
                return Reading(messages, "upgrade")
            connection.send(h11.Response(status_code=204, headers=[]))
            connection.send(h11.EndOfMessage())
            if connection.their_state is not h11.DONE or connection.our_state is not h11.DONE:
                return Reading(messages, "closed")
            connection.start_next_cycle()
        else:
            waits = connection.their_state is h11.SEND_BODY or bool(connection.trailing_data[0].strip(b"\r\n"))
            return Reading(messages, "waits" if waits else "read")


def h11_responses(data: bytes) -> Reading:
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    messages: list[Read] = []
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return Reading(messages, "waits" if connection.trailing_data[1] and not messages else "refused")
        if isinstance(event, h11.Response):
            start, fields, body = (b"%d" % event.status_code,), _stripped(event.headers.raw_items()), b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            messages.append(Read(start, fields, body, _stripped(event.headers.raw_items())))
            return Reading(messages, "read")
        elif not isinstance(event, h11.InformationalResponse):
            return Reading(messages, "waits")


# ---- llhttp


class _Collector:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.messages: list[Read] = []
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser
        self.begun = self.in_body = False
        self.target = self.body = b""
        self.fields: Fields = []
        self.trailers: Fields = []
        self.start: tuple[bytes, ...] = ()

    def on_message_begin(self) -> None:
        self.begun = True
        self.in_body = False
        self.target = self.body = b""
        self.fields, self.trailers = [], []

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        (self.trailers if self.in_body else self.fields).append((name, value))

    def on_headers_complete(self) -> None:
        self.in_body = True
        if isinstance(self.parser, httptools.HttpRequestParser):
            self.start = (self.parser.get_method(), self.target)
        else:
            self.start = (b"%d" % self.parser.get_status_code(),)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.begun = False
        if not (len(self.start) == 1 and self.start[0][:1] == b"1"):  # an interim response
            self.messages.append(Read(self.start, _stripped(self.fields), self.body, _stripped(self.trailers)))


def llhttp_requests(data: bytes) -> Reading:
    collector = _Collector()
    collector.parser = httptools.HttpRequestParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return Reading(collector.messages, "upgrade")
    except httptools.HttpParserError as error:
        return Reading(collector.messages, "closed" if "Connection: close" in str(error) else "refused")
    return Reading(collector.messages, "waits" if collector.begun else "read")


def llhttp_responses(data: bytes) -> Reading:
    collector = _Collector()
    collector.parser = httptools.HttpResponseParser(collector)
    try:
        collector.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return Reading(collector.messages, "upgrade")
    except httptools.HttpParserError as error:
        return Reading(collector.messages, "closed" if "Connection: close" in str(error) else "refused")
    lower = [name.lower() for name, _ in collector.fields]
    if collector.begun and collector.in_body and not {b"content-length", b"transfer-encoding"} & set(lower):
        collector.on_message_complete()  # it ends with the connection
    return Reading(collector.messages, "waits" if collector.begun else "read")
