"""ClickHouse's engine in this process (chdb), by the client that a server is asked with. A process has one engine."""

import atexit
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import clickhouse_connect

from sp_proxy.backend.clickhouse.schema import Place
from sp_proxy.backend.clickhouse.store import ClickhouseStore, open_store

_numbers = itertools.count(1)


class Shared:
    """The one client, which stores do not close."""

    def __init__(self, client: Any) -> None:
        self.query = client.query
        self.command = client.command
        self.insert = client.insert
        self._raw_query = client.raw_query

    def raw(self, statement: str, form: str | None, settings: dict[str, Any]) -> bytes:
        """The engine's own answer."""
        answer: bytes = self._raw_query(statement, fmt=form, settings=settings)
        return answer


@cache
def client() -> Shared:
    directory = tempfile.mkdtemp(prefix="sp-proxy-chdb-")
    engine = clickhouse_connect.get_client(dsn=f"chdb://{directory}")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(engine.close)
    return Shared(engine)


@asynccontextmanager
async def fresh_store(*, database: str = "") -> AsyncIterator[ClickhouseStore]:
    """A store in a database of its own, or in one that is there."""
    place = Place(database or f"test_{next(_numbers)}")
    async with open_store(client, place, retention=lambda _tenant: 100 * 365 * 86_400.0, slack=0) as store:
        yield store
    if not database:
        client().command(f"DROP DATABASE {place.database}")
