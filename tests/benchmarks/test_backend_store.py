"""The benchmark of the backend's store in its short form: every part of it runs, and adds up."""

import time

import pytest

from benchmarks.backend_page import open_page
from benchmarks.backend_store import Answered, ask, fill, running, send, take
from benchmarks.backend_traffic import Shop
from benchmarks.processes import BenchmarkError
from sp_proxy.backend.otlp import Encoding, decode_traces
from sp_proxy.backend.spans import read_request
from tests.requirements import require_tools


def test_the_traffic_is_whole_traces_with_both_halves():
    (body,) = Shop(start_unix_ns=1).requests(300, 1000)
    read = read_request(decode_traces(Encoding.PROTOBUF, body), tenant="", now_unix_ns=1)
    assert (read.rejected, 300 <= len(read.batch.spans) < 310) == (0, True)
    spans = {span.span_id: span for span in read.batch.spans}
    for span in spans.values():
        assert span.exchange is not None
        if span.exchange.direction == "outbound":
            assert spans[span.parent_span_id].exchange is not None
        elif span.parent_span_id:
            parent = spans[span.parent_span_id].exchange
            assert parent is not None
            assert parent.direction == "outbound"
    assert len({span.trace_id for span in spans.values()}) > 30


def test_the_short_form(tmp_path):
    path = str(tmp_path / "store.sqlite3")
    filled = fill(path, 2000)
    assert filled.exchanges >= 2000
    assert filled.cpu_microseconds > 0
    with running(path) as port:
        answers: dict[str, Answered] = {answer.question: answer for answer in ask(port)}
        assert answers["list"].found == answers["search, common word"].found == 100
        assert answers["search, rare word"].found == answers["list, nothing fits"].found == 0
        assert answers["trace"].found > 0
        assert 0 < answers["map, an hour"].found == answers["map, a week"].found
        assert all(0 < answer.median_ms <= answer.worst_ms for answer in answers.values())
        bodies = list(Shop(seed=2, start_unix_ns=time.time_ns()).requests(600, 100))
        taken = take(port, bodies, 100, 60)
    assert taken.exchanges == len(bodies) * 100
    assert taken.seen == (len(bodies) - 1) * 100 + _last(bodies)


def test_the_page_in_a_browser(tmp_path):
    require_tools("chromium")
    with running(str(tmp_path / "store.sqlite3")) as port, open_page(port) as page:
        bodies = list(Shop(seed=3, start_unix_ns=time.time_ns()).requests(1500, 100))
        assert send(port, bodies, 100, 60).exchanges == len(bodies) * 100
        drawn = page.report()
    assert drawn.notice == ""
    assert drawn.frames_per_second > 0
    assert drawn.slowest_frame_ms > 0
    assert 100 < drawn.elements < 900


def _last(bodies):
    return len(decode_traces(Encoding.PROTOBUF, bodies[-1]).resource_spans[0].scope_spans[0].spans)


def test_an_empty_database_is_no_benchmark(tmp_path):
    with running(str(tmp_path / "empty")) as port, pytest.raises(BenchmarkError, match="empty"):
        ask(port)
