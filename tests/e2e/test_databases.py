"""Databases behind real redirect rules, spoken to by their own clients: their bytes pass unread and at once, and the connections are
counted by the port they went to. Nothing of them is recorded.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import eq
from pathlib import Path

import pytest

from tests.e2e.conftest import DETECT_TIMEOUT, Site
from tests.e2e.harness import APP_UID, eventually, home
from tests.netns import Namespace
from tests.requirements import require_root_tools

POSTGRES_PORT = 15432
REDIS_PORT = 16379
EVERY_WAY = [(direction, family) for direction in ("inbound", "outbound") for family in (4, 6)]
RAW = "sp_proxy_worker_raw_connections_total"


@contextmanager
def postgres(namespace: Namespace, directory: Path) -> Iterator[None]:
    """Debian's, with a new cluster, as the application's user; everybody may come in as its owner."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    directory.mkdir()
    os.chown(directory, APP_UID, APP_UID)
    data = str(directory / "data")
    namespace.run(
        *(str(programs / "initdb"), "--pgdata", data, "--auth=trust", "--username=shop", "--no-sync", "--locale=C"),
        user=APP_UID,
        timeout=60,
    )
    (directory / "data" / "pg_hba.conf").write_text("host all all all trust\n")
    with (directory / "log").open("wb") as log:
        process = namespace.popen(
            *(str(programs / "postgres"), "-D", data, "-p", str(POSTGRES_PORT), "-h", "*", "-k", "", "-F"),
            user=APP_UID,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(
            lambda: namespace.run(*psql("127.0.0.1"), "--command=SELECT 1", check=False).returncode,
            lambda code: code == 0,
            "PostgreSQL answers",
        )
        yield
    finally:
        process.terminate()
        process.wait()


def psql(host: str) -> list[str]:
    options = ["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1"]
    return ["psql", *options, f"--host={host}", f"--port={POSTGRES_PORT}", "--username=shop", "postgres"]


def redis_cli(host: str) -> list[str]:
    return ["redis-cli", "-h", host, "-p", str(REDIS_PORT)]


@contextmanager
def redis(namespace: Namespace, directory: Path) -> Iterator[None]:
    """Debian's, without persistence, as the application's user."""
    directory.mkdir()
    os.chown(directory, APP_UID, APP_UID)
    with (directory / "log").open("wb") as log:
        process = namespace.popen(
            *("redis-server", "--port", str(REDIS_PORT), "--bind", "0.0.0.0", "::", "--protected-mode", "no"),
            *("--save", "", "--dir", str(directory)),
            user=APP_UID,
            stdout=log,
            stderr=log,
        )
    try:
        ask = (*redis_cli("127.0.0.1"), "ping")
        eventually(lambda: namespace.run(*ask, check=False).stdout, lambda said: said == "PONG\n", "Redis answers")
        yield
    finally:
        process.terminate()
        process.wait()


@dataclass
class Databases:
    """Both, on both sides of the site; ``connections``: how many have been made through the daemon, by port."""

    site: Site
    connections: Counter[int] = field(default_factory=Counter)

    def run(self, direction: str, family: int, port: int, command: Callable[[str], Sequence[str]], said: str) -> str:
        """What a client prints that is told this on its standard input. It waits for nothing."""
        near, far = self.site.ends(direction)
        begun = time.monotonic()
        done = near.run(*command(far.ipv4 if family == 4 else far.ipv6), stdin=said)
        assert time.monotonic() - begun < DETECT_TIMEOUT
        self.connections[port] += 1
        return done.stdout


@pytest.fixture(scope="module")
def databases(site: Site) -> Iterator[Databases]:
    require_root_tools("psql", "redis-cli", "redis-server")
    site.redirect("nft")
    with home() as directory, ExitStack() as stack:
        for name, namespace in (("pod", site.pod), ("outside", site.outside)):
            stack.enter_context(postgres(namespace, directory / f"{name}-postgres"))
            stack.enter_context(redis(namespace, directory / f"{name}-redis"))
        yield Databases(site)


@pytest.mark.parametrize("direction, family", EVERY_WAY)
def test_postgresql(databases: Databases, direction: str, family: int):
    assert databases.run(direction, family, POSTGRES_PORT, psql, "SELECT 'tea'") == "tea\n"
    script = """
        CREATE TEMPORARY TABLE orders AS SELECT n, repeat('tea', 1000) AS what FROM generate_series(1, 2000) AS n;
        COPY orders TO STDOUT;
        INSERT INTO orders VALUES (0, 'last');
        SELECT sum(length(what)), max(n) FROM orders;
    """
    *rows, last = databases.run(direction, family, POSTGRES_PORT, psql, script).splitlines()
    assert last == f"{2000 * 3000 + 4}|2000"
    assert rows == [f"{number}\t{'tea' * 1000}" for number in range(1, 2001)]


@pytest.mark.parametrize("direction, family", EVERY_WAY)
def test_redis(databases: Databases, direction: str, family: int):
    commands = [
        *("SET tea 7", "INCR tea"),
        *(f"RPUSH cups {number}" for number in range(200)),
        *("LRANGE cups 0 -1", "FLUSHALL"),
    ]
    said = databases.run(direction, family, REDIS_PORT, redis_cli, "\n".join(commands) + "\n").split()
    assert said[:2] == ["OK", "8"]
    assert said[2:202] == [str(number) for number in range(1, 201)]
    assert said[202:402] == [str(number) for number in range(200)]
    assert said[402:] == ["OK"]


def test_they_are_counted_by_port_and_not_recorded(databases: Databases):
    daemon = databases.site.daemon
    for port, count in databases.connections.items():
        daemon.wait_metric(RAW, partial(eq, count), f'port="{port}",reason="not_http"')
    ports = {str(port) for port in databases.connections}
    assert [each for each in daemon.exchanges() if each["host"].rpartition(":")[2] in ports] == []
