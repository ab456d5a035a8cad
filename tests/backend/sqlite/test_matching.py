from typing import Any

import pytest

from sp_proxy.backend.query.parse import parse
from sp_proxy.backend.sqlite import matching, scan
from sp_proxy.backend.sqlite.packing import pack_batch
from sp_proxy.backend.sqlite.write import insert_batches
from tests.backend.requests import START, batch_of, exchange_span


@pytest.mark.parametrize("chunk", [1, 3, 200])
@pytest.mark.parametrize("budget", [0.0, 1000.0])
@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize("query", ["path:/*", "heron", "status>=500", "heron or status>=500"])
def test_each_is_listed_once_however_long_a_page_and_a_step_are(connection, monkeypatch, chunk, budget, limit, query):
    monkeypatch.setattr(matching, "CHUNK", chunk)
    monkeypatch.setattr(matching, "CHECK_SECONDS", 60)
    monkeypatch.setattr(scan, "FIRST_WINDOW", 5)
    for start in range(0, 60, 6):
        spans = [
            exchange_span(
                at=at,
                trace=bytes([1 + at % 11]) * 16,
                session=f"s{at % 7}",
                status=503 if at % 4 == 0 else 200,
                response_body="heron" if at % 3 == 0 else "",
            )
            for at in range(start, start + 6)
        ]
        insert_batches(connection, [pack_batch(batch_of(*spans))], max_characters=500)
    fits = {
        "path:/*": lambda _at: True,
        "heron": lambda at: at % 3 == 0,
        "status>=500": lambda at: at % 4 == 0,
        "heron or status>=500": lambda at: at % 3 == 0 or at % 4 == 0,
    }[query]
    newest_first = [at for at in reversed(range(60)) if fits(at)]
    parsed = parse(query, now_unix_ns=START)
    traces: list[Any] = []
    sessions: list[Any] = []
    for ask, found in ((matching.traces, traces), (matching.sessions, sessions)):
        cursor = ""
        while True:
            page = ask(connection, parsed, cursor, limit, budget=budget)
            found += page.traces if hasattr(page, "traces") else page.sessions
            cursor = page.next
            if not cursor:
                break
    assert [one.trace_id for one in traces] == list(dict.fromkeys(f"{1 + at % 11:02x}" * 16 for at in newest_first))
    assert [one.session_id for one in sessions] == list(dict.fromkeys(f"s{at % 7}" for at in newest_first))
