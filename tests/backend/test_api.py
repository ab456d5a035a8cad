from urllib.parse import quote

import pytest
import trio

from sp_proxy.backend import hub
from sp_proxy.backend import live as live_module
from tests.backend.requests import HOSTILE, START, exchange_span, request_of, sdk_span
from tests.backend.serving import backend, live, stat, until

TRACE = b"t" * 16
PROTOBUF = {"content-type": "application/x-protobuf"}


async def send(client, *spans):
    answer = await client.post("/v1/traces", content=request_of(*spans).SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200


async def test_exchanges_are_listed_filtered_and_paged():
    async with backend() as client:
        await send(
            client, *(exchange_span(at=at, path=f"/{at}", status=200 + 303 * (at % 2)) for at in range(6)), sdk_span()
        )
        first = (await client.get("/api/v1/exchanges", params={"status": "5xx", "limit": 2})).json()
        assert [exchange["path"] for exchange in first["exchanges"]] == ["/5", "/3"]
        second = (await client.get("/api/v1/exchanges", params={"status": "5xx", "before": first["next"]})).json()
        assert [exchange["path"] for exchange in second["exchanges"]] == ["/1"]
        assert second["next"] == ""
        assert (await client.get("/api/v1/exchanges", params={"path": "/4"})).json()["exchanges"][0]["status"] == 200


async def test_one_exchange_in_full():
    span = exchange_span(trace=TRACE, span=b"s" * 8, request_body='{"a":1}', session="s 1")
    async with backend() as client:
        await send(client, span)
        answer = await client.get(f"/api/v1/exchanges/{'73' * 8}")
        full = answer.json()
        assert answer.headers["cache-control"] == "no-store"
        assert (full["trace_id"], full["span_id"], full["session_id"]) == (TRACE.hex(), "73" * 8, "s 1")
        assert (full["start_unix_ns"], full["duration_ns"], full["ttfb_ms"]) == (START, 12_000_000, 4.5)
        assert full["request"]["headers"] == [["accept", "*/*"]]
        assert full["request"]["body"] == {"encoding": "base64", "data": '{"a":1}', "content_type": ""}
        assert full["response"]["body"]["data"] == '{"ok":true}'
        assert full["resource"] == {"service.name": "orders"}
        assert full["attributes"]["url.path"] == "/api/orders?id=7"
        assert (await client.get(f"/api/v1/exchanges/{'73' * 8}?trace={TRACE.hex()}")).status_code == 200
        assert (await client.get(f"/api/v1/exchanges/{'73' * 8}?trace={'00' * 16}")).status_code == 404


async def test_any_span_in_full():
    async with backend() as client:
        await send(client, sdk_span(span=b"s" * 8))
        assert (await client.get(f"/api/v1/spans/{'73' * 8}")).json()["attributes"] == {"db.system": "postgresql"}
        assert (await client.get(f"/api/v1/exchanges/{'73' * 8}")).status_code == 404


async def test_a_trace_is_a_tree_of_exchanges_and_spans():
    async with backend() as client:
        await send(
            client,
            exchange_span(trace=TRACE, span=b"1" * 8, at=0),
            exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, at=1, direction="outbound"),
            sdk_span(trace=TRACE, span=b"3" * 8, parent=b"2" * 8, at=2),
            sdk_span(trace=TRACE, span=b"4" * 8, parent=b"x" * 8, at=3),
        )
        tree = (await client.get(f"/api/v1/traces/{TRACE.hex()}")).json()
        assert (tree["spans"], tree["truncated"]) == (4, False)
        one, orphan = tree["roots"]
        assert orphan["span"]["span_id"] == "34" * 8
        (two,) = one["children"]
        assert two["span"]["exchange"]["direction"] == "outbound"
        (three,) = two["children"]
        assert (three["span"]["exchange"], three["span"]["kind"], three["children"]) == (None, "internal", [])
        assert [(row["span_id"][:2], row["depth"]) for row in tree["rows"]] == [
            ("31", 0),
            ("32", 1),
            ("33", 2),
            ("34", 0),
        ]
        path = sum(part["duration_ns"] for part in tree["critical_path"])
        assert sum(share["duration_ns"] for share in tree["spent"]) == path == 12_000_000


