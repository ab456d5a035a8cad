"""sp_proxy in the pod, and what a kubelet does for it: started again whenever it has ended, until the run is over.

Each life has a directory of its own for its log. Its books are read all the time (``Auditor``), and right before it is killed.
"""

import contextlib
import http.client
import json
import math
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.chaos.connections import Connection, connections
from benchmarks.chaos.history import History, Killed, Life
from benchmarks.chaos.schedule import Kind
from benchmarks.processes import BenchmarkError, tree
from tests.e2e.harness import ADMIN_PORT, Daemon, get, launch, parse_metrics, total
from tests.netns import Namespace

INBOUND, OUTBOUND = 16006, 16001
RESTART_PAUSE = 0.5
"""Seconds before a start that failed is tried again."""
PATIENCE = 120.0
"""Seconds for what takes a second on a machine that has time."""
GRACE_SECONDS = 10.0
"""``shutdown.grace_period``."""
GRACE_LOOK = 0.3
"""Seconds before its end, to see what is left."""
LOOK_INTERVAL = 0.25
REFUSAL_LOOKS = 4
"""Workers report once a second."""
FAULTS = ("_failed", "not_ended_in_time", "worker_killed", "exporter_")
"""Parts of the names of events that tell of a fault of ours."""
EXPECTED = ("accept_failed",)
_WORKER, _REASON = "sp_proxy_worker_refused_total", 'reason="{}"'
OWN = "own_connection, passed on"
REFUSALS = {
    **{reason: (_WORKER, _REASON.format(reason)) for reason in ("loop", "not_redirected", "already_reset")},
    "upstream_connect_failed": ("sp_proxy_worker_upstream_connect_failed_total", ""),
    OWN: ("sp_proxy_worker_raw_total", 'reason="own_connection"'),
    "failing_open": ("sp_proxy_failopen_connections_refused_total", ""),
}
"""Families of metrics, with a label, by the name of a reason. What is passed on is no refusal, but would once have been one."""


