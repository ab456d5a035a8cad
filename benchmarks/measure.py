"""One measurement: a proxy's CPU time and memory around what a client does to it."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks import load, transfers
from benchmarks.cases import Case, Kind
from benchmarks.origin import HUGE_BYTES
from benchmarks.processes import BenchmarkError, Memory, cpu_seconds, memory
from benchmarks.proxies import Instance, Settled, Setup

Numbers = dict[str, float]
"""Of one measurement, by name: ``cpu_us`` and ``worker_cpu_us`` (a request, or 100 MiB), ``rate`` (requests a second),
``p50_ms``, ``p99_ms``, ``p999_ms``, ``errors``, ``mb_s`` (10**6 bytes), ``rss_mib``, ``pss_mib``; idle cases: ``before_*`` and
``more_*`` beside these, and ``connections``.
"""

MIB = 1 << 20
MIN_RECORD_BYTES = 300
"""Less than any record has: the fields of a request and its response alone are as many."""
TRANSFERS = 2
"""Large bodies a round: one takes 100 ms, too short for a scheduler's turns to even out."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it, and a remark for the reader."""

    numbers: Numbers
    remark: str = ""


class _Meter:
    """CPU seconds of an instance since this was made."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._workers = {pid: cpu_seconds(pid) for pid in instance.workers()}
        self._start = {pid: cpu_seconds(pid) for pid in instance.pids()}

    def read(self) -> tuple[float, float]:
        """Of the whole tree, and of sp_proxy's workers. Raises BenchmarkError when one of the processes has ended."""
        whole = sum(cpu_seconds(pid) - self._start.get(pid, 0.0) for pid in self._instance.pids())
        missing = self._start.keys() - set(self._instance.pids())
        if missing:
            raise BenchmarkError(f"{len(missing)} of its processes ended under load")
        return whole, sum(cpu_seconds(pid) - start for pid, start in self._workers.items())


def measure(case: Case, instance: Instance, setup: Setup, seconds: float) -> Measured:
    """Run the case once. Raises BenchmarkError."""
    match case.kind:
        case Kind.LOAD:
            return _load(
                instance,
                lambda: load.run_wrk(
                    instance.port,
                    connections=case.connections,
                    seconds=seconds,
                    method=case.method,
                    path=case.path,
                    prefix=instance.prefix,
                    bodies=setup.origin.bodies,
                    close=case.close,
                ),
            )
        case Kind.HTTP2:
            return _load(
                instance,
                lambda: load.run_h2load(
                    instance.port, streams=case.connections, seconds=seconds, directory=setup.directory
                ),
            )
        case Kind.DOWNLOAD:
            return _bulk(instance, lambda: transfers.download(instance.port, prefix=instance.prefix))
        case Kind.UPLOAD:
            return _bulk(instance, lambda: transfers.upload(instance.port, prefix=instance.prefix))
        case Kind.IDLE:
            return _idle(case, instance)


def _load(instance: Instance, run: Callable[[], load.LoadResult]) -> Measured:
    meter = _Meter(instance)
    result = run()
    settled = instance.settle()
    cpu, worker = meter.read()
    _check(settled, result.requests)
    said = asdict(result)
    numbers: Numbers = {
        "cpu_us": cpu * 1e6 / result.requests,
        "rate": result.requests / result.seconds,
        **{name: float(said[name]) for name in ("p50_ms", "p99_ms", "p999_ms", "errors")},
        **_memory("", memory(instance.pids())),
    }
    return Measured(_with_worker(instance, numbers, worker * 1e6 / result.requests), settled.lost)


def _check(settled: Settled, requests: int) -> None:
    """What should have been captured was. Raises BenchmarkError.

    Requests in flight when a client stops are answered without being counted by it, so there may be more.
    """
    if settled.captured is not None and settled.captured < requests:
        raise BenchmarkError(f"only {settled.captured:,.0f} of {requests:,} requests were captured")
    if settled.channel_bytes is not None and settled.channel_bytes < requests * MIN_RECORD_BYTES:
        raise BenchmarkError(f"only {settled.channel_bytes:,} bytes of records came of {requests:,} requests")


def _bulk(instance: Instance, run: Callable[[], float]) -> Measured:
    meter = _Meter(instance)
    seconds = sum(run() for _ in range(TRANSFERS))
    settled = instance.settle()
    cpu, worker = meter.read()
    _check(settled, TRANSFERS)
    numbers: Numbers = {
        "cpu_us": cpu * 1e6 / TRANSFERS,
        "mb_s": HUGE_BYTES * TRANSFERS / seconds / 1e6,
        **_memory("", memory(instance.pids())),
    }
    return Measured(_with_worker(instance, numbers, worker * 1e6 / TRANSFERS), settled.lost)


def _idle(case: Case, instance: Instance) -> Measured:
    possible = transfers.possible_connections(case.connections)
    before, worker_before = memory(instance.pids()), memory(instance.workers())
    with transfers.idle_connections(instance.port, possible, prefix=instance.prefix) as count:
        settled = instance.settle()
        _check(settled, count)
        after, worker_after = memory(instance.pids()), memory(instance.workers())
    numbers: Numbers = {
        "connections": count,
        **_memory("before_", before),
        **_memory("", after),
        **_memory("more_", Memory(after.rss - before.rss, after.pss - before.pss)),
    }
    if instance.workers():
        numbers |= _memory("worker_before_", worker_before)
        numbers |= _memory("worker_", worker_after)
        numbers |= _memory(
            "worker_more_", Memory(worker_after.rss - worker_before.rss, worker_after.pss - worker_before.pss)
        )
    time.sleep(0.2)  # let the proxy see the ends before it is stopped
    remark = ""
    if count < possible:
        remark = f"no more than {count:,} connections in {transfers.IDLE_SECONDS:g} s"
    elif count < case.connections:
        remark = f"{count:,} connections, by the hard limit of descriptors"
    return Measured(numbers, "; ".join(filter(None, (settled.lost, remark))))


def _with_worker(instance: Instance, numbers: Numbers, worker_cpu: float) -> Numbers:
    workers = instance.workers()
    return {**numbers, "worker_cpu_us": worker_cpu, **_memory("worker_", memory(workers))} if workers else numbers


def _memory(prefix: str, used: Memory) -> Numbers:
    return {f"{prefix}rss_mib": used.rss / MIB, f"{prefix}pss_mib": used.pss / MIB}
