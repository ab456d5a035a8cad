"""The backend as one task: refuse what is unsafe, bind, open the store, serve, expire; all of it ends with the task."""

import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog
import trio
from pydantic import SecretStr

from sp_proxy.backend.app import build_app
from sp_proxy.backend.daemons import Daemons
from sp_proxy.backend.guard import Guard, only_loopback
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.model import BackendError, StoreError
from sp_proxy.backend.server import run_server
from sp_proxy.backend.sqlite.store import open_store
from sp_proxy.backend.store import Keep, Store
from sp_proxy.settings.backend import Backend
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.sockets import BindError, bind_address

EXPIRE_INTERVAL = 10.0
"""Seconds between two looks at age and size."""
EXPIRE_SLACK = 3600.0
"""Seconds that rows stay on ClickHouse beyond their time: it removes many at the cost of few, and few at the cost of many."""

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def serve(
    settings: Backend,
    *,
    sockets: Sequence[socket.socket] | None = None,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the backend until cancelled. ``task_status`` gets the URL once requests are accepted.

    ``sockets`` are listening sockets to use instead of ``settings.listen``; they are closed at the end, however it
    comes. Raises BackendError, one line, when it cannot start: before anything is answered.
    """
    bound = bind(settings) if sockets is None else list(sockets)
    try:
        addresses = [str(sock.getsockname()[0]) for sock in bound]
        guard = Guard(
            loopback=only_loopback(addresses),
            token=settings.token.get_secret_value(),
            public_keys=tuple(key.get_secret_value() for key in accepted_keys(settings)),
            allowed_origins=frozenset(settings.allowed_origins),
        )
        if not guard.loopback and not guard.token:
            raise BackendError(
                f"backend.token: required, since the backend listens on {_foreign(addresses)}"
                " (set a token, or listen on 127.0.0.1)"
            )
        async with open_engine(settings) as store, trio.open_nursery() as nursery:
            hub = Hub()
            daemons = Daemons(settings.daemons)
            app = build_app(store, hub, guard, max_request_size=settings.max_request_size, daemons=daemons)
            nursery.start_soon(_expire, store, settings)
            await nursery.start(partial(run_server, app, bound, on_stop=hub.close))
            url = url_of(bound[0])
            log.info("backend_listening", url=url, database=database_name(settings))
            task_status.started(url)
    finally:
        for sock in bound:
            sock.close()


def bind(settings: Backend) -> list[socket.socket]:
    """Listening sockets for ``settings.listen``. Raises BackendError."""
    try:
        return bind_address("backend.listen", settings.listen)
    except BindError as error:
        raise BackendError(str(error)) from error


def url_of(sock: socket.socket) -> str:
    """Where a browser on this machine finds a listening socket."""
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://{Address(host, port)}"


def _foreign(addresses: Sequence[str]) -> str:
    return next(address for address in addresses if not only_loopback([address]))


def database_name(settings: Backend) -> str:
    """Where things are stored, for a person."""
    if settings.engine == "sqlite":
        return settings.database
    return f"{settings.clickhouse.database} on {settings.clickhouse.url}"


@asynccontextmanager
async def open_engine(settings: Backend) -> AsyncIterator[Store]:
    """The store on the configured engine. Raises BackendError."""
    if settings.engine == "sqlite":
        async with open_store(settings.database, max_bytes=settings.max_database_size) as store:
            yield store
        return
    try:
        from sp_proxy.backend.clickhouse import connect  # noqa: PLC0415 - an extra
        from sp_proxy.backend.clickhouse import store as engine  # noqa: PLC0415
    except ImportError as error:
        raise BackendError(
            "backend.engine: clickhouse needs clickhouse-connect: install sp-proxy[clickhouse]"
        ) from error
    own = {tenant.public_key.get_secret_value(): tenant.retention for tenant in settings.tenants}
    async with engine.open_store(
        connect.connector(settings.clickhouse),
        connect.place_of(settings.clickhouse),
        retention=lambda tenant: own.get(tenant, settings.retention),
        slack=EXPIRE_SLACK,
    ) as clickhouse:
        yield clickhouse


def accepted_keys(settings: Backend) -> list[SecretStr]:
    """The allow-list of ``x-public-key``; empty when there is none."""
    return [*settings.public_keys, *(tenant.public_key for tenant in settings.tenants)]


def keep_of(settings: Backend, now_unix_ns: int) -> Keep:
    """What is kept at a moment."""
    return Keep(
        received_since_unix_ns=now_unix_ns - int(settings.retention * 1e9),
        max_bytes=settings.max_database_size,
        tenants={
            tenant.public_key.get_secret_value(): now_unix_ns - int(tenant.retention * 1e9)
            for tenant in settings.tenants
        },
    )


async def _expire(store: Store, settings: Backend) -> None:
    while True:
        try:
            removed = await store.expire(keep_of(settings, time.time_ns()))
        except StoreError as error:
            log.warning("expire_failed", reason=str(error))
        else:
            if removed:
                log.info("spans_expired", count=removed)
        await trio.sleep(EXPIRE_INTERVAL)
