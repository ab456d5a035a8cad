"""The embedded backend with a million exchanges: how fast it takes them, and how long it takes to answer.

    python -m benchmarks.backend_store [--exchanges 1000000] [--seconds 20] [--database FILE] [--page]

First a database is filled (without HTTP; the figure is CPU of one thread), unless the file is there. Then a backend is
started on it, and each question is asked 15 times over HTTP, one after another: the median and the worst are told. At
the end it takes OTLP requests from four senders for some seconds while a page is open, that is: an event stream is read
and the list is asked for every second; with ``--page`` it is the page itself, in a browser (``backend_page``). The traffic is
that of ``backend_traffic``, 2.6 kB an exchange.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import trio
from msgspec import Struct

from benchmarks.backend_page import open_page
from benchmarks.backend_traffic import RARE_WORD, Shop
from benchmarks.processes import BenchmarkError, cpu_seconds, tree
from sp_proxy.backend.otlp import Encoding, decode_traces
from sp_proxy.backend.serve import bind, serve, url_of
from sp_proxy.backend.spans import read_request
from sp_proxy.backend.sqlite import database, write
from sp_proxy.backend.sqlite.packing import pack_batch
from sp_proxy.settings.backend import Backend
from sp_proxy.settings.types import Address

ROUNDS = 15
SENDERS = 4
PROTOBUF = {"content-type": "application/x-protobuf"}


class Filled(Struct, frozen=True):
    """What filling cost."""

    exchanges: int
    cpu_microseconds: float
    """Of one exchange, from the request's bytes to the commit."""


class Answered(Struct, frozen=True):
    """One question's answers."""

    question: str
    median_ms: float
    worst_ms: float
    found: int
    pages: int
    """Until a page was full, or nothing was left; a search that takes its time answers in several."""


class Taken(Struct, frozen=True):
    """What was taken while a page was open."""

    exchanges: int
    seconds: float
    seen: int
    """Exchanges that came out of the event stream, or were announced there as dropped."""
    list_ms: float
    """Median of the list's answers meanwhile."""


class Sent(Struct, frozen=True):
    """What was stored in a time."""

    exchanges: int
    seconds: float


def fill(path: str, count: int, batch: int = 2048) -> Filled:
    """Fill a new database."""
    writer, _ = database.open_or_replace(path)
    stored, cpu = 0, 0.0
    shop = Shop(start_unix_ns=time.time_ns() - count * 200_000, interval_ns=1_000_000)
    for body in shop.requests(count, batch):
        started = time.process_time()
        read = read_request(decode_traces(Encoding.PROTOBUF, body), tenant="", now_unix_ns=time.time_ns())
        write.insert_batches(writer, [pack_batch(read.batch)])
        cpu += time.process_time() - started
        stored += len(read.batch.spans)
    writer.close()
    return Filled(stored, cpu / stored * 1e6)


@contextmanager
def running(path: str) -> Iterator[int]:
    """A backend on a database, in a process of its own; its port."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(path, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(60):
            raise BenchmarkError("the backend did not start")
        yield ours.recv()
    finally:
        process.terminate()
        process.join(20)


def _serve(path: str, port: Connection) -> None:
    settings = Backend(
        listen=Address("127.0.0.1", 0), database=path, max_database_size="1000GiB", max_request_size="64MiB"
    )
    sockets = bind(settings)
    port.send(int(url_of(sockets[0]).rpartition(":")[2]))
    trio.run(partial(serve, settings, sockets=sockets))


def ask(port: int) -> list[Answered]:
    """Every question, and its times."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        return [_ask(client, name, path) for name, path in _questions(client).items()]


