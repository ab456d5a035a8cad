"""Where a process of sp_proxy spends its time under load, by a sampling profiler from outside (py-spy), which needs root.

Samples are turned into microseconds a request by the kernel's count of the process's CPU time while it was sampled. Being
sampled costs something too, so the sum is a little above what ``make bench`` shows. A function's own time includes what it
calls in C; ``--native`` splits that up, as far as the libraries have symbols.

    python -m benchmarks.profile [--process worker|exporter] [--case get-16] [--seconds 5] [--top 30] [--native]
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.cases import CASES, Case, Kind
from benchmarks.fleet import Fleet
from benchmarks.origin import ports, start_nginx
from benchmarks.processes import BenchmarkError, cpu_seconds, system_part
from benchmarks.proxies import PROXIES

RATE = 400
"""Samples a second; more, and being stopped for them shows in the result."""


@dataclass(frozen=True, slots=True)
class Share:
    """Samples of one function: on top of the stack, and anywhere in it."""

    function: str
    own: int
    total: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Of one process, while it was sampled."""

    shares: list[Share]
    cpu_us: float
    """CPU time a request, and the part of it that the kernel took, from 0 to 1."""
    system_part: float
    rate: float


def shares(folded: Iterable[str]) -> list[Share]:
    """From folded stacks (``outer;inner COUNT``), the largest own time first. A recursive function counts once a stack."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rstrip("\n").rpartition(" ")
        if not stack or not count.isdigit():
            continue
        # Lines within a function are one function here; without --native, py-spy puts the thread first.
        frames = [_function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return [
        Share(name, own[name], total[name]) for name in sorted(total, key=lambda name: (-own[name], -total[name], name))
    ]


def _function(frame: str) -> str:
    """``data_received (sp_proxy/relay/connection.py:150)`` → ``data_received (relay/connection.py)``."""
    name, _, place = frame.partition(" (")
    path = re.sub(r"(:\d+)?\)$", "", place)
    return f"{name} ({'/'.join(path.split('/')[-2:])})" if path else name


def _sample(pid: int, seconds: float, native: bool, output: Path) -> "subprocess.Popen[str]":
    program = Path(sys.executable).with_name("py-spy")
    if not program.exists():
        raise BenchmarkError("py-spy is not installed: make install")
    command = [str(program), "record", "--pid", str(pid), "--format", "raw", "--output", str(output)]
    command += ["--rate", str(RATE), "--duration", str(max(1, round(seconds))), *(["--native"] if native else [])]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _load(case: Case, port: int, seconds: float, directory: Path, bodies: Path) -> load.LoadResult:
    if case.kind is Kind.HTTP2:
        return load.run_h2load(port, streams=case.connections, seconds=seconds, directory=directory)
    return load.run_wrk(
        port,
        connections=case.connections,
        seconds=seconds,
        method=case.method,
        path=case.path,
        bodies=bodies,
        close=case.close,
    )


def profile(case: Case, *, exporter: bool, seconds: float, native: bool) -> Profile:
    """Raises BenchmarkError."""
    proxy = PROXIES["sp-exported" if exporter else "sp-handed"]
    with tempfile.TemporaryDirectory(prefix="sp-proxy-profile-") as name:
        directory = Path(name)
        origin = ports(directory)
        with (
            start_nginx(directory, origin.http1, origin.http2, origin.otlp),
            Fleet(directory, origin) as fleet,
        ):
            fleet.prepare(case)
            instance = fleet.instance(proxy, case)
            (worker,) = instance.workers()
            pid = next(each for each in instance.pids() if each != worker) if exporter else worker
            output = directory / "folded"
            sampler = _sample(pid, seconds, native, output)
            try:
                start, read_system = cpu_seconds(pid), system_part(pid)
                result = _load(case, instance.port, seconds, directory, origin.bodies)
                instance.settle()
                cpu = cpu_seconds(pid) - start
                system = read_system()
                said, _ = sampler.communicate(timeout=seconds + 30)
            finally:
                if sampler.poll() is None:
                    sampler.kill()
                    sampler.wait()
            if not output.exists():
                raise BenchmarkError(f"py-spy: {' '.join(said.split())[-300:]}")
            found = shares(output.read_text().splitlines())
            return Profile(found, cpu * 1e6 / result.requests, system, result.requests / result.seconds)


def _report(found: Sequence[Share], cpu_us: float, top: int) -> None:
    samples = sum(share.own for share in found)
    print(f"{'own':>6}  {'µs':>6}  {'total':>6}  function")
    for share in found[:top]:
        own = share.own / samples
        print(f"{own:6.1%}  {own * cpu_us:6.2f}  {share.total / samples:6.1%}  {share.function}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit code."""
    driven = [name for name, case in CASES.items() if case.kind in {Kind.LOAD, Kind.HTTP2} and case.workers == 1]
    parser = argparse.ArgumentParser(
        prog="benchmarks.profile", description="Where sp_proxy spends its time under load."
    )
    parser.add_argument("--process", choices=["worker", "exporter"], default="worker")
    parser.add_argument("--case", choices=driven, default="get-16", metavar="CASE", help=", ".join(driven))
    parser.add_argument("--seconds", type=int, default=5, choices=range(1, 61), metavar="1..60")
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--native", action="store_true", help="show functions of C libraries too")
    chosen = parser.parse_args(arguments)
    case = CASES[chosen.case]
    try:
        found = profile(case, exporter=chosen.process == "exporter", seconds=chosen.seconds, native=chosen.native)
    except BenchmarkError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    if not found.shares:
        print("profile: no samples", file=sys.stderr)
        return 1
    print(
        f"{case.title}, {chosen.process}: {found.cpu_us:.1f} CPU µs a request ({found.system_part:.0%} in the kernel), "
        f"{found.rate:,.0f} requests/s"
    )
    _report(found.shares, found.cpu_us, chosen.top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