class Pod:
    """The daemon, life after life."""

    def __init__(self, namespace: Namespace, directory: Path, history: History) -> None:
        self._namespace = namespace
        self._directory = directory
        self._history = history
        self._orphans: list[int] = []
        self._config = directory / "sp_proxy.yaml"
        self._daemon: Daemon | None = None
        self._books: dict[str, Any] | None = None
        self._refused: dict[str, int] = {}
        self._left_at = 0.0
        self._began = 0.0
        self.starts = 0

    @property
    def config(self) -> Path:
        """The file with its settings."""
        return self._config

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Other settings, whole at any moment; a daemon that runs is not told."""
        new = self._directory / "new.yaml"
        new.write_text(yaml.safe_dump(dict(settings)), "utf-8")
        new.chmod(0o644)
        new.rename(self._config)

    # ---- life

    @property
    def daemon(self) -> Daemon:
        """The present one."""
        if self._daemon is None:
            raise BenchmarkError("the daemon was not started")
        return self._daemon

    def start(self) -> None:
        """Again and again until it is ready, as one that crashes is."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.starts += 1
            life = self._directory / f"life-{self.starts}"
            life.mkdir()
            life.chmod(0o777)
            self._books, self._refused = None, {}
            self._began = time.monotonic()
            self._daemon = launch(self._namespace, life, self._config)
            while self._daemon.process.poll() is None and time.monotonic() < deadline:
                if get(self._namespace, ADMIN_PORT, "/healthz/ready")[0] == 200:
                    if self._left_at:
                        self._history.down.append((self._left_at, time.monotonic()))
                    return
                time.sleep(0.05)
            if time.monotonic() > deadline:
                raise BenchmarkError(f"the daemon was not ready: {self._daemon.log[-500:]}")
            time.sleep(RESTART_PAUSE)

    def status(self) -> dict[str, Any] | None:
        """What its admin server tells; None when nobody answers."""
        try:
            code, text = get(self._namespace, ADMIN_PORT, "/status")
        except http.client.HTTPException:
            return None
        return dict(json.loads(text)) if code == 200 else None

    def audit(self) -> dict[str, Any] | None:
        """Read its books, and complain if they do not balance."""
        daemon, document = self._daemon, self.status()
        if document is not None and daemon is self._daemon:
            self._books = document
            if not document["balanced"]:
                self._history.troubles.append(f"the books do not balance: {document['exporters']}")
        return document

    def look_at_refusals(self) -> None:
        """Connections that its workers, or it itself, have closed at once, by reason: the numbers of its end are kept."""
        daemon = self._daemon
        try:
            code, text = get(self._namespace, ADMIN_PORT, "/metrics")
        except http.client.HTTPException:
            return
        if code == 200 and daemon is self._daemon:
            metrics = parse_metrics(text)
            self._refused = {reason: round(total(metrics, *where)) for reason, where in REFUSALS.items()}

    def settled(self, patience: float) -> bool:
        """Whether all its workers are ready, within so many seconds."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            document = self.status()
            if document and document["workers_ready"] == document["workers"]:
                return True
            time.sleep(0.1)
        return False

    # ---- harm

    def kill(self, kind: Kind, victims: Sequence[int], *, supervisor: bool) -> Callable[[], None]:
        """End these processes; what is returned waits for all that goes with them, and writes it down."""
        books = self.audit() if supervisor else None
        ready = self._books["workers_ready"] if self._books else 0
        left = [pid for pid in self.workers if pid not in victims] if supervisor else []
        at = time.monotonic()
        for pid in victims:
            _send(pid, signal.SIGSTOP)
        held = connections(victims)
        for pid in victims:
            _send(pid, signal.SIGKILL)
        self._orphans += left
        if supervisor:
            self._left_at = at
            self.daemon.process.wait()
            self.end_of_life()

        def wait() -> None:
            gone = self._gone([*victims, *left])
            self._orphans.clear()
            silent, waiting = supervisor and (not left or not ready), _waiting(books) if books else 0
            self._note(kind, at, gone, held, supervisor=supervisor, silent=silent, waiting=waiting)

        return wait

    def stick(self, kind: Kind, victim: int) -> None:
        """Stop a worker, until the supervisor has killed it."""
        at = time.monotonic()
        _send(victim, signal.SIGSTOP)
        held = connections([victim])
        self._note(kind, at, self._gone([victim]), held)

    def terminate(self) -> None:
        """As a kubelet does, and wait. What is left at the end of the grace period is reset, as is documented."""
        self.audit()
        self._left_at = time.monotonic()
        self.daemon.process.send_signal(signal.SIGTERM)
        try:
            code = self.daemon.process.wait(GRACE_SECONDS - GRACE_LOOK)
        except subprocess.TimeoutExpired:
            at, held = time.monotonic(), connections(tree(self.pid))
            code = self.daemon.process.wait(PATIENCE)
            self._note(Kind.TERMINATED, at, time.monotonic(), held)
        if code:
            self._history.troubles.append(f"asked to end, it ended with {code}")
        self.end_of_life()

    def _gone(self, pids: Sequence[int]) -> float:
        """When none of them is left; one that stays is told of, and killed."""
        deadline = time.monotonic() + PATIENCE
        while living := [pid for pid in pids if _lives(pid)]:
            if time.monotonic() > deadline:
                self._history.troubles.append(f"processes {living} did not end in {PATIENCE:g} s")
                for pid in living:
                    _send(pid, signal.SIGKILL)
                deadline = math.inf
            time.sleep(0.01)
        return time.monotonic()

    def _note(
        self,
        kind: Kind,
        at: float,
        gone: float,
        held: Sequence[Connection],
        *,
        supervisor: bool = False,
        silent: bool = False,
        waiting: int = 0,
    ) -> None:
        outbound = frozenset(each.remote for each in held if each.local == OUTBOUND)
        inbound = sum(each.local == INBOUND for each in held)
        self._history.kills.append(Killed(kind, at, gone, outbound, inbound, supervisor, silent, waiting))

    def leave(self) -> None:
        """Leave nothing running."""
        if self._daemon is not None:
            for pid in [*tree(self.pid), *self._orphans]:
                _send(pid, signal.SIGKILL)
            self._daemon.process.wait()

    def end_of_life(self) -> None:
        """Keep its last books, and look at its log."""
        self._history.refused.update(self._refused)
        exporters = self._books["exporters"] if self._books else []
        lost_at_shutdown = 0
        for event in self._events():
            name = event.get("event", "")
            self._history.seen[name] += 1
            if name == "records_lost_at_shutdown":
                lost_at_shutdown += event["records_dropped"]
            ours = any(part in name for part in FAULTS) and name not in EXPECTED
            if ours or "exception" in event or "Traceback" in name:
                self._history.troubles.append(f"in the log: {event}")
        for each in exporters:
            self._history.lives.append(
                Life(
                    self._began,
                    time.monotonic(),
                    **{
                        key: each[key]
                        for key in ("captured", "recovered", "accepted", "rejected", "waiting", "spooled")
                    },
                    dropped=each["dropped"],
                    lost_before=sum(self._books["lost_before_the_exporter"].values()) if self._books else 0,
                    lost_at_shutdown=lost_at_shutdown,
                )
            )

    def _events(self) -> list[dict[str, Any]]:
        events = []
        for line in self.daemon.log.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                event = {"event": line}  # a traceback, or cut off by a kill
            events.append(event)
        return events

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self.daemon.process.pid

    @property
    def workers(self) -> list[int]:
        """Relay workers, of all generations."""
        found = []
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):
                if b"sp_proxy.relay" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def signal(self, number: signal.Signals, *pids: int) -> None:
        """Send it to those that live."""
        for pid in pids:
            _send(pid, number)


class Auditor:
    """Reads the books all the time, in a thread. A context manager."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        looks = 0
        while not self._over.wait(LOOK_INTERVAL):
            self._pod.audit()
            looks += 1
            if looks % REFUSAL_LOOKS == 0:
                self._pod.look_at_refusals()


def _waiting(document: Mapping[str, Any]) -> int:
    return sum(each["waiting"] for each in document["exporters"])


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False
