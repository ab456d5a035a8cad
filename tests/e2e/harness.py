"""The real daemon for end-to-end tests: its own process, an unprivileged user, in a network namespace.

    with Namespace("pod") as pod, home() as directory, running_daemon(pod, directory, settings) as daemon:
        ...  # traffic
        daemon.exchange_where(path="/orders")

Leaving the block is a test of its own: what was captured is accounted for, SIGTERM ends the daemon with 0, and the
log has no traceback and no error that was not expected.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.netns import Namespace
from tests.requirements import require_root_tools, unavailable

PROGRAM = str(Path(sys.executable).with_name("sp-proxy"))
DAEMON_UID = 1338
APP_UID = 1000
ADMIN_PORT = 16021
BACKEND_PORT = 4318
TIMEOUT = 30.0
SETTINGS: dict[str, Any] = {
    "service_name": "shop",
    "log": {"level": "debug"},
    "batch": {"flush_timeout": "50ms"},
    "shutdown": {"grace_period": "15s", "flush_timeout": "5s"},
}
"""What every daemon here has, unless told otherwise."""

Metrics = dict[str, float]


def eventually[T](look: Callable[[], T], accept: Callable[[T], bool], what: str, timeout: float = TIMEOUT) -> T:
    """Looks at what another process does, until it is as wanted."""
    deadline = time.monotonic() + timeout
    while not accept(seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {timeout} s: {what}; last seen: {str(seen)[:2000]}")
        time.sleep(0.02)
    return seen


@contextmanager
def home() -> Iterator[Path]:
    """A directory that every user can read, and write: pytest's own are closed to the daemon's user."""
    directory = Path(tempfile.mkdtemp(prefix="sp-proxy-e2e-"))
    directory.chmod(0o777)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def require_daemon(*tools: str) -> None:
    """Root, these tools, and an interpreter that the daemon's user can run."""
    require_root_tools("ip", "setpriv", *tools)
    as_user = ["setpriv", f"--reuid={DAEMON_UID}", f"--regid={DAEMON_UID}", "--clear-groups", PROGRAM, "--version"]
    if subprocess.run(as_user, capture_output=True, cwd="/", check=False).returncode:
        unavailable(f"{PROGRAM} is in a place that only its owner may read")