async def test_the_halves_of_a_hop_are_one_row():
    call = exchange_span(trace=TRACE, span=b"1" * 8, service="orders", direction="outbound", host="payment:80")
    there = exchange_span(trace=TRACE, span=b"2" * 8, parent=b"1" * 8, service="payment", host="payment:80")
    there.end_time_unix_nano -= 3_000_000
    async with backend() as client:
        await send(client, call)
        address = f"/api/v1/traces/{TRACE.hex()}"
        (row,) = (await client.get(address)).json()["rows"]
        assert row["notes"] == ["orders called payment:80; nothing was captured there."]
        await send(client, there)
        (row,) = (await client.get(address)).json()["rows"]
        assert (row["span_id"], row["inbound_span_id"], row["network_ns"]) == ("31" * 8, "32" * 8, 3_000_000)
        assert row["notes"] == []


async def test_sessions():
    session = "id/with ? & # é"
    async with backend() as client:
        await send(client, exchange_span(session=session, at=1), exchange_span(session=session, at=2, status=500))
        (listed,) = (await client.get("/api/v1/sessions")).json()["sessions"]
        assert (listed["session_id"], listed["exchanges"], listed["errors"]) == (session, 2, 1)
        detail = (await client.get(f"/api/v1/sessions/{quote(session, safe='')}")).json()
        assert detail["session"] == listed
        assert [exchange["status"] for exchange in detail["exchanges"]] == [200, 500]


async def test_traces_are_listed():
    async with backend() as client:
        await send(client, exchange_span(trace=TRACE, at=1), sdk_span(trace=TRACE, at=2), sdk_span(name="later", at=3))
        first, second = (await client.get("/api/v1/traces")).json()["traces"]
        assert (first["name"], second["name"]) == ("later", "GET /api/orders?id=7")
        assert (second["trace_id"], second["spans"], second["exchanges"]) == (TRACE.hex(), 2, 1)
        page = (await client.get("/api/v1/traces", params={"limit": 1})).json()
        rest = (await client.get("/api/v1/traces", params={"before": page["next"]})).json()
        assert page["traces"] + rest["traces"] == [first, second]
        assert (await client.get("/api/v1/traces", params={"q": "service:orders"})).json()["traces"] == [second]
        (session,) = (await client.get("/api/v1/sessions", params={"service": "orders"})).json()["sessions"]
        assert session["session_id"] == "session-1"
        assert (await client.get("/api/v1/sessions", params={"q": "status:5xx"})).json()["sessions"] == []


async def test_the_map_of_a_time():
    start = {"since": "2023-11-14T22:13", "until": "2023-11-14T22:13:20.5"}
    async with backend() as client:
        await send(client, exchange_span(direction="outbound", host="pay:80", status=503))
        found = (await client.get("/api/v1/map", params=start)).json()
        (edge,) = found["edges"]
        assert (edge["source"], edge["host"], edge["target"], edge["requests"], edge["errors"]) == (
            *("orders", "pay:80", "", 1, 1),
        )
        assert (await client.get("/api/v1/map")).json()["edges"] == []


