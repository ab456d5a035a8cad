"""The ASGI application: routes, the guard before them, and errors as each kind of client expects them."""

from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sp_proxy.backend.api import Api, error_answer, json_answer
from sp_proxy.backend.cors import cors_headers, is_preflight
from sp_proxy.backend.daemons import Daemons
from sp_proxy.backend.guard import Guard, Refusal
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.intake import Intake
from sp_proxy.backend.model import StoreError
from sp_proxy.backend.openapi import document
from sp_proxy.backend.page import SECURITY_HEADERS, Page
from sp_proxy.backend.parameters import ParameterError
from sp_proxy.backend.store import BadCursorError, Store

INTAKE = ("/v1/traces", "/v1/logs")
HEALTH = "/healthz"
API = "/api/v1"
"""The version changes when an answer is no longer what it was; what is only added changes nothing."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def build_app(
    store: Store, hub: Hub, guard: Guard, *, max_request_size: int, daemons: Daemons | None = None
) -> Starlette:
    """The application on a store."""
    api, page = Api(store, hub, daemons or Daemons([])), Page()
    intake = Intake(store, hub, guard, max_request_size=max_request_size)
    routes = [
        Route("/v1/traces", intake.traces, methods=["POST"]),
        Route("/v1/logs", intake.logs, methods=["POST"]),
        # Content goes out here, so whoever may only send may not ask: the guard wants what it wants of the API.
        Route("/v1/inject", intake.inject, methods=["POST"]),
        *(Route(API + path, handler, methods=["GET"]) for path, handler in addresses(api)),
        Route(HEALTH, _healthy, methods=["GET"]),
        *(Route(path, page.file, methods=["GET"]) for path in page.paths),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(_Guarded, guard=guard, pages=frozenset(page.paths))],
        exception_handlers={
            ParameterError: _explained(400),
            BadCursorError: _wrong_cursor,
            StoreError: _explained(503),
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False
    return app


def addresses(api: Api) -> list[tuple[str, Callable[[Request], Awaitable[Response]]]]:
    """The addresses of the API, without the prefix, and who answers."""
    return [
        ("/exchanges", api.exchanges),
        ("/exchanges/{span_id}", api.exchange),
        ("/spans/{span_id}", api.span),
        ("/traces", api.traces),
        ("/traces/{trace_id}", api.trace),
        ("/sessions", api.sessions),
        ("/sessions/{session_id:path}", api.session),
        ("/map", api.service_map),
        ("/logs", api.logs),
        ("/stats", api.stats),
        ("/daemons", api.daemons),
        ("/live", api.live),
        ("/export/{format}", api.export),
        ("/openapi.json", _described),
    ]


async def _described(_request: Request) -> Response:
    return json_answer(document(API))


async def _healthy(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


def _explained(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        return error_answer(status, str(error))

    return answer


async def _wrong_cursor(_request: Request, _error: Exception) -> Response:
    return error_answer(400, "before: not a cursor; allowed: the value of `next` of the page before")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    message = {
        404: f"there is nothing at {path}",
        405: f"{request.method[:32]} is not allowed here",
    }.get(error.status_code, error.detail)
    return error_answer(error.status_code, message, error.headers)


async def _unexpected(request: Request, _error: Exception) -> Response:
    return error_answer(500, f"{request.url.path[:200]} failed, see the log")


class _Guarded:
    """Asks the guard before every request, and puts the security headers on every response."""

    def __init__(self, app: ASGIApp, guard: Guard, pages: frozenset[str]) -> None:
        self._app = app
        self._guard = guard
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        request = Request(scope)
        more = SECURITY_HEADERS | cors_headers(self._guard, request.headers)

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode("latin-1")) for name, value in more.items()]
                message = {**message, "headers": [*message.get("headers", ()), *extra]}
            await send(message)

        refusal = self._refusal(request)
        if refusal is None and is_preflight(request.method, request.headers):
            await Response(status_code=204)(scope, receive, send_secured)
            return
        if refusal is None:
            await self._app(scope, receive, send_secured)
            return
        headers = {"www-authenticate": 'Basic realm="sp_proxy", charset="UTF-8"'} if refusal.status == 401 else None
        await error_answer(refusal.status, refusal.message, headers)(scope, receive, send_secured)

    def _refusal(self, request: Request) -> Refusal | None:
        path = request.url.path
        if path == HEALTH:
            return None
        if is_preflight(request.method, request.headers):
            # It carries no token: the request that follows does.
            return self._guard.refuse_foreign(request.method, request.headers, navigation=False)
        if path in INTAKE:
            return self._guard.refuse_intake(request.method, request.headers)
        return self._guard.refuse_page(request.method, request.headers, navigation=path in self._pages)