def get(namespace: Namespace, port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET to the namespace's loopback; 0 when nobody answers."""

    def inside() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError as error:
            return 0, str(error)
        finally:
            connection.close()

    return namespace.call(inside)


def parse_metrics(text: str) -> Metrics:
    """Samples by ``name`` or ``name{labels}``."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def total(metrics: Metrics, name: str, label: str = "") -> float:
    """The sum of a family's samples; with a label (``reason="loop"``), of those that have it."""
    pattern = re.compile(rf"{re.escape(name)}(\{{.*\}})?")
    return sum(value for key, value in metrics.items() if pattern.fullmatch(key) and label in key)


class Daemon:
    """One that runs. Numbers are read through its admin server, exchanges from its embedded backend."""

    def __init__(self, namespace: Namespace, process: "subprocess.Popen[Any]", log: Path, admin_port: int) -> None:
        self.namespace = namespace
        self.process = process
        self._log = log
        self._admin_port = admin_port

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it logged. Its processes write JSON, one object a line; anything else is a fault."""
        return [json.loads(line) for line in self.log.splitlines()]

    def wait_ready(self) -> None:
        def look() -> tuple[int, str]:
            assert self.process.poll() is None, f"exit code {self.process.returncode}\n{self.log}"
            return get(self.namespace, self._admin_port, "/healthz/ready")

        eventually(look, lambda answer: answer[0] == 200, "ready")

    def metrics(self) -> Metrics:
        status, text = get(self.namespace, self._admin_port, "/metrics")
        assert status == 200, text
        return parse_metrics(text)

    def wait_metric(self, name: str, accept: Callable[[float], bool], label: str = "") -> float:
        return eventually(lambda: total(self.metrics(), name, label), accept, f"{name} {label}")

    def reported(self) -> Metrics:
        """Metrics with what the workers have counted up to now: they report once a second."""
        for _ in range(2):  # the first report may have been on its way when we asked
            before = _cpu_seconds(self.metrics())
            eventually(self.metrics, partial(_all_reported_since, before), "a report of every worker")
        return self.metrics()

    @property
    def workers(self) -> list[int]:
        """Process ids of its relay workers."""
        # A child belongs to the thread that started it.
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [int(pid) for each in lists for pid in each.read_text("ascii").split()]
        return [pid for pid in children if b"sp_proxy.relay" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def api(self, path: str, /, **parameters: str) -> Any:
        status, text = get(self.namespace, BACKEND_PORT, f"{path}?{urlencode(parameters)}")
        assert status == 200, text
        return json.loads(text)

    def exchanges(self, **filters: str) -> list[dict[str, Any]]:
        """Summaries, newest first."""
        found: list[dict[str, Any]] = self.api("/api/v1/exchanges", limit="1000", **filters)["exchanges"]
        return found

    def exchange_where(self, **filters: str) -> dict[str, Any]:
        """The one exchange that arrives in the backend, in full."""
        (found,) = eventually(partial(self.exchanges, **filters), bool, f"an exchange with {filters}")
        full: dict[str, Any] = self.api(f"/api/v1/exchanges/{found['span_id']}", trace=found["trace_id"])
        return full

    def settled(self, *, workers_died: bool = False) -> Metrics:
        """Metrics when nothing waits. The delivery equation holds, and no record was lost; but for those which a worker
        took with it when it died, of which nobody but itself had known.
        """
        self.reported()
        metrics = eventually(
            self.metrics, lambda seen: _nothing_waits(seen, workers_died=workers_died), "all records decided"
        )
        captured = total(metrics, "sp_proxy_exchanges_captured_total")
        accepted = total(metrics, "sp_proxy_records_accepted_total")
        lost = {
            name: count
            for name, count in metrics.items()
            if re.search(r"(dropped|rejected|shed)_total", name) and count
        }
        assert captured == accepted, (captured, accepted, lost)
        assert lost == {}
        assert metrics["sp_proxy_delivery_balanced"] == 1
        assert total(metrics, "sp_proxy_worker_tap_faults_total") == 0
        return metrics

    def stop(self, expected_errors: Collection[str] = ()) -> None:
        """SIGTERM; it ends with 0 and its log is clean."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(TIMEOUT) == 0, self.log
        self.check_log(expected_errors)

    def check_log(self, expected_errors: Collection[str] = ()) -> None:
        assert "Traceback" not in self.log, self.log
        wrong = [
            event
            for event in self.events
            if event["level"] in {"warning", "error", "critical"} and event["event"] not in expected_errors
        ]
        assert wrong == [], self.log


def _cpu_seconds(metrics: Metrics) -> Metrics:
    return {name: value for name, value in metrics.items() if name.startswith("sp_proxy_worker_cpu_seconds{")}


def _all_reported_since(before: Metrics, now: Metrics) -> bool:
    """Reporting itself takes processor time. A worker that has died meanwhile has nothing to say."""
    return all(now.get(name) != value for name, value in before.items())


def _nothing_waits(metrics: Metrics, *, workers_died: bool) -> bool:
    captured = total(metrics, "sp_proxy_worker_captured_total")
    captured -= total(metrics, "sp_proxy_channel_records_dropped_total")
    complete = workers_died or captured == total(metrics, "sp_proxy_exchanges_captured_total")
    return complete and not any(value for name, value in metrics.items() if name.startswith("sp_proxy_records_waiting"))


def write_config(directory: Path, settings: Mapping[str, Any]) -> Path:
    """The configuration file, with a place for the spool."""
    path = directory / "sp_proxy.yaml"
    defaults = {"spool": {"directory": str(directory / "spool")}}
    path.write_text(yaml.safe_dump({**defaults, **settings}), "utf-8")
    path.chmod(0o644)
    return path


def launch(
    namespace: Namespace,
    directory: Path,
    config: Path,
    *,
    user: int = DAEMON_UID,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    admin_port: int = ADMIN_PORT,
) -> Daemon:
    """Starts it with an environment of nothing but PATH and ``environ``: without HOME above all."""
    variables = {"PATH": os.environ["PATH"], **(environ or {})}
    clean = ["env", "-i", f"--chdir={cwd or directory}", *(f"{name}={value}" for name, value in variables.items())]
    log = directory / f"daemon-{admin_port}.log"
    with log.open("wb") as stderr:
        process = namespace.popen(
            *clean, PROGRAM, "run", "--config", str(config), user=user, stdout=stderr, stderr=stderr
        )
    return Daemon(namespace, process, log, admin_port)


@contextmanager
def running_daemon(
    namespace: Namespace,
    directory: Path,
    settings: Mapping[str, Any],
    *,
    expected_errors: Collection[str] = (),
    workers_die: bool = False,
) -> Iterator[Daemon]:
    """One with the embedded backend, once it is ready; see the module's text for how it ends."""
    config = write_config(
        directory,
        {**SETTINGS, "backend": {"enabled": True, "database": str(directory / "spans.sqlite3")}, **settings},
    )
    daemon = launch(namespace, directory, config)
    try:
        daemon.wait_ready()
        yield daemon
        daemon.settled(workers_died=workers_die)
        daemon.stop(expected_errors)
    except BaseException:
        print(daemon.log)  # pytest shows it with the failure
        raise
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def netfilter(namespace: Namespace, config: Path, action: str, *arguments: str) -> str:
    """``sp-proxy netfilter`` inside, as root. Returns what it printed."""
    return namespace.run(PROGRAM, "netfilter", action, "--config", str(config), *arguments).stdout
