"""Soaks: long loads through the whole daemon, which captures and uploads everything meanwhile, and its memory.

    python -m benchmarks.soak [FORM ...] [--short] [--calls N] [--connections N] [--seconds S] [--worker relay|tls|flows]

Forms, all by default: ``calls``, 200,000 gRPC calls on one connection; ``connections``, 100,000 gRPC connections with one call
each; ``http1``, ten minutes of HTTP/1 over connections that come and go.

What counts is the memory of the worker that serves: the median over the last tenth of the work, beside the median over the
tenth behind the warm-up. That is the relay worker; or the mitm worker, with gRPC inside of TLS that it opens (``tls``), or
with everything as mitmproxy's flows (``flows``: ``data_path: mitmproxy``). A soak fails when that has grown beyond the form's
limit, when a call fails, when the connections are not as many as they should be, or when a record is in no counter.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks import daemon, sink, soak_clients
from benchmarks.backend_down import running
from benchmarks.processes import BenchmarkError, memory, tree
from benchmarks.soak_clients import SERVER_NAME
from benchmarks.steady import serve_origin, served
from sp_proxy.mitm import ca
from sp_proxy.mitm.config import TlsConfig

MIB = 1 << 20
SILENCE_SECONDS = 120.0
"""A client that says nothing for so long has failed."""
WARM_UP = 0.2
"""The part of the work before the first tenth that counts."""
CALLS, CONNECTIONS, SECONDS = 200_000, 100_000, 600.0
SHORT = {"calls": 4000, "connections": 400, "http1": 6.0}
SHORT_MARGIN = 2
"""Times the limit: the warm-up of a short form ends before everything is warm."""


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of load."""

    title: str
    limit: float
    """By which part of itself memory may grow."""
    client: Callable[..., None]
    serve: Callable[..., None]
    serves: tuple[Any, ...] = ()


FORMS = {
    "calls": Form("gRPC calls on one connection", 0.10, soak_clients.call_on_one_connection, soak_clients.serve_grpc),
    "connections": Form(
        "gRPC connections with one call each", 0.10, soak_clients.call_on_new_connections, soak_clients.serve_grpc
    ),
    "http1": Form(
        "seconds of HTTP/1, connections coming and going",
        0.05,
        soak_clients.come_and_go,
        serve_origin,
        (soak_clients.ANSWER_BYTES,),
    ),
}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process, or of several of a kind, while the load went on."""

    first: float
    """Behind the warm-up."""
    last: float
    most: float

    @property
    def growth(self) -> float:
        """As a part of what there was."""
        return self.last / self.first - 1


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of one form."""

    seconds: float
    worker: Memory
    supervisor: Memory
    connections: int
    """That the client made."""
    counted: int
    """That the daemon's workers saw."""
    captured: int
    lost: tuple[tuple[str, float], ...]


Sample = tuple[float, int, int]
"""How far, the worker's memory, the supervisor's."""


def summary(samples: Sequence[tuple[float, int]]) -> Memory:
    """Of how far it was, as a part of the whole, and what there was then. Raises BenchmarkError when there are too few."""
    first = [size for at, size in samples if WARM_UP <= at < WARM_UP + 0.1]
    last = [size for at, size in samples if at >= 0.9]
    if not first or not last:
        raise BenchmarkError("too short a run: there are no samples to compare")
    return Memory(median(first), median(last), max(size for at, size in samples if at >= WARM_UP))


def soak(form: Form, amount: float, worker: str) -> Soaked:
    """One form with a daemon of its own. Raises BenchmarkError."""
    with tempfile.TemporaryDirectory(prefix="sp-proxy-soak-") as name, ExitStack() as stack:
        directory = Path(name)
        settings, serves, trusts = prepared(directory, worker)
        origin = stack.enter_context(served(form.serve, *form.serves, *serves))
        taking = stack.enter_context(served(sink.serve))
        port, admin, pid = stack.enter_context(running(directory, origin, taking, settings))
        kind = b"sp_proxy.relay" if worker == "relay" else b"sp_proxy.mitm"
        samples: list[Sample] = []
        begun = time.monotonic()
        whole = 1000 if form.client is soak_clients.come_and_go else amount
        connections = 0
        with client(form.client, port, amount, *trusts) as told:
            for said in told:
                if isinstance(said, tuple):
                    (connections,) = said
                else:
                    samples.append((said / whole, memory(workers(pid, kind)).rss, memory([pid]).rss))
        seconds = time.monotonic() - begun
        books = daemon.settle(admin)
        return Soaked(
            seconds,
            summary([(at, worker) for at, worker, _ in samples]),
            summary([(at, supervisor) for at, _, supervisor in samples]),
            connections,
            counted(admin),
            round(books.captured),
            books.lost,
        )


