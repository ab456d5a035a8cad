"""What a record costs the exporter, from the frame's bytes to the accepted upload: CPU µs of the exporter's process
(all threads but the feeding one), to a real HTTP sink in another process, over loopback. With redaction by its defaults
and without, beside the batch processor and the OTLP exporter of OpenTelemetry's SDK on the same spans.

Bodies are JSON with values of their own, as compressing equal ones would cost nothing. The three alternate, in rounds,
and the medians are told. The books must balance, everything must be accepted, and the sink must have seen as many requests
as there are batches, or it fails. Ends by itself in a minute.

    python -m benchmarks.exporter [--records 20000] [--body-size 1024] [--compression gzip|none] [--rounds 5]
"""

import argparse
import gc
import random
import socket
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import msgspec
import trio

from benchmarks import otel_sdk, sink
from benchmarks.encode import records
from benchmarks.processes import BenchmarkError
from benchmarks.steady import document, served
from sp_proxy import regex
from sp_proxy.channel.frames import FrameReader, Records, frame
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form
from sp_proxy.exporter.intake import RECEIVE_BYTES
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import redaction_config

DEADLINE_SECONDS = 120.0
BATCH = 512
DETECTORS = ("payment_card", "bearer_token", "jwt", "aws_key")
TITLES = {
    "unredacted": "frames to accepted upload, no detectors",
    "redacted": "frames to accepted upload",
    "sdk": "OpenTelemetry's SDK",
}


Compression = Literal["gzip", "none"]
Taken = tuple[float, float]
"""CPU seconds and seconds of one run."""


def varied(count: int, body_size: int) -> list[Exchange]:
    """The exchanges that everybody exports."""
    draw = random.Random(1)

    def ids(exchange: Exchange) -> Exchange:
        """Random as real ones are: a number with leading zeros looks like a payment card's to a detector."""
        trace, span, request = draw.randbytes(16), draw.randbytes(8), draw.randbytes(16)
        old_trace, old_span = exchange.trace_id.hex(), exchange.trace_id.hex()[16:]
        fields = exchange.request_fields.decode()
        fields = fields.replace(f"X-Request-Id: {old_trace}", f"X-Request-Id: {request.hex()}")
        fields = fields.replace(f"00-{old_trace}-{old_span}-01", f"00-{trace.hex()}-{span.hex()}-01")
        session = f"sp-session-{uuid.UUID(bytes=draw.randbytes(16), version=4)}".encode()
        return msgspec.structs.replace(
            exchange,
            trace_id=trace,
            span_id=draw.randbytes(8),
            parent_span_id=span,
            session_id=session,
            request_fields=fields.encode(),
        )

    return [
        msgspec.structs.replace(
            ids(exchange), request_body=document(draw, body_size), response_body=document(draw, body_size)
        )
        for exchange in records(count, body_size)
    ]


def _frames(exchanges: list[Exchange], per_frame: int) -> Iterator[bytes]:
    for start in range(0, len(exchanges), per_frame):
        yield frame(Records(exchanges[start : start + per_frame]))


