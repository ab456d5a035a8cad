"""Messages of HTTP/1.x that checks are made of, and the usual shapes of checks."""

from tests.conformance.conversation import (
    HEAD_END,
    Check,
    Record,
    Step,
    answers,
    answers_and_closes,
    close,
    rest,
    send,
    until,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


def head(first: bytes = b"GET /t HTTP/1.1", *fields: bytes) -> bytes:
    return b"\r\n".join((first, b"Host: h.example", *fields, b"", b""))


def get(data: bytes = b"", *, till: bytes = b"done") -> list[Step]:
    return [send(data or head()), until(till), close]


CHUNKED = b"Transfer-Encoding: chunked"
GET: Record = ("GET", "/t", 200)
POST: Record = ("POST", "/t", 200)
RECORD: tuple[Record, ...] = (GET,)


def asked(name: str, request: bytes, record: Record | None = GET, after: bytes = HEAD_END, count: int = 1) -> Check:
    """The server says that all is well."""
    return Check(name, get(request), answers(OK, after=after, count=count), (record,) if record else ())


def post(name: str, fields: bytes, body: bytes, *, read: bool = True, method: bytes = b"POST") -> Check:
    """A request with a body, whose end the server sees by its last bytes."""
    data = head(method + b" /t HTTP/1.1", *([fields] if fields else [])) + body
    record = (method.decode(), "/t", 200)
    return Check(name, get(data), answers(OK, after=HEAD_END + body), (record,) if read else ())


def answered(
    name: str, answer: bytes, status: int = 200, *, method: bytes = b"GET", read: bool = True, version: bytes = b"1.1"
) -> Check:
    """The client has all of the answer, and closes."""
    request = head(method + b" /t HTTP/" + version)
    records = ((method.decode(), "/t", status),) if read else ()
    return Check(name, get(request, till=answer[-24:]), answers(answer), records, injected=1)


def answered_to_the_end(name: str, answer: bytes, status: int = 200, *, read: bool = True, error: str = "") -> Check:
    """The end of the connection ends the answer."""
    record: Record = ("GET", "/t", status, error) if error else ("GET", "/t", status)
    return Check(name, [send(head()), rest, close], answers_and_closes(answer), (record,) if read else (), injected=1)
