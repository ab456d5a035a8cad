"""What a record costs the exporter, from the frame's bytes to the accepted upload: CPU µs of the exporter's process
(all threads but the feeding one), to a real HTTP sink in another process, over loopback.

Bodies are JSON with values of their own, as compressing equal ones would cost nothing. The books must balance and
everything must be accepted, or it fails. Ends by itself in some ten seconds.

    python -m benchmarks.exporter [--records 20000] [--body-size 1024] [--per-frame 16]
"""

import argparse
import json
import multiprocessing
import random
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Literal

import msgspec
import trio

from benchmarks.encode import records
from sp_proxy.channel.frames import FrameReader, Records, frame
from sp_proxy.core.exchange import Exchange
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.exporter.stats import ExporterStats
from sp_proxy.settings.model import SettingsModel

DEADLINE_SECONDS = 120.0


class _Sink(BaseHTTPRequestHandler):
    """Reads requests and accepts them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
        pass


def _serve(port: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    port.send(server.server_port)
    server.serve_forever()


def _varied(count: int, body_size: int) -> list[Exchange]:
    draw = random.Random(1)

    def body() -> bytes:
        items = [
            {
                "sku": f"SKU-{draw.randrange(10**6)}",
                "quantity": draw.randrange(9),
                "price": round(draw.random() * 99, 2),
            }
            for _ in range(body_size // 45 + 1)
        ]
        return json.dumps(items).encode()[:body_size]

    return [
        msgspec.structs.replace(exchange, request_body=body(), response_body=body())
        for exchange in records(count, body_size)
    ]


def _frames(exchanges: list[Exchange], per_frame: int) -> Iterator[bytes]:
    for start in range(0, len(exchanges), per_frame):
        yield frame(Records(exchanges[start : start + per_frame]))


def _stages(exchanges: list[Exchange], frames: bytes) -> None:
    """The stages by themselves, on one thread."""

    def measure(name: str, work: object) -> None:
        assert callable(work)
        start = time.process_time()
        work()
        print(f"  {name:<34}{(time.process_time() - start) * 1e6 / len(exchanges):7.1f} µs a record")

    def read() -> None:
        reader = FrameReader()
        for start in range(0, len(frames), 256 * 1024):
            reader.feed(frames[start : start + 256 * 1024])
            while reader.next() is not None:
                pass

    def encode(compression: Literal["gzip", "none"]) -> None:
        encoder = Encoder(SpanEncoder(decode_body).encode_span, [Form({}, compression)])
        for start in range(0, len(exchanges), 512):
            encoder.encode(exchanges[start : start + 512])

    measure("read frames", read)
    measure("encode", lambda: encode("none"))
    measure("encode and gzip", lambda: encode("gzip"))


async def _export(url: str, frames: bytes, count: int) -> tuple[ExporterStats, float, float]:
    """The books, CPU seconds and seconds of one run."""
    exporter = Exporter(SettingsModel.model_validate({"sp_backend_url": url, "spool": {"mode": "off"}}))
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
            return exporter.stats(), time.process_time() - cpu - feeder_cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--body-size", type=int, default=1024)
    parser.add_argument("--per-frame", type=int, default=16)
    options = parser.parse_args()
    exchanges = _varied(options.records, options.body_size)
    frames = b"".join(_frames(exchanges, options.per_frame))
    print(f"{options.records} records, bodies of 2 x {options.body_size} bytes, {options.per_frame} a frame")
    _stages(exchanges[:4000], b"".join(_frames(exchanges[:4000], options.per_frame)))
    del exchanges

    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    sink = context.Process(target=_serve, args=[sender], daemon=True)
    sink.start()
    try:
        stats, cpu, wall = trio.run(_export, f"http://127.0.0.1:{receiver.recv()}", frames, options.records)
    finally:
        sink.terminate()
        sink.join()
    assert stats.balanced, stats
    assert stats.accepted == options.records, stats
    print(f"  {'frames to accepted upload':<34}{cpu * 1e6 / options.records:7.1f} µs a record (CPU)")
    print(f"  {options.records / wall:,.0f} records a second, {stats.bytes_sent / options.records:,.0f} bytes each")


if __name__ == "__main__":
    main()
