"""The admin server's endpoints, over a view of the daemon: nothing here knows how the daemon works."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sp_proxy.admin.local_only import LocalOnly


@dataclass(frozen=True, slots=True)
class DaemonView:
    """What the admin server may see and ask of the daemon."""

    not_ready: Callable[[], list[str]]
    """Why traffic must not be sent here; empty when it may."""
    failing_open: Callable[[], bool]
    registry: CollectorRegistry
    status: Callable[[], dict[str, Any]]
    """The delivery equation with its numbers; plain data for JSON."""
    settings: Callable[[], dict[str, Any]]
    """Settings in force, secrets masked, and where each came from; plain data for JSON."""
    drain: Callable[[str], None]
    """Begin to drain; takes the cause."""
    reload: Callable[[str], Awaitable[dict[str, Any]]]
    """Read the settings again; takes the cause, gives what came of it as plain data, ``refused`` as its ``result`` included."""


def build_app(view: DaemonView) -> Starlette:
    """The ASGI application."""

    async def live(_request: Request) -> Response:
        # That the event loop came here is the answer: it is the loop that also delivers and restarts.
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        reasons = view.not_ready()
        body = {"ready": not reasons, "reasons": reasons, "failing_open": view.failing_open()}
        return JSONResponse(body, status_code=503 if reasons else 200)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(view.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def status(_request: Request) -> Response:
        return JSONResponse(view.status())

    async def config(_request: Request) -> Response:
        return JSONResponse(view.settings())

    async def reload(_request: Request) -> Response:
        outcome = await view.reload("POST /reload")
        return JSONResponse(outcome, status_code=422 if outcome["result"] == "refused" else 200)

    async def begin_drain() -> None:
        view.drain("POST /drain")

    async def drain(_request: Request) -> Response:
        # In the background: the answer has been sent when the drain begins.
        return JSONResponse({"status": "draining"}, status_code=202, background=BackgroundTask(begin_drain))

    return Starlette(
        routes=[
            Route("/healthz/live", live),
            Route("/healthz/ready", ready),
            Route("/metrics", metrics),
            Route("/status", status),
            Route("/config", config),
            Route("/reload", reload, methods=["POST"]),
            Route("/drain", drain, methods=["POST"]),
        ],
        middleware=[Middleware(LocalOnly)],
    )
