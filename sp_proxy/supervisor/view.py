"""What the admin server sees of the daemon: snapshots, made when it asks."""

from collections.abc import Callable
from typing import Any

from sp_proxy.admin.app import DaemonView
from sp_proxy.admin.metrics import EngineStats, ReloadStats, SupervisorStats, build_registry
from sp_proxy.admin.status import status_document
from sp_proxy.exporter.stats import ExporterStats
from sp_proxy.settings.masking import masked
from sp_proxy.supervisor.engine import Engine
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.reload import Parts, Reloader


def daemon_view(reloader: Reloader, readiness: Readiness, parts: Parts, drain: Callable[[str], None]) -> DaemonView:
    """Join the daemon's parts for the admin server."""
    workers, failopen, capture = parts.workers, parts.failopen, parts.capture

    def read() -> tuple[SupervisorStats, ExporterStats]:
        exporter = capture.stats()
        stats = SupervisorStats(
            workers=workers.count,
            workers_ready=workers.restarts.ready_count,
            worker_restarts=workers.restart_total,
            failing_open=failopen.active,
            failopen_connections=failopen.connections,
            failopen_connections_total=failopen.connection_total,
            failopen_refused_total=failopen.refused_total,
            draining=workers.draining,
            exporter_running=capture.running and not exporter.down,
            workers_retired=workers.retired,
            reload=_reload_stats(reloader),
            engine=_engine_stats(parts.engine),
        )
        return stats, exporter

    def settings() -> dict[str, Any]:
        loaded = reloader.blueprint.loaded
        return {"settings": masked(loaded.settings), "origins": dict(loaded.origins)}

    async def reload(cause: str) -> dict[str, Any]:
        outcome = await reloader.reload(cause)
        return {
            "result": outcome.result,
            "changed": list(outcome.changed),
            "problems": list(outcome.problems),
            "notes": list(outcome.notes),
            "workers_replaced": outcome.workers_replaced,
        }

    return DaemonView(
        not_ready=lambda: readiness.reasons,
        failing_open=lambda: failopen.active,
        registry=build_registry(read),
        status=lambda: status_document(*read()),
        settings=settings,
        drain=drain,
        reload=reload,
    )


def _reload_stats(reloader: Reloader) -> ReloadStats:
    last = reloader.last
    return ReloadStats(
        results={"applied": 0, "unchanged": 0, "refused": 0} | reloader.results,
        last_refused=last is not None and last.result == "refused",
        last_success_unix=reloader.last_success_unix,
        problems=last.problems if last is not None else (),
    )


def _engine_stats(engine: Engine) -> EngineStats | None:
    if not engine.needed and not engine.pids:
        return None
    return EngineStats(
        state=engine.state,
        workers=len(engine.pids),
        restarts=engine.restart_total,
        replacements=engine.replacement_total,
        diverted=engine.diverted_total,
    )
