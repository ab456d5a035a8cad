import json

import pytest

from sp_proxy.backend import download
from sp_proxy.backend.download import Download
from sp_proxy.backend.export.formats import FORMATS
from sp_proxy.backend.model import StoreError
from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.sqlite.store import open_store
from tests.backend.requests import HOSTILE, batch_of, exchange_span, sdk_span
from tests.backend.serving import backend
from tests.backend.test_api import send

TRACE = b"t" * 16


async def test_exports_of_a_filter_are_whole_and_in_order(monkeypatch):
    monkeypatch.setattr(download, "PAGE", 3)
    async with backend() as client:
        await send(client, *(exchange_span(at=at, path=f"/{at}", status=200 + at % 2) for at in range(20)), sdk_span())
        for name in FORMATS:
            answer = await client.get(f"/api/v1/export/{name}", params={"status": "200"})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == FORMATS[name].media_type
            assert answer.headers["content-disposition"] == f'attachment; filename="exchanges.{FORMATS[name].suffix}"'
            if name == "har":
                urls = [entry["request"]["url"] for entry in answer.json()["log"]["entries"]]
                assert urls == [f"http://shop.local:8080/{at}" for at in range(18, -2, -2)]
            elif name == "otlp":
                assert len(answer.json()["resourceSpans"]) == 10
            elif name == "jsonl":
                assert [json.loads(line)["path"] for line in answer.text.splitlines()] == [
                    f"/{at}" for at in range(18, -2, -2)
                ]
            else:
                assert answer.text.count("http://shop.local:8080/") == 10
        limited = await client.get("/api/v1/export/jsonl", params={"limit": 5})
        assert len(limited.text.splitlines()) == 5
        assert (await client.get("/api/v1/export/jsonl", params={"q": "service:nobody"})).text == ""


async def test_of_a_trace_otlp_has_every_span():
    async with backend() as client:
        await send(client, exchange_span(trace=TRACE, path=HOSTILE), sdk_span(trace=TRACE), sdk_span())
        answer = await client.get("/api/v1/export/otlp", params={"trace": TRACE.hex()})
        assert len(answer.json()["resourceSpans"]) == 2
        assert len((await client.get(f"/api/v1/export/jsonl?trace={TRACE.hex()}")).content.splitlines()) == 1


@pytest.mark.parametrize(
    "address, status, message",
    [
        ("pdf", 404, "there is no such format; formats: har, curl, httpie, otlp, jsonl"),
        ("har?limit=0", 400, "limit: '0' is not allowed; allowed: a number from 1"),
        ("har?q=x:y", 400, "q: column 1: 'x' is not a field"),
        ("har?before=1", 400, "'before' is not a parameter"),
    ],
)
async def test_mistakes(address, status, message):
    async with backend() as client:
        answer = await client.get(f"/api/v1/export/{address}")
        assert answer.status_code == status
        assert message in answer.json()["error"]


async def test_a_store_that_fails_before_the_first_byte_is_an_error():
    async with open_store(":memory:") as store:
        await store.append(batch_of(exchange_span()))
        store._writer.execute("DROP TABLE exchanges")
        with pytest.raises(StoreError):
            await Download.begun(store, EVERYTHING, FORMATS["jsonl"], 5)
