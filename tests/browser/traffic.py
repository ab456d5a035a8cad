"""Traffic like the demo's: three services, customers, sessions; and one exchange of every kind that a view has to show.

Ids are made of names (``trace_id("checkout")``), so that a test can go to what it looks for. Times are of the last hour,
which is what the map shows.
"""

import base64
import gzip
import hashlib
import json
import struct
import time
import zlib
from typing import Any

from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backend.requests import attribute, exchange_span, partial_span, sdk_span
from tests.backend.test_logs import record
from tests.browser.processes import BackendProcess

MILLISECOND = 1_000_000
MINUTE = 60_000 * MILLISECOND
NOW = time.time_ns() - MINUTE
"""When the latest of it began."""
JSON = "application/json"
ANNA, BEN = "session-anna", "session-ben"
GRPC = "application/grpc+proto"
REDACTED = "[REDACTED]"


def make_id(name: str, size: int) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=size).digest()


def trace_id(name: str) -> str:
    """In hex."""
    return make_id(name, 16).hex()


def span_id(name: str) -> str:
    """In hex."""
    return make_id(name, 8).hex()


def exchange(
    trace: str, name: str, *, start: int, took: float = 12, parent: str = "", path: str = "/", **values: Any
) -> Span:
    """A span of sp_proxy by names; ``start`` in nanoseconds, ``took`` in milliseconds, the rest as ``exchange_span``."""
    made = exchange_span(
        trace=make_id(trace, 16),
        span=make_id(name, 8),
        parent=make_id(parent, 8) if parent else b"",
        path=path,
        **values,
    )
    made.start_time_unix_nano = start
    made.end_time_unix_nano = start + int(took * MILLISECOND)
    return made


def fields(request: dict[str, str] | None = None, response: dict[str, str] | None = None) -> dict[str, Any]:
    """Header fields as attributes."""
    return {
        **{f"http.request.header.{name}": value for name, value in (request or {}).items()},
        **{f"http.response.header.{name}": value for name, value in (response or {}).items()},
    }


def checkout(name: str, session: str, start: int, *, declined: bool = False) -> dict[str, list[Span]]:
    """An order through all services, by service: every hop has both halves, but that to the bank, where nothing is
    captured, and the database, which an SDK tells of. Ids are ``NAME`` and ``NAME/…``.
    """

    def one(part: str, parent: str, service: str, at: int, took: float, **values: Any) -> Span:
        full = f"{name}/{part}" if part else name
        above = f"{name}/{parent}" if parent else name if part else ""
        values = {"session": session, "service": service, **values}
        return exchange(name, full, start=start + at * MILLISECOND, took=took, parent=above, **values)

    order = json.dumps({"items": [{"sku": "kettle-2", "quantity": 1}], "customer": {"name": "Anna", "card": REDACTED}})
    status = 402 if declined else 200
    answer = json.dumps({"status": "declined" if declined else "paid", "amount": 49.90, "reference": 9007199254740993})
    spans = {
        "orders": [
            one(
                "",
                "",
                "orders",
                0,
                180,
                method="POST",
                path="/api/orders",
                status=502 if declined else 201,
                request_body=order,
                response_body=answer,
                more=fields({"content-type": JSON, "user-agent": "customers/1.0", "x-token": REDACTED}),
            ),
            one("stock", "", "orders", 12, 46, direction="outbound", host="inventory:8080", path="/stock/kettle-2"),
            one(
                "charge",
                "",
                "orders",
                64,
                110,
                direction="outbound",
                host="payment:8080",
                method="POST",
                path="/charge",
                status=status,
                request_body=order,
                response_body=answer,
                more=fields({"content-type": JSON}),
            ),
        ],
        "inventory": [one("stock/in", "stock", "inventory", 16, 38, host="inventory:8080", path="/stock/kettle-2")],
        "payment": [
            one(
                "charge/in",
                "charge",
                "payment",
                69,
                100,
                host="payment:8080",
                method="POST",
                path="/charge",
                status=status,
                request_body=order,
                response_body=answer,
            ),
            one(
                "bank",
                "charge/in",
                "payment",
                80,
                82,
                direction="outbound",
                host="bank.example",
                method="POST",
                path="/v1/authorise",
            ),
        ],
    }
    database = sdk_span(
        "SELECT stock",
        trace=make_id(name, 16),
        span=make_id(f"{name}/select", 8),
        parent=make_id(f"{name}/stock/in", 8),
    )
    database.start_time_unix_nano = start + 20 * MILLISECOND
    database.end_time_unix_nano = start + 44 * MILLISECOND
    spans["inventory"].append(database)
    return spans


def grpc_message(*values: tuple[str, Any], compressed: bool = False) -> bytes:
    """A length-prefixed message: protobuf, nested as attributes are."""
    content = Resource(attributes=[attribute(key, value) for key, value in values]).SerializeToString()
    data = gzip.compress(content, mtime=0) if compressed else content
    return bytes([compressed]) + struct.pack(">I", len(data)) + data


