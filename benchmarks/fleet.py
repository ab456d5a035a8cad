"""The proxies that run at the moment. Those of one kind of case stay up for all cases of that kind, side by side: an idle
one costs the others nothing, and starting them anew would cost minutes.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import load, transfers
from benchmarks.cases import Case, Kind
from benchmarks.origin import Origin
from benchmarks.proxies import Instance, Proxy, Setup

WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Need:
    """What a case needs of the way a proxy is started."""

    upstream: int
    http2: bool
    workers: int
    fresh: bool


class Fleet:
    """Owns the instances; leaving it ends all of them."""

    def __init__(self, directory: Path, origin: Origin) -> None:
        self._directory = directory
        self._origin = origin
        self._need: _Need | None = None
        self._instances: dict[str, Instance] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop_all()

    def setup(self, case: Case) -> Setup:
        """How a proxy is started for this case."""
        need = self._needed(case)
        return Setup(self._directory, self._origin, need.upstream, need.http2, need.workers)

    def prepare(self, case: Case) -> None:
        """End those that were started for cases of another kind."""
        need = self._needed(case)
        if need != self._need or need.fresh:
            self._stop_all()
            self._need = need

    def instance(self, proxy: Proxy, case: Case) -> Instance:
        """The one of this proxy, started if need be. Raises BenchmarkError."""
        found = self._instances.get(proxy.name)
        if found is None:
            found = self._instances[proxy.name] = proxy.start(proxy, self.setup(case))
            self._warm_up(found, case)
        return found

    def _warm_up(self, instance: Instance, case: Case) -> None:
        """Have it answer: first connections, lazy imports and caches are not what is measured."""
        if case.kind is Kind.HTTP2:
            load.run_h2load(instance.port, streams=10, seconds=WARM_UP_SECONDS, directory=self._directory)
            return
        with transfers.idle_connections(instance.port, 1, prefix=instance.prefix):
            pass
        if case.kind is Kind.LOAD:
            load.run_wrk(instance.port, connections=16, seconds=WARM_UP_SECONDS, prefix=instance.prefix)
        instance.settle()

    def discard(self, proxy: Proxy) -> str:
        """End it; the next to ask gets a fresh one. Returns a remark when it had ended by itself."""
        instance = self._instances.pop(proxy.name, None)
        if instance is None or instance.process is None:
            return ""
        remark = "" if instance.process.alive else f" (it ended: {instance.process.last_words()})"
        instance.stop()
        return remark

    def _needed(self, case: Case) -> _Need:
        origin = self._origin
        http2 = case.kind is Kind.HTTP2
        upstream = origin.uploads if case.kind is Kind.UPLOAD else origin.http2 if http2 else origin.http1
        return _Need(upstream, http2, case.workers, case.kind is Kind.IDLE)

    def _stop_all(self) -> None:
        with contextlib.ExitStack() as stack:
            for instance in self._instances.values():
                stack.callback(instance.stop)
            self._instances = {}
