"""Faults of our own in the exporter of a real daemon: the traffic goes on, what failed is begun again, what was lost is
counted, and the metrics say so.
"""

import signal
import sys
from pathlib import Path

import httpx
import pytest
import trio

from tests.misbehaving_backend import open_backend
from tests.supervisor.daemon import TIMEOUT, Daemon, running_daemon

FAULTY = (sys.executable, str(Path(__file__).parent.parent / "supervisor" / "faulty_daemon.py"))
REQUESTS = 30
STAGES = {"next": "encode", "lease": "delivery:softprobe", "keep": "queue:softprobe"}
"""Which stage a fault ends, again and again."""


async def exchange(client: httpx.AsyncClient, daemon: Daemon, count: int = REQUESTS) -> None:
    """So many exchanges through the daemon, all of which work."""
    for _ in range(count):
        answer = await client.get(f"http://127.0.0.1:{daemon.port}/")
        assert answer.status_code == 200


async def books(daemon: Daemon) -> dict[str, int]:
    """What ``sp-proxy status`` is told of the one exporter; they balance at any time."""
    document = (await daemon.get("/status")).json()
    assert document["balanced"]
    (exporter,) = document["exporters"]
    return {
        "captured": exporter["captured"],
        "accepted": exporter["accepted"],
        "dropped": exporter["dropped"].get("internal_error", 0),
        "other": sum(exporter["dropped"].values()) - exporter["dropped"].get("internal_error", 0),
    }


async def until_lost(daemon: Daemon) -> None:
    with trio.fail_after(TIMEOUT):
        while not (await books(daemon))["dropped"]:  # noqa: ASYNC110  # another process counts
            await trio.sleep(0.05)


async def until_decided(daemon: Daemon, captured: int) -> dict[str, int]:
    with trio.fail_after(TIMEOUT):
        while True:
            found = await books(daemon)
            if found["captured"] == captured == found["accepted"] + found["dropped"] + found["other"]:
                return found
            await trio.sleep(0.05)


@pytest.mark.parametrize("fault", ["next", "append", "lease", "keep", "thread"])
async def test_a_fault_in_the_exporter(fault: str, tmp_path: Path):
    until = tmp_path / "until"
    settings = {
        "batch": {"flush_timeout": "20ms"},
        "spool": {"mode": "always" if fault == "keep" else "overflow", "directory": str(tmp_path / "spool")},
        "relay": {"workers": 1},
        "collectionRules": {"http": {"server": [{"path": ".*"}]}},
    }
    async with open_backend() as upstream, open_backend() as backend:
        settings["sp_backend_url"] = backend.url
        async with (
            running_daemon(
                upstream.url.removeprefix("http://"),
                settings,
                directory=tmp_path,
                command=FAULTY,
                environ={"FAULT": fault, "FAULT_UNTIL": str(until)},
            ) as daemon,
            httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client,
        ):
            await exchange(client, daemon)
            assert await until_decided(daemon, REQUESTS) == {
                "captured": REQUESTS,
                "accepted": REQUESTS,
                "dropped": 0,
                "other": 0,
            }
            assert await daemon.metric("sp_proxy_exporter_running") == 1
            until.touch()
            await exchange(client, daemon)
            if fault in STAGES:
                name = f'sp_proxy_exporter_faults_total{{stage="{STAGES[fault]}"}}'
                line = await daemon.logged("exporter_stage_failed")
                assert "a planted fault" in line["exception"]
                await daemon.metric_becomes("sp_proxy_exporter_running", lambda value: value == 0)
                assert await daemon.metric(name) >= 1
            else:
                await until_lost(daemon)
            await exchange(client, daemon)
            until.unlink()
            await daemon.metric_becomes("sp_proxy_exporter_running", lambda value: value == 1)
            await exchange(client, daemon)
            decided = await until_decided(daemon, 4 * REQUESTS)
            assert decided["other"] == 0
            if fault in STAGES:  # what waited for the stage is delivered
                assert decided["dropped"] == 0
            else:
                assert REQUESTS <= decided["dropped"] <= 2 * REQUESTS
            assert await daemon.metric("sp_proxy_delivery_balanced") == 1
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
    assert len(backend.spans) == decided["accepted"]
    assert not [line for line in daemon.log if line["event"] in {"exporter_failed", "worker_died"}]
