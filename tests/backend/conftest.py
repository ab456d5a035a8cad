"""A fresh store of every engine."""

from contextlib import asynccontextmanager

import pytest

from sp_proxy.backend.sqlite.store import open_store
from tests.backend.clickhouse.engine import fresh_store


@pytest.fixture(params=["file", "memory", "clickhouse"])
def engine(request, tmp_path):
    """Opens a fresh store."""
    numbers = iter(range(1000))

    @asynccontextmanager
    async def fresh(max_bytes=1 << 30):
        if request.param == "clickhouse":
            async with fresh_store() as store:
                yield store
            return
        path = ":memory:" if request.param == "memory" else str(tmp_path / f"store-{next(numbers)}.sqlite3")
        async with open_store(path, max_bytes=max_bytes) as store:
            yield store

    return fresh
