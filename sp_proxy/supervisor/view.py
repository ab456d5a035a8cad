"""What the admin server sees of the daemon: snapshots, made when it asks."""

from collections.abc import Callable
from typing import Any

from sp_proxy.admin.app import DaemonView
from sp_proxy.admin.metrics import EngineStats, SupervisorStats, build_registry
from sp_proxy.admin.status import status_document
from sp_proxy.exporter.stats import ExporterStats
from sp_proxy.settings.load import Loaded
from sp_proxy.settings.masking import masked
from sp_proxy.supervisor.capture import Capture
from sp_proxy.supervisor.engine import Engine
from sp_proxy.supervisor.failopen import FailOpen
from sp_proxy.supervisor.readiness import Readiness
from sp_proxy.supervisor.workers import Workers


def daemon_view(
    loaded: Loaded,
    readiness: Readiness,
    workers: Workers,
    failopen: FailOpen,
    capture: Capture,
    drain: Callable[[str], None],
    engine: Engine | None = None,
) -> DaemonView:
    """Join the daemon's parts for the admin server."""

    def read() -> tuple[SupervisorStats, ExporterStats]:
        stats = SupervisorStats(
            workers=workers.count,
            workers_ready=workers.restarts.ready_count,
            worker_restarts=workers.restart_total,
            failing_open=failopen.active,
            failopen_connections=failopen.connections,
            failopen_connections_total=failopen.connection_total,
            failopen_refused_total=failopen.refused_total,
            draining=workers.draining,
            exporter_running=capture.running,
            engine=_engine_stats(engine),
        )
        return stats, capture.exporter.stats()

    def settings() -> dict[str, Any]:
        return {"settings": masked(loaded.settings), "origins": dict(loaded.origins)}

    return DaemonView(
        not_ready=lambda: readiness.reasons,
        failing_open=lambda: failopen.active,
        registry=build_registry(read),
        status=lambda: status_document(*read()),
        settings=settings,
        drain=drain,
    )


def _engine_stats(engine: Engine | None) -> EngineStats | None:
    if engine is None:
        return None
    return EngineStats(
        state=engine.state,
        workers=len(engine.pids),
        restarts=engine.restart_total,
        replacements=engine.replacement_total,
        diverted=engine.diverted_total,
    )
