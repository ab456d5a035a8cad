"""The load: wrk for HTTP/1.1, h2load for cleartext HTTP/2. Both are bounded in time, and what they said is parsed."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.origin import VARIANTS
from benchmarks.processes import BenchmarkError

SCRIPT = Path(__file__).with_name("load.lua")
MARGIN_SECONDS = 20.0
"""What a tool may take beyond its time before it is killed."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What the client saw."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: int
    """Failed connections, reads, writes and timeouts, and answers that are not 2xx or 3xx."""


def run_wrk(
    port: int,
    *,
    connections: int,
    seconds: float,
    method: str = "GET",
    path: str = "/small",
    prefix: str = "",
    bodies: Path | None = None,
    close: bool = False,
) -> LoadResult:
    """Requests over ``connections``, one after the other on each. ``prefix``: of the target, for a forward proxy."""
    environ = {
        "BENCH_METHOD": method,
        "BENCH_PREFIX": prefix,
        "BENCH_PATH": path,
        "BENCH_BODIES": str(bodies or ""),
        "BENCH_VARIANTS": str(VARIANTS),
        "BENCH_CLOSE": "1" if close else "0",
    }
    whole = max(1, round(seconds))  # wrk knows whole seconds only
    command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout=10s", "--latency", f"-s{SCRIPT}"]
    return parse_wrk(_run([*command, f"http://127.0.0.1:{port}{path}"], environ, whole + MARGIN_SECONDS))


def parse_wrk(output: str) -> LoadResult:
    """From the line of our script."""
    line = next((line for line in reversed(output.splitlines()) if line.startswith("{")), None)
    if line is None:
        raise BenchmarkError(f"wrk: {_last_line(output)}")
    said = json.loads(line)
    if not said["requests"]:
        raise BenchmarkError(f"no request was answered, {said['errors']} errors")
    return LoadResult(
        said["requests"],
        said["duration_us"] / 1e6,
        said["p50_us"] / 1e3,
        said["p99_us"] / 1e3,
        said["p999_us"] / 1e3,
        said["errors"],
    )


def run_h2load(port: int, *, streams: int, seconds: float, directory: Path) -> LoadResult:
    """One connection with this many streams at a time."""
    uris = directory / "uris"
    uris.write_text("\n".join(f"http://127.0.0.1:{port}/small?n={number}" for number in range(VARIANTS)))
    times = directory / "h2load.times"
    times.unlink(missing_ok=True)
    whole = max(1, round(seconds))
    command = ["h2load", "-t1", "-c1", f"-m{streams}", f"-D{whole}", f"-i{uris}", f"--log-file={times}"]
    output = _run(command, {}, whole + MARGIN_SECONDS)
    return parse_h2load(output, times.read_text() if times.exists() else "")


def parse_h2load(output: str, times: str) -> LoadResult:
    """From its summary, and the log of every request: start (µs), status, time (µs), tab-separated."""
    rate = re.search(r"finished in ([\d.]+)(ms|s|us), ", output)
    counts = re.search(
        r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output
    )
    if rate is None or counts is None:
        raise BenchmarkError(f"h2load: {_last_line(output)}")
    succeeded, failed = int(counts[3]), int(counts[4])
    statuses = re.search(r"status codes: (\d+) 2xx", output)
    if not succeeded or statuses is None:
        raise BenchmarkError(f"no request was answered, {failed} failed")
    taken = sorted(int(line.split("\t")[2]) for line in times.splitlines() if line.count("\t") == 2)
    seconds = float(rate[1]) / {"s": 1, "ms": 1e3, "us": 1e6}[rate[2]]
    errors = failed + max(0, succeeded - int(statuses[1]))
    p50, p99, p999 = (percentile(taken, part) / 1e3 for part in (0.5, 0.99, 0.999))
    return LoadResult(succeeded, seconds, p50, p99, p999, errors)


def percentile(ordered: Sequence[int], part: float) -> float:
    """The nearest-rank value of an ordered list; not a number of an empty one."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * part))]) if ordered else float("nan")


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


def _run(command: list[str], environ: Mapping[str, str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        package = {"h2load": "nghttp2-client"}.get(command[0], command[0])
        raise BenchmarkError(f"needs {command[0]}: apt-get install {package}") from None
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{command[0]} did not end in {seconds:g} s") from None
    if done.returncode:
        raise BenchmarkError(f"{command[0]} ended with {done.returncode}: {_last_line(done.stdout)}")
    return done.stdout