def _questions(client: HTTPConnection) -> dict[str, str]:
    newest = _get(client, "/api/v1/exchanges?limit=1000")["exchanges"]
    if not newest:
        raise BenchmarkError("the database is empty")
    trace, session = newest[-1]["trace_id"], newest[-1]["session_id"]
    filters = {
        "list": "",
        "list, one service": "service:payment",
        "list, errors": "status>=500",
        "list, two conditions": "host=inventory:8080 method:PUT",
        "list, path pattern": "path:/charge/*",
        "list, nothing fits": "duration>1h",
        "search, rare word": RARE_WORD,
        "search, common word": "json",
        "search with a condition": "kalomi* status>=400",
        "search or condition": f"{RARE_WORD} or status:404",
    }
    questions = {
        name: f"/api/v1/exchanges?{urllib.parse.urlencode({'q': text, 'limit': 100})}" for name, text in filters.items()
    }
    questions |= {
        "trace": f"/api/v1/traces/{trace}",
        "logs of a trace": f"/api/v1/logs?trace={trace}",
        "traces": "/api/v1/traces?limit=100",
        "traces, with errors": "/api/v1/traces?limit=100&q=status>%3D500",
        "session": f"/api/v1/sessions/{session}",
        "sessions": "/api/v1/sessions?limit=100",
        "sessions, one service": "/api/v1/sessions?limit=100&q=service:payment",
        "sessions, with errors": "/api/v1/sessions?limit=100&q=status>%3D500",
        "map, an hour": "/api/v1/map?since=-1h",
        "map, a week": "/api/v1/map?since=-7d",
    }
    return questions


def _ask(client: HTTPConnection, name: str, path: str) -> Answered:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        answer = _get(client, path)
        times.append((time.perf_counter() - started) * 1000)
    count, pages = _found(answer), 1
    while answer.get("next") and count < 100:
        answer = _get(client, f"{path}&before={urllib.parse.quote(answer['next'])}")
        count += _found(answer)
        pages += 1
    return Answered(name, statistics.median(times), max(times), count or answer.get("spans", 0), pages)


def _found(answer: dict[str, Any]) -> int:
    return max(len(answer.get(name, ())) for name in ("exchanges", "traces", "sessions", "edges", "logs"))


def _get(client: HTTPConnection, path: str) -> dict[str, Any]:
    client.request("GET", path)
    response = client.getresponse()
    body = response.read()
    if response.status != 200:
        raise BenchmarkError(f"{path}: {response.status} {body[:200]!r}")
    answer: dict[str, Any] = json.loads(body)
    return answer


def take(port: int, bodies: list[bytes], per_body: int, seconds: float) -> Taken:
    """Send until the time is over or everything is sent, with a page open, or what stands for one."""
    stop, seen = threading.Event(), [0]
    lists: list[float] = []
    stream = socket.create_connection(("127.0.0.1", port))
    stream.sendall(b"GET /api/v1/live HTTP/1.0\r\nhost: localhost\r\n\r\n")
    page = [
        threading.Thread(target=_watch, args=(stream, seen)),
        threading.Thread(target=_refresh, args=(port, stop, lists)),
    ]
    for thread in page:
        thread.start()
    sent = send(port, bodies, per_body, seconds)
    stop.set()
    time.sleep(1)  # what is still on its way to the page
    stream.shutdown(socket.SHUT_RDWR)
    for thread in page:
        thread.join()
    stream.close()
    return Taken(sent.exchanges, sent.seconds, seen[0], statistics.median(lists))


def send(port: int, bodies: list[bytes], per_body: int, seconds: float) -> Sent:
    """Send from four senders until the time is over or everything is sent."""
    waiting = iter(bodies)
    sent = [0] * SENDERS
    started = time.perf_counter()
    senders = [
        threading.Thread(target=_send, args=(port, waiting, started + seconds, partial(_count, sent, number, per_body)))
        for number in range(SENDERS)
    ]
    for thread in senders:
        thread.start()
    for thread in senders:
        thread.join()
    return Sent(sum(sent), time.perf_counter() - started)


def _count(sent: list[int], number: int, exchanges: int) -> None:
    sent[number] += exchanges


_lock = threading.Lock()


