"""The real backend on a real socket, for one test."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import trio

from sp_proxy.backend.serve import serve
from sp_proxy.settings.model import Backend


def listener(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    sock.bind((host, 0))
    sock.listen()
    return sock


@asynccontextmanager
async def backend(host: str = "127.0.0.1", **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a running backend, which is in memory unless ``database`` is given."""
    wanted = Backend(**{"database": ":memory:", **settings})
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve, wanted, sockets=[listener(host)]))
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            yield client
        nursery.cancel_scope.cancel()
