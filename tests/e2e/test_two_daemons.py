"""Two daemons of one user with the same spool directory: one has it, the other one says so, works from memory, and harms
no traffic.
"""

import signal
from pathlib import Path

import httpx
import trio

from tests.misbehaving_backend import open_backend
from tests.supervisor.daemon import REAL, TIMEOUT, Daemon, running_daemon

REQUESTS = 20
DEGRADED = 'sp_proxy_spool_degraded{exporter="softprobe"}'


async def exchange(daemon: Daemon) -> None:
    """Exchanges through a daemon, all of which work."""
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
        for _ in range(REQUESTS):
            assert (await client.get(f"http://127.0.0.1:{daemon.port}/")).status_code == 200


async def books(daemon: Daemon) -> dict[str, int]:
    document = (await daemon.get("/status")).json()
    assert document["balanced"]
    (exporter,) = document["exporters"]
    return {name: exporter[name] for name in ("captured", "recovered", "accepted", "waiting", "spooled")}


async def until(daemon: Daemon, **wanted: int) -> None:
    with trio.fail_after(TIMEOUT):
        while not wanted.items() <= (await books(daemon)).items():  # noqa: ASYNC110  # another process counts
            await trio.sleep(0.05)


async def test_one_spool_for_two_daemons(tmp_path: Path):
    async with open_backend() as upstream, open_backend() as backend:
        await backend.go_down()
        settings = {
            "sp_backend_url": backend.url,
            "spool": {"directory": str(tmp_path / "spool"), "overflow_after": "20ms"},
            "batch": {"flush_timeout": "20ms"},
            "retry": {"initial_interval": "100ms", "max_interval": "200ms"},
            "relay": {"workers": 1},
            "collectionRules": {"http": {"server": [{"path": ".*"}]}},
        }
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        target = upstream.url.removeprefix("http://")
        async with running_daemon(target, settings, directory=tmp_path / "one", command=REAL) as first:
            await exchange(first)
            await until(first, captured=REQUESTS)
            await first.metric_becomes('sp_proxy_spool_entries{exporter="softprobe"}', lambda value: value > 0)
            async with running_daemon(target, settings, directory=tmp_path / "two", command=REAL) as second:
                told = await second.logged("spool_degraded")
                assert told["level"] == "warning"
                assert (
                    f"in use by process {first.process.pid}; each daemon needs a spool.directory of its own"
                    in (told["reason"])
                )
                await exchange(second)
                await until(second, captured=REQUESTS, waiting=REQUESTS)
                assert await second.metric(DEGRADED) == 1
                assert await first.metric(DEGRADED) == 0
                # The first one ends in order; at its own end the second one takes the directory and stores what it has.
                first.signal(signal.SIGTERM)
                assert await first.ended() == 0
                second.signal(signal.SIGTERM)
                assert await second.ended() == 0
        await backend.come_up()
        async with running_daemon(target, settings, directory=tmp_path / "one", command=REAL) as third:
            await until(third, recovered=2 * REQUESTS, accepted=2 * REQUESTS)
    assert len({span.span_id for span in backend.spans}) == 2 * REQUESTS
