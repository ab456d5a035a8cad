"""Every store answers a query as the live updates do."""

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sp_proxy.backend.query.evaluate import predicate
from sp_proxy.backend.spans import read_request
from sp_proxy.backend.store import BadCursorError
from tests.backend.query.strategies import queries
from tests.backend.requests import HOSTILE, attribute, batch_of, exchange_span, request_of
from tests.backend.stores import TRACE, ask, paths

made = st.fixed_dictionaries(
    {
        "service": st.sampled_from(["orders", "payment"]),
        "direction": st.sampled_from(["inbound", "outbound", "auto"]),
        "method": st.sampled_from(["GET", "POST"]),
        "host": st.sampled_from(["a", "b:80"]),
        "path": st.sampled_from(["/x", "/x%y", "/X_", HOSTILE]),
        "status": st.sampled_from([0, 200, 404, 503]),
        "session": st.sampled_from(["", "s1", "s2"]),
        "at": st.integers(0, 3),
        "trace": st.sampled_from([TRACE, b"u" * 16]),
        "response_body": st.sampled_from(["", '{"ok":true}', "Größe: x-ray, é", "okay"]),
        "more": st.sampled_from([{}, {"sp.tag.env": "prod"}, {"sp.tag.env": "", "sp.tag.team": "p"}]),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(made, max_size=12), asked=st.lists(queries(), min_size=1, max_size=6))
def test_the_store_and_live_updates_answer_a_query_alike(engine, rows, asked):
    async def check():
        async with engine() as store:
            appended = await store.append(batch_of(*(exchange_span(**row) for row in rows)))
            for query in asked:
                found, cursor = [], ""
                while True:
                    page = await store.exchanges(query, before=cursor, limit=5)
                    found += page.exchanges
                    cursor = page.next
                    if not cursor:
                        break
                wants = predicate(query)
                expected = [one.summary for one in appended.exchanges if wants(one)]
                assert sorted(found, key=identity) == sorted(expected, key=identity)
                assert [one.start_unix_ns for one in found] == sorted(
                    (one.start_unix_ns for one in found), reverse=True
                )

    trio.run(check)


@pytest.mark.parametrize(
    "query, expected",
    [
        ("path:/api/*", ["/api/c", "/api/b", "/api/a"]),
        ("path:/api/? status>=400", ["/api/c"]),
        ("service:payment or session:s2", ["/other", "/api/b"]),
        ("not path:/api/*", ["/other"]),
        ("kingfisher", ["/api/b"]),
        ("KINGFISH*", ["/api/b"]),
        ("text:kingfish", []),
        ('"x-weather sunny"', ["/api/a"]),
        ("kingfisher or text:sunny", ["/api/b", "/api/a"]),
        ("-kingfisher path:/api/*", ["/api/c", "/api/a"]),
        ("tag.env:prod", ["/api/c"]),
        ("tag.env!=prod", ["/other", "/api/b", "/api/a"]),
        ("duration>=12ms time>=2023-11-14", ["/other", "/api/c", "/api/b", "/api/a"]),
        ("duration<12ms", []),
        ("time>=1700000000001000000ns time<1700000000003000000ns", ["/api/c", "/api/b"]),
        ("trace:" + "75" * 16, ["/other"]),
        ("trace:" + "75" * 16 + " kingfisher", []),
        ("span:" + "31" * 8, ["/api/a"]),
        ("-span:" + "31" * 8 + " path:/api/*", ["/api/c", "/api/b"]),
    ],
)
async def test_queries(engine, query, expected):
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(at=0, span=b"1" * 8, path="/api/a", more={"http.request.header.x-weather": "Sunny"}),
                exchange_span(at=1, path="/api/b", session="s2", response_body='{"bird": "Kingfisher"}'),
                exchange_span(at=2, path="/api/c", status=503, more={"sp.tag.env": "prod"}),
                exchange_span(at=3, path="/other", service="payment", trace=b"u" * 16),
            )
        )
        page = await store.exchanges(ask(query), before="", limit=10)
        assert [one.path for one in page.exchanges] == expected


async def test_text_is_found_whatever_its_encoding_says(engine):
    binary = {"http.response.header.content-type": "application/octet-stream"}
    async with engine() as store:
        await store.append(
            batch_of(
                exchange_span(path="/text", response_body="plover"),
                exchange_span(path="/binary", response_body="cGxvdmVy", more=binary),
            )
        )
        assert await paths(store, ask("plover")) == ["/text"]
        assert await paths(store, ask("cGxvdmVy")) == []


async def test_tags_stand_on_the_resource_too(engine):
    async with engine() as store:
        request = request_of(exchange_span(path="/a"), exchange_span(path="/b", more={"sp.tag.env": "test"}))
        request.resource_spans[0].resource.attributes.append(attribute("sp.tag.env", "prod"))
        read = read_request(request, tenant="", now_unix_ns=1)
        (one, _) = (await store.append(read.batch)).exchanges
        assert one.tags == {"env": "prod"}
        assert await paths(store, ask("tag.env:prod")) == ["/a"]


def identity(exchange):
    return (exchange.trace_id, exchange.span_id)


async def every_page(store, ask_for, query):
    """Names of all pages, of two each; and no page is the last one over again."""
    seen, cursor = [], ""
    while True:
        page = await getattr(store, ask_for)(query, before=cursor, limit=2)
        seen += [getattr(one, {"traces": "name", "sessions": "session_id"}[ask_for]) for one in getattr(page, ask_for)]
        assert page.next != cursor or not cursor
        cursor = page.next
        if not cursor:
            return seen


async def test_traces_and_sessions_with_an_exchange_that_fits(engine):
    """Each once, by its newest exchange that fits, whatever else is in it."""
    async with engine() as store:
        for at, (trace, session) in enumerate(map(tuple, ["a1", "b2", "c1", "a1", "d3", "b2", "a3", "e "])):
            await store.append(
                batch_of(
                    exchange_span(
                        trace=trace.encode() * 16,
                        session=session.strip(),
                        at=at,
                        path=f"/{trace}",
                        status=503 if at % 2 == 0 else 200,
                        response_body="heron" if trace in "ad" else "",
                    )
                )
            )
        assert await every_page(store, "traces", ask("status>=500")) == ["GET /a", "GET /d", "GET /c"]
        assert await every_page(store, "traces", ask("status<500")) == ["GET /e", "GET /b", "GET /a"]
        assert await every_page(store, "traces", ask("path:/*")) == ["GET /e", "GET /a", "GET /b", "GET /d", "GET /c"]
        assert await every_page(store, "traces", ask("heron")) == ["GET /a", "GET /d"]
        assert await every_page(store, "traces", ask("nothing")) == []
        assert await every_page(store, "sessions", ask("path:/*")) == ["3", "2", "1"]
        assert await every_page(store, "sessions", ask("status>=500")) == ["3", "1"]
        assert await every_page(store, "sessions", ask("heron status<500")) == ["1"]
        (first, *_) = (await store.sessions(ask("heron"), before="", limit=5)).sessions
        assert (first.session_id, first.exchanges, first.errors) == ("3", 2, 2)
        with pytest.raises(BadCursorError):
            await store.traces(ask("heron"), before="x", limit=5)
