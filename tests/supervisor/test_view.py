"""What the admin server sees, on parts that have not started."""

import os
from collections.abc import Iterator

import pytest
import trio
from prometheus_client.exposition import generate_latest

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.settings.engine import mitm_config
from sp_proxy.settings.load import load
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.engine import Engine, EnginePlan
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.pass_through import PassThrough
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.run import worker_config
from sp_proxy.supervisor.view import daemon_view
from sp_proxy.supervisor.workers import WorkerPlan, Workers


@pytest.fixture
def table() -> Iterator[GuardTable]:
    with GuardTable() as table:
        yield table


async def test_it_joins_the_parts_as_they_are_at_the_moment(table: GuardTable):
    loaded = load(None, {"SP_PROXY_PUBLIC_KEY": "s3cret"}, {"relay.workers": "3"})
    readiness = Readiness(["exporter"])
    capture = Capture(Exporter(loaded.settings))
    config = worker_config(loaded.settings, os.environ)
    workers = Workers(WorkerPlan(3, config, policy=RestartPolicy()), [], table, capture.attach)
    failopen = FailOpen(workers, [], LoopGuard())
    causes: list[str] = []
    view = daemon_view(loaded, readiness, workers, failopen, capture, causes.append)

    assert view.not_ready() == ["waiting for: exporter"]
    readiness.release("exporter")
    assert view.not_ready() == []
    assert view.failing_open() is False
    failopen.active = True
    assert view.failing_open() is True
    view.drain("because")
    assert causes == ["because"]

    text = generate_latest(view.registry).decode()
    assert "sp_proxy_relay_workers 3.0" in text
    assert "sp_proxy_exporter_running 0.0" in text
    workers.restarts.ready(1)
    assert "sp_proxy_relay_workers_ready 1.0" in generate_latest(view.registry).decode()

    shown = view.settings()
    assert shown["settings"]["relay"]["workers"] == 3
    assert shown["origins"]["relay.workers"] == "--set"
    assert shown["origins"]["public_key"] == "SP_PROXY_PUBLIC_KEY"
    assert "s3cret" not in str(shown)
    await trio.lowlevel.checkpoint()


def test_what_a_worker_is_told_comes_from_the_settings():
    loaded = load(
        None,
        {},
        {
            "sp_backend_url": "http://127.0.0.1:9",
            "service_name": "orders",
            "strict": "reject",
            "capture.max_body_size": "1KiB",
            "shutdown.grace_period": "3s",
            "detect_timeout": "50ms",
        },
    )
    config = worker_config(loaded.settings, {})
    assert config.headers.service_name == "orders"
    assert (config.strict, config.max_body_size, config.grace_period, config.detect_timeout) == (
        "reject",
        1024,
        3.0,
        0.05,
    )
    assert config.max_head_size == loaded.settings.relay.max_head_size
    assert config.buffer_size == loaded.settings.relay.buffer_size


async def test_it_tells_of_the_mitmproxy_worker_s_keeper(table: GuardTable):
    loaded = load(None, {"SP_PROXY_PUBLIC_KEY": "s3cret"}, {"data_path": "mitmproxy"})
    capture = Capture(Exporter(loaded.settings))
    workers = Workers(WorkerPlan(1, worker_config(loaded.settings, os.environ)), [], table, capture.attach)
    failopen = FailOpen(workers, [], LoopGuard())
    engine = Engine(
        EnginePlan(mitm_config(loaded.settings, {})), [], table, capture.attach, PassThrough(LoopGuard()).serve
    )
    try:
        view = daemon_view(loaded, Readiness([]), workers, failopen, capture, lambda _: None, engine)
        assert 'sp_proxy_mitm_state{state="waiting"} 1.0' in generate_latest(view.registry).decode()
    finally:
        engine.close()