def _median_us(work: Callable[[], None], count: int, rounds: int) -> float:
    """CPU µs a record, on one thread."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken) * 1e6 / count


def _stages(exchanges: list[Exchange], frames: bytes, rounds: int) -> dict[str, float]:
    """The stages by themselves: CPU µs a record."""
    redactor = Redactor(redaction_config(SettingsModel()), regex)

    def read() -> None:
        reader = FrameReader()
        for start in range(0, len(frames), RECEIVE_BYTES):
            reader.feed(frames[start : start + RECEIVE_BYTES])
            while reader.next() is not None:
                pass

    def encode(compression: Compression, redaction: Redactor | None) -> None:
        # A new one each time: with few records, it would remember those of the round before.
        encoder = Encoder(SpanEncoder(decode_body, redaction=redaction).encode_span, [Form({}, compression)])
        for start in range(0, len(exchanges), BATCH):
            encoder.encode(exchanges[start : start + BATCH])

    def measured(work: Callable[[], None]) -> float:
        return _median_us(work, len(exchanges), rounds)

    encoded = measured(lambda: encode("none", None))
    return {
        "read frames": measured(read),
        "encode": encoded,
        "redact (the default detectors)": measured(lambda: encode("none", redactor)) - encoded,
        "compress": measured(lambda: encode("gzip", None)) - encoded,
    }


async def _export(url: str, frames: bytes, count: int, compression: Compression, *, redacted: bool) -> Taken:
    detectors = {} if redacted else {"redaction": {"detectors": dict.fromkeys(DETECTORS, "off")}}
    exporter = Exporter(
        SettingsModel.model_validate(
            {
                "sp_backend_url": url,
                "spool": {"mode": "off"},
                "exporter": {"max_memory": "4GiB"},  # no ceiling: the frames come as fast as they can be read
                "queue": {"max_records": count},
                "batch": {"max_records": BATCH},
                "upload": {"compression": compression},
                **detectors,
            }
        )
    )
    feeder_cpu = 0.0

    def feed(sock: socket.socket) -> None:
        nonlocal feeder_cpu
        with sock:
            sock.sendall(frames)
        feeder_cpu = time.thread_time()

    worker, ours = socket.socketpair()
    with trio.fail_after(DEADLINE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(exporter.run)
            cpu, wall = time.process_time(), time.perf_counter()
            exporter.attach(ours)
            thread = threading.Thread(target=feed, args=[worker])
            thread.start()
            while exporter.stats().captured < count:  # noqa: ASYNC110 (nothing announces it; 100 looks a second are cheap)
                await trio.sleep(0.01)
            await exporter.drain(trio.current_time() + DEADLINE_SECONDS)
            thread.join()
            stats = exporter.stats()
            if not stats.balanced or stats.accepted != count:
                raise BenchmarkError(f"not everything was accepted: {stats}")
            return time.process_time() - cpu - feeder_cpu, time.perf_counter() - wall


def rivals(
    url: str, exchanges: list[Exchange], per_frame: int, compression: Compression
) -> dict[str, Callable[[], Taken]]:
    """Each exports all of the exchanges to the sink at this URL, once a call."""
    frames = b"".join(_frames(exchanges, per_frame))
    encoder = SpanEncoder(decode_body)
    spans = otel_sdk.readable([encoder.encode_span(each) for each in exchanges], "orders")
    count = len(exchanges)
    return {
        "unredacted": lambda: trio.run(partial(_export, url, frames, count, compression, redacted=False)),
        "redacted": lambda: trio.run(partial(_export, url, frames, count, compression, redacted=True)),
        "sdk": lambda: otel_sdk.export(url, spans, BATCH, compressed=compression != "none"),
    }


def _measured(run: Callable[[], Taken], url: str, count: int) -> tuple[float, float, float]:
    """What a run took, and the bytes that the sink got."""
    before = sink.received(url)
    cpu, seconds = run()
    came = sink.received(url).since(before)
    if came.requests < count / BATCH:
        raise BenchmarkError(f"the sink got {came.requests} requests, which is too few for {count} spans")
    return cpu, seconds, float(came.body_bytes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--body-size", type=int, default=1024)
    parser.add_argument("--per-frame", type=int, default=16)
    parser.add_argument("--compression", choices=["gzip", "none"], default="gzip")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=list(TITLES), help="for a profiler")
    options = parser.parse_args()
    count = options.records
    exchanges = varied(count, options.body_size)
    print(
        f"{count} records, bodies of 2 x {options.body_size} bytes, {options.per_frame} a frame, "
        f"compression {options.compression}; medians of {options.rounds}"
    )
    if not options.only:
        some = exchanges[:4000]
        for name, us in _stages(some, b"".join(_frames(some, options.per_frame)), options.rounds).items():
            print(f"  {name:<44}{us:7.1f} µs a record (CPU)")
    with served(sink.serve) as port:
        url = f"http://127.0.0.1:{port}"
        runs = rivals(url, exchanges, options.per_frame, options.compression)
        del exchanges
        names = [options.only] if options.only else sorted(runs)
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
        for number in range(options.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                gc.collect()
                taken[name].append(_measured(runs[name], url, count))
    medians = {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in taken.items()}
    for name in (name for name in TITLES if name in medians):
        cpu, seconds, size = medians[name]
        print(
            f"  {TITLES[name]:<44}{cpu * 1e6 / count:7.1f} µs a record (CPU), {count / cpu:,.0f} spans a second and core, "
            f"{count / seconds:,.0f} spans a second, {size / count:,.0f} bytes a span"
        )
    for name in ("unredacted", "redacted") if "sdk" in medians and not options.only else ():
        times = medians["sdk"][0] / medians[name][0]
        print(f"  {TITLES[name]}: {times:.1f} times the SDK's spans a second and core")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