def _send(port: int, bodies: Iterator[bytes], until: float, done: Callable[[], None]) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        while time.perf_counter() < until:
            with _lock:
                body = next(bodies, None)
            if body is None:
                return
            client.request("POST", "/v1/traces", body, PROTOBUF)
            response = client.getresponse()
            response.read()
            if response.status != 200:
                raise BenchmarkError(f"/v1/traces: {response.status}")
            done()


def _watch(stream: socket.socket, seen: list[int]) -> None:
    rest = b""
    while data := stream.recv(1 << 18):
        *blocks, rest = (rest + data).split(b"\n\n")
        for block in blocks:
            if block.startswith(b"event: exchange"):
                seen[0] += 1
            elif block.startswith(b"event: dropped"):
                seen[0] += json.loads(block.partition(b"data: ")[2])["count"]


def _refresh(port: int, stop: threading.Event, times: list[float]) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as client:
        while True:
            started = time.perf_counter()
            _get(client, "/api/v1/exchanges?limit=200")
            times.append((time.perf_counter() - started) * 1000)
            if stop.wait(1):
                return


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The embedded backend's store, measured.")
    parser.add_argument("--exchanges", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--database", type=Path, help="kept; filled if it is not there")
    parser.add_argument("--page", action="store_true", help="take exchanges while the page is open in a browser")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = str(given.database or Path(directory) / "store.sqlite3")
        if not Path(path).exists():
            filled = fill(path, given.exchanges)
            print(f"filled with {filled.exchanges:,}: {filled.cpu_microseconds:.0f} µs of CPU an exchange", flush=True)
        print(f"{Path(path).stat().st_size / 1e6:,.0f} MB", flush=True)
        with running(path) as port:
            for one in ask(port):
                more = f", {one.pages} pages" if one.pages > 1 else ""
                print(
                    f"{one.question:26} median {one.median_ms:6.1f} ms  worst {one.worst_ms:6.1f} ms  found {one.found}{more}",
                    flush=True,
                )
            per_body = 512
            count = int(given.seconds * 8000)
            bodies = list(Shop(seed=os.getpid(), start_unix_ns=time.time_ns()).requests(count, per_body))
            if given.page:
                _with_a_page(port, bodies, per_body, given.seconds)
                return
            taken = take(port, bodies, per_body, given.seconds)
        print(
            f"taken with a page open: {taken.exchanges / taken.seconds:,.0f} exchanges a second"
            f" ({taken.exchanges:,} in {taken.seconds:.1f} s; the page heard of {taken.seen:,},"
            f" its list took {taken.list_ms:.0f} ms)"
        )


def _with_a_page(port: int, bodies: list[bytes], per_body: int, seconds: float) -> None:
    with open_page(port) as page:
        before = _cpu()
        sent = send(port, bodies, per_body, seconds)
        drawn = page.report()
        used = [(now - then) / sent.exchanges * 1e6 for now, then in zip(_cpu(), before, strict=True)]
    print(
        f"taken with the page open in a browser: {sent.exchanges / sent.seconds:,.0f} exchanges a second"
        f" ({sent.exchanges:,} in {sent.seconds:.1f} s)\n"
        f"CPU an exchange: {used[0]:.0f} µs of the backend, {used[1]:.0f} µs of the browser, {used[2]:.0f} µs of the senders\n"
        f"the page: {drawn.frames_per_second:.0f} frames a second, the slowest {drawn.slowest_frame_ms:.0f} ms,"
        f" {drawn.elements} elements at most; the newest at its top {drawn.newest_seconds:.1f} s after the last"
        f" was stored{'; ' + drawn.notice if drawn.notice else ''}"
    )


def _cpu() -> tuple[float, float, float]:
    """Seconds of CPU until now: of the backend, of the browser with what drives it, and of this process."""
    ours = os.getpid()
    backend = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    of_backend = sum(map(cpu_seconds, backend))
    of_ours = cpu_seconds(ours)
    return of_backend, sum(map(cpu_seconds, tree(ours))) - of_backend - of_ours, of_ours


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(str(error))
