"""Every store: pages are complete, in order, and do not shift."""

import pytest

from sp_proxy.backend.query.syntax import EVERYTHING
from sp_proxy.backend.store import BadCursorError
from tests.backend.requests import batch_of, exchange_span, sdk_span
from tests.backend.stores import paths


async def test_newest_first_whatever_the_order_of_arrival(engine):
    async with engine() as store:
        for at in (5, 1, 9, 3):
            await store.append(batch_of(exchange_span(at=at, path=f"/{at}")))
        assert await paths(store) == ["/9", "/5", "/3", "/1"]


async def test_pages_are_complete_and_do_not_shift(engine):
    async with engine() as store:
        # Several exchanges of the same moment: the cursor must not skip or repeat any.
        await store.append(batch_of(*(exchange_span(at=number // 4, path=f"/{number}") for number in range(30))))
        seen, cursor = [], ""
        while True:
            page = await store.exchanges(EVERYTHING, before=cursor, limit=7)
            seen += [exchange.path for exchange in page.exchanges]
            await store.append(batch_of(exchange_span(at=1000 + len(seen))))
            cursor = page.next
            if not cursor:
                break
        assert sorted(seen) == sorted(f"/{number}" for number in range(30))


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1.", ".1", "1.2.3", "-1.2", "1.x", f"{2**63}.1", "9" * 30 + ".1", "\u0661.\u0661"]
)
async def test_foreign_cursors(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.exchanges(EVERYTHING, before=cursor, limit=5)


@pytest.mark.parametrize("cursor", ["x", "1", "x.s", f"{2**63}.s"])
async def test_foreign_cursors_of_sessions(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.sessions(EVERYTHING, before=cursor, limit=5)


async def test_pages_of_one_session(engine):
    """In order of time, each exchange once, those of one moment too."""
    async with engine() as store:
        spans = [exchange_span(session="a", at=number // 3) for number in range(10)]
        await store.append(batch_of(*spans, exchange_span(session="b", at=1)))
        seen, cursor = [], ""
        while True:
            page = await store.session("a", after=cursor, limit=4)
            assert page is not None
            assert page.truncated == bool(page.next)
            assert page.session.exchanges == 10
            seen += page.exchanges
            cursor = page.next
            if not cursor:
                break
        assert sorted(each.span_id for each in seen) == sorted(each.span_id.hex() for each in spans)
        assert [each.start_unix_ns for each in seen] == sorted(each.start_unix_ns for each in seen)
        with pytest.raises(BadCursorError):
            await store.session("a", after="yesterday", limit=4)


async def test_pages_of_sessions(engine):
    async with engine() as store:
        await store.append(batch_of(*(exchange_span(session=f"s.{number}", at=number // 3) for number in range(10))))
        seen, cursor = [], ""
        while True:
            page = await store.sessions(EVERYTHING, before=cursor, limit=4)
            seen += [session.session_id for session in page.sessions]
            cursor = page.next
            if not cursor:
                break
        assert sorted(seen) == [f"s.{number}" for number in range(10)]


async def test_pages_of_traces(engine):
    async with engine() as store:
        await store.append(batch_of(*(sdk_span(at=number // 3) for number in range(10))))
        seen, cursor = [], ""
        while True:
            page = await store.traces(EVERYTHING, before=cursor, limit=4)
            seen += [trace.trace_id for trace in page.traces]
            cursor = page.next
            if not cursor:
                break
        assert len(seen) == len(set(seen)) == 10


@pytest.mark.parametrize("cursor", ["x", "1", "1.zz", "x.00", f"{2**63}.00"])
async def test_foreign_cursors_of_traces(engine, cursor):
    async with engine() as store:
        with pytest.raises(BadCursorError):
            await store.traces(EVERYTHING, before=cursor, limit=5)