def prepared(directory: Path, worker: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """Settings for who shall serve; what the server and the client need for it beside."""
    if worker == "relay":
        return {}, [], []
    if worker == "flows":
        return {"data_path": "mitmproxy"}, [], []
    authority = TlsConfig(ca_directory=str(directory / "ca"))
    trusted = ca.create(directory / "ca").certificate_file
    entry = ca.load(authority).get_cert(SERVER_NAME, [x509.DNSName(SERVER_NAME)])
    private = entry.privatekey.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificate = directory / "server.pem"
    certificate.write_bytes(private + entry.cert.to_pem())
    tls = {"intercept": [SERVER_NAME], "ca_directory": authority.ca_directory, "trusted_ca_file": str(trusted)}
    return {"tls": tls}, [str(certificate)], [str(trusted)]


@contextmanager
def client(work: Callable[..., None], port: int, amount: float, *trusts: str) -> Iterator[Iterator[Any]]:
    """The client in its process; what it says, one by one, until it has finished."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=[sender, port, amount, *trusts], daemon=True)
    process.start()
    sender.close()
    try:
        yield _said(receiver)
        process.join()
        if process.exitcode:
            raise BenchmarkError("the client failed: what it wrote stands above")
    finally:
        process.terminate()
        process.join()


def _said(receiver: Connection) -> Iterator[Any]:
    while True:
        if not receiver.poll(SILENCE_SECONDS):
            raise BenchmarkError(f"the client said nothing in {SILENCE_SECONDS:g} s")
        try:
            yield receiver.recv()
        except EOFError:
            return


def workers(pid: int, kind: bytes) -> list[int]:
    """Of the daemon: processes of that module."""
    found = []
    for each in tree(pid):
        try:
            line = Path(f"/proc/{each}/cmdline").read_bytes()
        except OSError:
            continue
        if kind in line:
            found.append(each)
    return found


def counted(admin: int) -> int:
    """Connections that the workers have accepted; one that was handed over counts in both."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()

    def total(name: str) -> float:
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"sp_proxy_worker_{name}_total{{")
        )

    return round(total("connections") - total("handed_over"))


def problems(limit: float, soaked: Soaked, asked: int | None) -> list[str]:
    """What must not be, each in one line. ``asked``: exchanges, where their number is known."""
    found = []
    if soaked.worker.growth > limit:
        found.append(f"the worker's memory grew by {soaked.worker.growth:.1%}, more than {limit:.0%}")
    if soaked.counted != soaked.connections:
        found.append(f"{soaked.counted:,} connections were seen, and {soaked.connections:,} were made")
    if asked is not None and soaked.captured != asked:
        found.append(f"{soaked.captured:,} exchanges were captured, and there were {asked:,}")
    return found


def row(name: str, amount: float, soaked: Soaked) -> str:
    """A line of the table, in Markdown."""
    lost = ", ".join(f"`{reason}` {count:,.0f}" for reason, count in soaked.lost) or "none"
    cells = [
        f"{amount:,.0f} {FORMS[name].title}",
        f"{soaked.seconds:,.0f}",
        f"{soaked.connections:,}",
        f"{soaked.captured:,}",
        *(f"{size / MIB:.1f}" for size in (soaked.worker.first, soaked.worker.last, soaked.worker.most)),
        f"{soaked.worker.growth:+.1%}",
        *(f"{size / MIB:.1f}" for size in (soaked.supervisor.first, soaked.supervisor.last, soaked.supervisor.most)),
        lost,
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| load | s | connections | captured | worker MiB, first | last | most | growth | supervisor MiB, first | last | most | lost |\n"
    f"| {' | '.join(['---'] * 12)} |"
)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description="Long loads, and whether memory stays.")
    parser.add_argument("forms", nargs="*", metavar="FORM", help=f"of {', '.join(FORMS)}; all by default")
    parser.add_argument("--short", action="store_true", help="half a minute in all")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of http1")
    parser.add_argument("--worker", choices=["relay", "tls", "flows"], default="relay", help="who serves, and how")
    chosen = parser.parse_args(arguments)
    chosen.forms = chosen.forms or [name for name in FORMS if name != "http1" or chosen.worker != "tls"]
    if chosen.worker == "tls" and "http1" in chosen.forms:
        parser.error("http1 has no form inside of TLS")
    for form in chosen.forms:
        if form not in FORMS:
            parser.error(f"{form!r} is unknown; known are {', '.join(FORMS)}")
    amounts = {"calls": chosen.calls, "connections": chosen.connections, "http1": chosen.seconds}
    chosen.amounts = SHORT if chosen.short else amounts
    if min(chosen.amounts.values()) < 5:
        parser.error("--calls, --connections, --seconds: at least 5")
    return chosen


def main() -> int:
    """Exit code 1 for a soak that failed."""
    chosen = options()
    failed = False
    print(HEADER)
    for name in chosen.forms:
        amount = chosen.amounts[name]
        try:
            soaked = soak(FORMS[name], amount, chosen.worker)
        except BenchmarkError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
            continue
        print(row(name, amount, soaked), flush=True)
        limit = FORMS[name].limit * (SHORT_MARGIN if chosen.short else 1)
        for problem in problems(limit, soaked, None if name == "http1" else round(amount)):
            print(f"{name}: {problem}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
