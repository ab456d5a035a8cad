from datetime import UTC, datetime

import pytest

from sp_proxy.demo.inquiries import BackendApi
from sp_proxy.dev import arrivals
from sp_proxy.dev.arrivals import catch_up
from sp_proxy.dev.calls import Exchanges
from tests.backend.requests import exchange_span
from tests.backend.serving import threaded
from tests.cli.backends import send


@pytest.fixture
def backend():
    with threaded() as url:
        yield url


def test_all_that_is_new_over_several_pages(backend, monkeypatch):
    monkeypatch.setattr(arrivals, "PAGE", 3)
    api = BackendApi(int(backend.rpartition(":")[2]))
    exchanges = Exchanges()
    catch_up(exchanges, api)
    assert len(exchanges) == 0
    send(backend, *(exchange_span(at=at) for at in range(8)))
    catch_up(exchanges, api)
    assert len(exchanges) == 8
    send(backend, *(exchange_span(at=at) for at in range(8, 12)))
    catch_up(exchanges, api)
    assert len(exchanges) == 12


def test_the_other_half_is_learnt_when_it_comes(backend):
    api = BackendApi(int(backend.rpartition(":")[2]))
    exchanges = Exchanges()
    outbound = exchange_span(service="shop", direction="outbound", host="localhost:8082")
    send(backend, outbound)
    catch_up(exchanges, api)
    assert [call.target for call in exchanges.calls(frozenset({"shop", "pay"}))] == ["localhost:8082"]
    send(backend, exchange_span(trace=outbound.trace_id, parent=outbound.span_id, service="pay", at=1))
    catch_up(exchanges, api)
    assert [call.target for call in exchanges.calls(frozenset({"shop", "pay"}))] == ["pay"]


def test_what_an_earlier_run_has_kept_is_not_this_runs(backend):
    api = BackendApi(int(backend.rpartition(":")[2]))
    spans = [exchange_span(at=at) for at in (0, 100_000)]
    send(backend, *spans)
    between = datetime.fromtimestamp(spans[0].start_time_unix_nano / 1e9 + 50, UTC)
    exchanges = Exchanges()
    catch_up(exchanges, api, f"{between:%Y-%m-%dT%H:%M:%S}")
    assert [each["span_id"] for each in exchanges.latest(9)] == [spans[1].span_id.hex()]


def test_a_backend_that_is_gone_is_no_fault():
    exchanges = Exchanges()
    catch_up(exchanges, BackendApi(1))
    assert len(exchanges) == 0