def png(width: int = 96, height: int = 64) -> bytes:
    """A picture: a gradient."""
    rows = b"".join(
        b"\x00" + b"".join(bytes([x * 255 // width, y * 255 // height, 160]) for x in range(width))
        for y in range(height)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def encoded(data: bytes) -> str:
    """A binary body as the attribute has it."""
    return base64.b64encode(data).decode()


XML = (
    '<?xml version="1.0"?>\n<!-- a price list -->\n<prices currency="EUR">\n'
    '  <price sku="kettle-2">49.90</price>\n  <price sku="mug">7.50 &amp; less</price>\n  <empty/>\n</prices>\n'
)
MULTIPART = (
    b'--cut\r\nContent-Disposition: form-data; name="note"\r\n\r\nleave it at the door\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="photo"; filename="door.png"\r\nContent-Type: image/png\r\n\r\n'
    + png(8, 8)
    + b"\r\n--cut--\r\n"
)


def kinds() -> list[Span]:
    """One exchange of every kind; the name of each is that of its span and of its trace."""

    def one(name: str, number: int, **values: Any) -> Span:
        return exchange(name, name, start=NOW - (number + 1) * 20_000 * MILLISECOND, session=BEN, **values)

    call = grpc_message(("sku", "kettle-2"), ("amount", 3))
    return [
        one(
            "grpc",
            1,
            method="POST",
            path="/shop.Stock/Reserve",
            request_body=encoded(call + grpc_message(("sku", "mug"), compressed=True)),
            response_body=encoded(grpc_message(("reserved", True)) + call[:9]),
            more={
                **fields({"content-type": GRPC, "grpc-encoding": "gzip"}, {"content-type": GRPC}),
                "rpc.system": "grpc",
            },
        ),
        one(
            "form",
            2,
            method="POST",
            path="/login",
            status=303,
            request_body=f"user=anna+b&password={REDACTED}&next=%2Forders%3Fpage%3D2",
            response_body=None,
            more=fields({"content-type": "application/x-www-form-urlencoded"}, {"location": "/orders?page=2"}),
        ),
        one(
            "multipart",
            3,
            method="POST",
            path="/photos",
            request_body=encoded(MULTIPART),
            more=fields({"content-type": "multipart/form-data; boundary=cut"}),
        ),
        one("xml", 4, path="/prices.xml", response_body=XML, more=fields(None, {"content-type": "application/xml"})),
        one(
            "image",
            5,
            path="/kettle.png",
            response_body=encoded(png()),
            more=fields(None, {"content-type": "image/png"}),
        ),
        one(
            "binary",
            6,
            path="/firmware",
            response_body=encoded(bytes(range(256)) * 300),
            more=fields(None, {"content-type": "application/octet-stream"}),
        ),
        one(
            "truncated",
            7,
            path="/export",
            response_body='{"rows": [1, 2, 3',
            more={"sp.body.truncated": True, "http.response.body.size": 5_000_000},
        ),
        one("redacted", 8, path=f"/reset?token={REDACTED}", more=fields({"x-customer": "hash:abcdefgh234567ab"})),
        one("large", 9, path="/catalog", response_body=json.dumps([{"sku": f"s{n}", "n": n} for n in range(4000)])),
        one("failed", 10, status=0, response_body=None, took=30_000, more={"error.type": "timeout"}),
        partial_span(
            trace=make_id("ongoing", 16),
            span=make_id("ongoing", 8),
            path="/events",
            service="orders",
            session=BEN,
            at=0,
            more=fields(None, {"content-type": "text/event-stream"}),
        ),
    ]


def everyday() -> dict[str, list[Span]]:
    """What else goes on: requests over the last half an hour, of twenty sessions."""
    spans: dict[str, list[Span]] = {"orders": [], "inventory": []}
    for number in range(120):
        name, session = f"everyday-{number}", f"session-{number % 20:02d}"
        start = NOW - 30 * MINUTE + number * 14_000 * MILLISECOND
        status = 503 if number % 40 == 7 else 404 if number % 17 == 3 else 200
        values: dict[str, Any] = {"path": f"/api/items?page={number}", "session": session, "status": status}
        spans["orders"].append(exchange(name, name, start=start, took=20 + number % 30, **values))
        call = {"service": "orders", "direction": "outbound", "host": "inventory:8080", "path": f"/stock?page={number}"}
        spans["orders"].append(
            exchange(name, f"{name}/call", start=start + 2 * MILLISECOND, took=15, parent=name, session=session, **call)
        )
        there = {**call, "service": "inventory", "direction": "inbound"}
        spans["inventory"].append(
            exchange(
                name,
                f"{name}/in",
                start=start + 4 * MILLISECOND,
                took=11,
                parent=f"{name}/call",
                session=session,
                **there,
            )
        )
    return spans


def log_records(name: str, start: int) -> list[LogRecord]:
    """What payment logged about a checkout."""
    return [
        record(
            "asking the bank",
            time_unix_nano=start + 81 * MILLISECOND,
            trace_id=make_id(name, 16),
            span_id=make_id(f"{name}/charge/in", 8),
            severity_number=9,
            severity_text="INFO",
        ),
        record(
            "the bank is slow",
            time_unix_nano=start + 150 * MILLISECOND,
            trace_id=make_id(name, 16),
            span_id=make_id(f"{name}/charge/in", 8),
        ),
    ]


def send_all(backend: BackendProcess) -> None:
    """All of it."""
    ongoing = time.time_ns() - MINUTE
    for name, session, ago, declined in [
        ("checkout", ANNA, 4, False),
        ("declined", ANNA, 3, True),
        ("again", ANNA, 2, False),
        ("checkout-ben", BEN, 1, False),
    ]:
        start = NOW - ago * MINUTE
        for service, spans in checkout(name, session, start, declined=declined).items():
            backend.send(spans, service)
        backend.send_logs(log_records(name, start), "payment")
    for service, spans in everyday().items():
        backend.send(spans, service)
    every = kinds()
    every[-1].start_time_unix_nano, every[-1].end_time_unix_nano = ongoing, ongoing + 10_000 * MILLISECOND
    backend.send(every)
