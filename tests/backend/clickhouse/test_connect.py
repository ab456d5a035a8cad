"""The real client, over a real socket: what a server gets and gives."""

import pytest

from sp_proxy.backend.clickhouse.connect import place_of
from sp_proxy.backend.log_model import LogBatch, LogFilter
from sp_proxy.backend.model import BackendError
from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.serve import database_name, open_engine
from sp_proxy.backend.store import Keep
from sp_proxy.settings.backend import Backend, ClickHouse
from tests.backend.clickhouse.engine import client
from tests.backend.clickhouse.server import PASSWORD, serving
from tests.backend.requests import HOSTILE, batch_of, exchange_span, partial_span, request_of
from tests.backend.serving import backend, listener
from tests.backend.stores import log

DATABASE = "over_http"


@pytest.fixture
def settings():
    with serving() as url:
        yield {"engine": "clickhouse", "clickhouse": {"url": url, "database": DATABASE, "password": PASSWORD}}
    client().command(f"DROP DATABASE IF EXISTS {DATABASE}")


async def test_a_store_on_a_server(settings):
    out = exchange_span(trace=b"t" * 16, span=b"1" * 8, service="orders", direction="outbound", path=HOSTILE)
    inside = exchange_span(trace=b"t" * 16, parent=b"1" * 8, service=HOSTILE, more={"sp.tag.env": HOSTILE})
    async with open_engine(Backend(**settings)) as store:
        await store.append(batch_of(partial_span(trace=b"t" * 16, span=b"1" * 8)))
        await store.append(batch_of(out, out))
        await store.append(batch_of(inside))
        await store.append_logs(LogBatch("", 1, [{}], [log(HOSTILE)]))
        for query, count in (("", 2), ("alert", 1), ("path:/api/*", 1), ("tag.env:*script*", 1), ("peer:orders", 1)):
            page = await store.exchanges(parse(query, now_unix_ns=0), before="", limit=10)
            assert len(page.exchanges) == count, query
        record = await store.span(b"1" * 8, b"t" * 16)
        assert record is not None
        assert record.exchange is not None
        assert (record.exchange.path, record.exchange.peer) == (HOSTILE, HOSTILE)
        assert (await store.logs(LogFilter(), before="", limit=5)).logs[0].body == HOSTILE
        stats = await store.stats()
        assert (stats.spans, stats.duplicates, stats.logs) == (2, 1, 1)
        assert await store.expire(Keep(0, 2**62)) == 0


async def test_the_whole_backend_on_a_server(settings):
    body = request_of(exchange_span(path="/kept")).SerializeToString()
    async with backend(**settings) as asked:
        headers = {"content-type": "application/x-protobuf"}
        assert (await asked.post("/v1/traces", content=body, headers=headers)).status_code == 200
        (found,) = (await asked.get("/api/v1/exchanges", params={"q": "path:/kept"})).json()["exchanges"]
        assert found["path"] == "/kept"
        assert (await asked.get("/api/v1/exchanges?before=1.2")).status_code == 400


async def test_a_wrong_password_and_nobody_there(settings):
    settings["clickhouse"]["password"] = "wrong"
    with pytest.raises(BackendError, match=r"^backend.clickhouse: .*Authentication failed"):
        async with open_engine(Backend(**settings)):
            pass
    sock = listener()
    settings["clickhouse"]["url"] = f"http://127.0.0.1:{sock.getsockname()[1]}"
    sock.close()
    with pytest.raises(BackendError, match=r"^backend.clickhouse: ") as failure:
        async with open_engine(Backend(**settings)):
            pass
    assert "\n" not in str(failure.value)


def test_names():
    settings = Backend(engine="clickhouse", clickhouse={"database": "d", "cluster": "c"})
    assert place_of(settings.clickhouse).stored("spans") == "d.spans_local"
    assert place_of(ClickHouse()).stored("spans") == "sp_proxy.spans"
    assert database_name(settings) == "d on http://127.0.0.1:8123"
    assert database_name(Backend()) == "sp_proxy.sqlite3"