@pytest.mark.parametrize(
    "path, status, message",
    [
        ("/api/v1/exchanges?status=abc", 400, "status: 'abc' is not allowed; allowed: a status (200)"),
        ("/api/v1/exchanges?limit=0", 400, "limit: '0' is not allowed; allowed: 1 to 1000"),
        ("/api/v1/exchanges?before=zzz", 400, "before: not a cursor"),
        ("/api/v1/exchanges?servise=x", 400, "'servise' is not a parameter of this address; allowed: q, service"),
        ("/api/v1/exchanges?path=a&path=b", 400, "path: given more than once"),
        ("/api/v1/exchanges?q=status:x", 400, "q: column 1: status: 'x' is not allowed"),
        ("/api/v1/live?q=(a", 400, 'q: column 3: a ")" is missing'),
        ("/api/v1/exchanges/xyz", 400, "span_id: 'xyz' is not allowed; allowed: 16 hex digits"),
        (f"/api/v1/exchanges/{'ab' * 8}", 404, "there is no exchange of this span id"),
        (f"/api/v1/spans/{'ab' * 8}", 404, "there is no span of this id"),
        (f"/api/v1/exchanges/{'ab' * 8}?trace=1", 400, "trace: '1' is not allowed; allowed: 32 hex digits"),
        ("/api/v1/traces/1", 400, "trace_id: '1' is not allowed; allowed: 32 hex digits"),
        (f"/api/v1/traces/{'ab' * 16}", 404, "there is no trace of this id"),
        ("/api/v1/sessions?before=x", 400, "before: not a cursor"),
        ("/api/v1/sessions/none", 404, "there is no session of this id"),
        ("/api/v1/sessions/none?after=x", 400, "after: not a cursor"),
        ("/api/v1/traces?before=x", 400, "before: not a cursor"),
        ("/api/v1/map?since=soon", 400, "since: 'soon' is not allowed; allowed: a date or moment in UTC"),
        ("/api/v1/map?since=-1h&until=-2h", 400, "since: later than until"),
        ("/api/v1/logs?severity=bad", 400, "severity: 'bad' is not allowed; allowed: trace or debug or info"),
        ("/api/v1/logs?trace=1", 400, "trace: '1' is not allowed; allowed: 32 hex digits"),
        ("/api/v1/logs?before=x", 400, "before: not a cursor"),
        ("/api/v1/stats?x=1", 400, "'x' is not a parameter"),
        ("/api/v1/live?direction=up", 400, "direction: 'up' is not allowed"),
    ],
)
async def test_errors_are_one_line_of_json(path, status, message):
    async with backend() as client:
        answer = await client.get(path)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]
        assert message in answer.json()["error"]
        assert "\n" not in answer.json()["error"]


async def test_stats_count_what_is_stored():
    async with backend() as client:
        await send(client, exchange_span(), sdk_span())
        stats = (await client.get("/api/v1/stats")).json()
        assert (stats["spans"], stats["exchanges"], stats["sessions"]) == (2, 1, 1)
        assert stats["bytes"] > 0
        assert stats["live_subscribers"] == 0


async def test_live_events_of_new_exchanges_that_match():
    twice = exchange_span(path="/seen")
    async with backend() as client:
        await send(client, exchange_span(path="/before"))
        async with live(client, "?service=orders") as events:
            with trio.fail_after(20):
                await send(client, exchange_span(service="other", path="/no"), twice, sdk_span())
                await send(client, twice, exchange_span(path="/next"))
                seen = [await events.next(), await events.next()]
            assert [(name, data["path"]) for name, data in seen] == [("exchange", "/seen"), ("exchange", "/next")]

        async def nobody_listens():
            return await stat(client, "live_subscribers") == 0

        await until(nobody_listens)


async def test_hostile_content_cannot_break_out_of_an_event():
    async with backend() as client, live(client) as events:
        with trio.fail_after(20):
            await send(client, exchange_span(path=HOSTILE, host=HOSTILE))
            await send(client, exchange_span(path="/end"))
            name, data = await events.next()
            assert (name, data["path"], data["host"]) == ("exchange", HOSTILE, HOSTILE)
            assert (await events.next())[1]["path"] == "/end"


async def test_a_reader_that_stalls_loses_the_oldest_and_is_told(monkeypatch):
    monkeypatch.setattr(hub.Hub.__init__, "__defaults__", (50,))
    async with backend() as client, live(client) as events:
        with trio.fail_after(60):
            sent = 0
            while (await client.get("/api/v1/stats")).json()["live_dropped"] == 0:
                await send(client, *(exchange_span(path="/" + "x" * 2000) for _ in range(400)))
                sent += 400
            await send(client, exchange_span(path="/last"))
            seen, lost = 0, 0
            while True:
                name, data = await events.next()
                seen += name == "exchange"
                lost += data["count"] if name == "dropped" else 0
                if name == "exchange" and data["path"] == "/last":
                    break
        assert lost > 0
        assert seen + lost == sent + 1


async def test_an_idle_stream_has_heartbeats(monkeypatch):
    monkeypatch.setattr(live_module, "HEARTBEAT", 0.02)
    async with backend() as client, live(client) as events:
        with trio.fail_after(20):
            assert [await events.block() for _ in range(3)] == [": listening", ": heartbeat", ": heartbeat"]
