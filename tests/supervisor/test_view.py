"""What the admin server sees, on parts that have not started."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from prometheus_client.exposition import generate_latest

from sp_proxy.admin.app import DaemonView
from sp_proxy.exporter.pipeline import Exporter
from sp_proxy.relay.loop_guard import LoopGuard
from sp_proxy.settings.source import Source
from sp_proxy.supervisor.blueprint import make_blueprint
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.engine import Engine
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.generation import RELAY_COMMAND
from sp_proxy.supervisor.guard_table import GuardTable
from sp_proxy.supervisor.pass_through import PassThrough
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.reload import Parts, Reloader
from sp_proxy.supervisor.view import daemon_view
from sp_proxy.supervisor.workers import Workers


@contextmanager
def still_parts(path: Path | None, flags: Mapping[str, Any]) -> Iterator[tuple[Reloader, Parts]]:
    """All of a daemon, nothing of it running."""
    source = Source(path, {"SP_PROXY_PUBLIC_KEY": "s3cret"}, flags)
    loaded = source.load()
    blueprint = make_blueprint(loaded, {})
    capture = Capture(Exporter(loaded.settings))
    with GuardTable() as table:
        engine = Engine(blueprint.engine_plan(), table, capture.attach, PassThrough(LoopGuard()).serve)
        try:
            plan = blueprint.worker_plan(RELAY_COMMAND, engine.descriptors)
            workers = Workers(plan, [], table, capture.attach)
            failopen = FailOpen(workers, [], LoopGuard())
            reloader = Reloader(source, {}, blueprint)
            yield reloader, Parts(workers, engine, failopen, capture, [], RELAY_COMMAND)
        finally:
            engine.close()


def text_of(view: DaemonView) -> str:
    return generate_latest(view.registry).decode()


async def test_it_joins_the_parts_as_they_are_at_the_moment():
    readiness = Readiness(["exporter"])
    causes: list[str] = []
    with still_parts(None, {"relay.workers": "3"}) as (reloader, parts):
        view = daemon_view(reloader, readiness, parts, causes.append)

        assert view.not_ready() == ["waiting for: exporter"]
        readiness.release("exporter")
        assert view.not_ready() == []
        assert view.failing_open() is False
        parts.failopen.active = True
        assert view.failing_open() is True
        view.drain("because")
        assert causes == ["because"]

        text = text_of(view)
        assert "sp_proxy_relay_workers 3.0" in text
        assert "sp_proxy_exporter_running 0.0" in text
        assert "sp_proxy_mitm_state" not in text
        parts.workers.restarts.ready(1)
        assert "sp_proxy_relay_workers_ready 1.0" in text_of(view)

        shown = view.settings()
        assert shown["settings"]["relay"]["workers"] == 3
        assert shown["origins"]["relay.workers"] == "--set"
        assert shown["origins"]["public_key"] == "SP_PROXY_PUBLIC_KEY"
        assert "s3cret" not in str(shown)
    await trio.lowlevel.checkpoint()


async def test_it_tells_of_the_mitmproxy_worker_s_keeper():
    with still_parts(None, {"data_path": "mitmproxy"}) as (reloader, parts):
        view = daemon_view(reloader, Readiness([]), parts, lambda _: None)
        assert 'sp_proxy_mitm_state{state="waiting"} 1.0' in text_of(view)


async def test_it_tells_of_reloads_and_shows_what_is_in_force(tmp_path):
    path = tmp_path / "sp_proxy.yaml"
    path.write_text("strict: raw\n")
    with still_parts(path, {}) as (reloader, parts):
        view = daemon_view(reloader, Readiness([]), parts, lambda _: None)
        text = text_of(view)
        assert 'sp_proxy_config_reloads_total{result="refused"} 0.0' in text
        assert "sp_proxy_config_last_reload_successful 1.0" in text
        answer = await view.reload("a test")
        assert (answer["result"], answer["problems"]) == ("refused", ["the daemon is starting"])
        text = text_of(view)
        assert 'sp_proxy_config_reloads_total{result="refused"} 1.0' in text
        assert "sp_proxy_config_last_reload_successful 0.0" in text
        assert view.status()["reload_refused"] == ["the daemon is starting"]
        reloader.blueprint = make_blueprint(Source(path, {}, {"public_key": "k", "strict": "reject"}).load(), {})
        assert view.settings()["settings"]["strict"] == "reject"
