"""What an outage of the backend costs: the daemon under a steady load, with a backend that takes everything, then with
none, once with the spool and once without; and with a backend again, as two runs of the same tell what noise is.

Told are the rate and the latencies that the client saw, CPU time and memory of the daemon, and where the records are.
Memory is that of the process with the exporter, above what it had after a second of a light load, when all that it needs to
work is there. Without a spool the queue has no bound of its own, so it is the ceiling of all stages that has to hold.

Fails when the books do not balance, when an exchange is in no counter, when memory grows by more than
``exporter.max_memory``, or when an outage costs more than a tenth of the throughput.

    python -m benchmarks.backend_down [--seconds 300] [--rate 2000] [--body-size 16384]
"""

import argparse
import json
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from benchmarks import daemon, sink
from benchmarks.load import percentile
from benchmarks.processes import BenchmarkError, Running, cpu_seconds, free_port, memory, tree
from benchmarks.steady import Driven, Load, drive, serve_origin, served

MIB = 1 << 20
LOOK_SECONDS = 0.25
RAMP = 0.25
"""Part of the rate, for a second before anything is measured."""
SETTLE_SECONDS = 30.0
LEAST = 0.9
"""Of the throughput with a backend: below it is not noise."""

Settings = Mapping[str, Any]
NO_SPOOL: Settings = MappingProxyType(
    {"spool": {"mode": "off"}, "queue": {"max_size": "64GiB", "max_records": 1_000_000_000}}
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run."""

    driven: Driven
    asked: int
    """Exchanges, those of the ramp included."""
    memory_before: int
    memory_most: int
    cpu_seconds: float
    """Of all processes of the daemon, under the load."""
    status: dict[str, Any]

    @property
    def grown(self) -> int:
        """Bytes of memory above what the process had before the load."""
        return self.memory_most - self.memory_before

    @property
    def books(self) -> dict[str, Any]:
        """Of the one exporter."""
        books: dict[str, Any] = self.status["exporters"][0]
        return books


class Watch:
    """The memory of a process, looked at from a thread until the block ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.before = self.most = memory([pid]).rss

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self.most = max(self.most, memory([self._pid]).rss)


@contextmanager
def running(directory: Path, upstream: int, backend: int, settings: Settings) -> Iterator[tuple[int, int, int]]:
    """The daemon; its port, that of its admin server, and its process id."""
    port, admin = free_port(), free_port()
    values = {
        "service_name": "orders",
        "sp_backend_url": f"http://127.0.0.1:{backend}",
        "listen": {
            "inbound": "off",
            "outbound": "off",
            "forward": [{"listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{upstream}"}],
        },
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "shutdown": {"grace_period": "1s", "flush_timeout": "1s"},
        "spool": {"directory": str(directory / "spool")},
        "log": {"level": "warning"},
        **settings,
    }
    config = directory / "sp-proxy.json"
    config.write_text(json.dumps(values))
    command = [str(Path(sys.executable).with_name("sp-proxy")), "run", "--config", str(config)]
    with Running("sp-proxy", command, directory) as process:
        process.wait_for(partial(daemon.ready, admin))
        yield port, admin, process.pid


def run(load: Load, *, up: bool, settings: Settings) -> Outcome:
    """One run with a daemon of its own. Raises BenchmarkError."""
    ramp = Load(load.rate * RAMP, 1.0, load.body_size)
    asked = ramp.requests + load.requests
    with (
        tempfile.TemporaryDirectory(prefix="sp-proxy-bench-") as name,
        served(serve_origin, load.body_size) as origin,
        served(sink.serve) as taking,
        running(Path(name), origin, taking if up else free_port(), settings) as (port, admin, pid),
    ):
        drive(port, ramp)
        cpu = _cpu(pid)
        with Watch(pid) as watch:
            driven = drive(port, load)
            status = _settled(admin, asked)
        return Outcome(driven, asked, watch.before, watch.most, _cpu(pid) - cpu, status)


def _cpu(pid: int) -> float:
    return sum(map(cpu_seconds, tree(pid)))


def entered(status: Mapping[str, Any]) -> int:
    """Exchanges that the exporter got, or that a worker has said it could not hand over."""
    captured: int = status["exporters"][0]["captured"]
    lost: dict[str, int] = status["lost_before_the_exporter"]
    return captured + sum(lost.values())


def _settled(admin: int, asked: int) -> dict[str, Any]:
    """What ``sp-proxy status`` asks for, when it speaks of every exchange: workers report once a second."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/status", timeout=10) as answer:
            document: dict[str, Any] = json.load(answer)
        if entered(document) >= asked or time.monotonic() > deadline:
            return document
        time.sleep(0.1)


def problems(outcome: Outcome, max_memory: int) -> list[str]:
    """What must not be, each in one line."""
    found = []
    if not outcome.status["balanced"]:
        found.append(f"{outcome.books['missing']} records are nowhere")
    if (told := entered(outcome.status)) != outcome.asked:
        found.append(f"the daemon speaks of {told} exchanges, and there were {outcome.asked}")
    if outcome.grown > max_memory:
        found.append(f"memory grew by {outcome.grown / MIB:.0f} MiB, more than {max_memory / MIB:.0f}")
    return found


def slower(outcome: Outcome, than: Outcome, least: float = LEAST) -> list[str]:
    """A line when the throughput is less than that part of the other's."""
    part = outcome.driven.rate / than.driven.rate
    return [f"{part:.0%} of the throughput with a backend"] if part < least else []


def row(title: str, outcome: Outcome) -> str:
    """One line of the table."""
    books, latencies = outcome.books, outcome.driven.latencies_us
    p50, p99, p999 = (percentile(latencies, part) / 1000 for part in (0.5, 0.99, 0.999))
    where = ", ".join(f"{name} {books[name]:,}" for name in ("accepted", "waiting", "spooled") if books[name])
    dropped = outcome.status["lost_before_the_exporter"] | books["dropped"]
    lost = ", ".join(f"`{reason}` {count:,}" for reason, count in dropped.items() if count)
    return (
        f"| {title} | {outcome.driven.rate:,.0f} | {p50:.2f} | {p99:.2f} | {p999:.1f} | {latencies[-1] / 1000:.0f} "
        f"| {outcome.cpu_seconds / len(latencies) * 1e6:.0f} | {outcome.memory_before / MIB:.0f} "
        f"| {outcome.memory_most / MIB:.0f} | {where} | {lost or 'none'} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--body-size", type=int, default=16384)
    parser.add_argument("--max-memory", type=int, default=256, metavar="MIB", help="exporter.max_memory")
    options = parser.parse_args()
    load = Load(options.rate, options.seconds, options.body_size)
    ceiling = {"exporter": {"max_memory": f"{options.max_memory}MiB"}}
    cases: list[tuple[str, bool, Settings]] = [
        ("backend up", True, ceiling),
        ("backend down, `spool.mode: overflow`", False, ceiling),
        ("backend down, no spool, no bound of the queue", False, {**NO_SPOOL, **ceiling}),
        ("backend up, again", True, ceiling),
    ]
    print(f"{load.rate:g} exchanges a second for {load.seconds:g} s, bodies of 2 x {load.body_size} bytes\n")
    print(
        "| | exchanges/s | p50 ms | p99 ms | p99.9 ms | most ms | CPU µs | MiB before | MiB at most | records | dropped |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    wrong: list[str] = []
    first: Outcome | None = None
    for title, up, settings in cases:
        outcome = run(load, up=up, settings=settings)
        first = first or outcome
        print(row(title, outcome), flush=True)
        found = problems(outcome, options.max_memory * MIB) + slower(outcome, first)
        wrong += [f"{title}: {problem}" for problem in found]
    print("\n".join(["", *wrong]) if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(str(error))
