"""What a record costs to encode: our laid wire bytes beside protobuf's own (upb), on the same records.

Both make the same attributes from the same exchanges (12 request fields, 6 response fields, JSON bodies), in rounds
that alternate, so a busy machine slows both; medians of the rounds are printed. Ends by itself in a few seconds.
Each record has ids of its own in five of its fields; with fewer than about 1,000 records, the encoder would remember
even those from the round before, which no traffic lets it do.

    python benchmarks/encode.py [--records 4000] [--rounds 7] [--body-size 1024]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy.core.exchange import Direction, Exchange
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body


def records(count: int, body_size: int) -> list[Exchange]:
    """Exchanges as a service sees them: 20 paths, 8 clients' connections, ids and times of their own."""
    body = json.dumps({"items": [{"sku": f"a-{index}", "n": index} for index in range(body_size)]}).encode()[:body_size]
    return [
        Exchange(
            direction=Direction.INBOUND,
            start_unix_ns=1_700_000_000_000_000_000 + index * 1_234_567,
            ttfb_ns=3_456_000 + index,
            duration_ns=4_567_000 + index,
            trace_id=index.to_bytes(16),
            span_id=(index + 1).to_bytes(8),
            parent_span_id=(index + 2).to_bytes(8),
            session_id=b"sp-session-3f2b8a00-0000-4000-8000-%012x" % index,
            service_name=b"orders",
            scheme="http",
            protocol_version="1.1",
            method=b"POST",
            target=b"/api/orders?id=%d" % (index % 20),
            authority=b"shop.default.svc.cluster.local:8080",
            request_fields=(
                b"Host: shop.default.svc.cluster.local:8080\r\nUser-Agent: python-httpx/0.28.1\r\nAccept: */*\r\n"
                b"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\nX-Request-Id: %032x\r\n"
                b"traceparent: 00-%032x-%016x-01\r\ntracestate: x-sp-traceparent=00-%032x-%016x-01\r\n"
                b"x-sp-service-name: orders\r\nx-sp-num: 1\r\n"
            )
            % (body_size, index, index, index, index, index),
            request_body=body,
            request_body_size=len(body),
            status=200,
            response_fields=(
                b"Content-Type: application/json\r\nContent-Length: %d\r\nServer: nginx\r\nETag: W/%d\r\n"
                b"Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nCache-Control: no-store\r\n"
            )
            % (body_size, index),
            response_body=body,
            response_body_size=len(body),
            client_address="10.1.2.3",
            client_port=40000 + index % 8,
            server_address="10.4.5.6",
            server_port=8080,
            rule="server[0]",
        )
        for index in range(count)
    ]


def with_protobuf(plain: list[tuple[Span, list[tuple[str, str | int | float | bool]]]]) -> None:
    """Make each span from plain values, an object an attribute, and serialize it."""
    for head, attributes in plain:
        span = Span(
            trace_id=head.trace_id,
            span_id=head.span_id,
            parent_span_id=head.parent_span_id,
            name=head.name,
            kind=head.kind,
            start_time_unix_nano=head.start_time_unix_nano,
            end_time_unix_nano=head.end_time_unix_nano,
        )
        add = span.attributes.add
        for name, value in attributes:
            pair = add()
            pair.key = name
            if isinstance(value, str):
                pair.value.string_value = value
            elif isinstance(value, bool):
                pair.value.bool_value = value
            elif isinstance(value, int):
                pair.value.int_value = value
            else:
                pair.value.double_value = value
        span.SerializeToString()


def microseconds(work: Callable[[], None], count: int) -> float:
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / count / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--body-size", type=int, default=1024)
    options = parser.parse_args()
    if min(options.records, options.rounds, options.body_size) < 1:
        parser.error("all numbers must be positive")

    exchanges = records(options.records, options.body_size)
    encoder = SpanEncoder(decode_body)

    def laid() -> None:
        for exchange in exchanges:
            encoder.encode_span(exchange)

    # Protobuf starts from finished values: what it costs to find them (splitting heads, decoding) is not counted.
    plain = []
    for exchange in exchanges:
        span = Span.FromString(encoder.encode_span(exchange))
        plain.append((span, [(a.key, getattr(a.value, a.value.WhichOneof("value") or "")) for a in span.attributes]))

    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(microseconds(laid, options.records))
        theirs.append(microseconds(lambda: with_protobuf(plain), options.records))
    size = len(encoder.encode_span(exchanges[0]))
    print(f"{options.records} records, {options.rounds} rounds, {len(plain[0][1])} attributes and {size} bytes a span")
    print(f"laid by hand, from the exchange   {statistics.median(ours):6.1f} µs a record")
    print(f"protobuf upb, from plain values   {statistics.median(theirs):6.1f} µs a record")


if __name__ == "__main__":
    main()
