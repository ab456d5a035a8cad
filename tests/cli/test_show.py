import json

import pytest

from sp_proxy.cli.main import main
from tests.backend.requests import HOSTILE, exchange_span, sdk_span
from tests.cli.backends import holding

TRACE = b"t" * 16
IDS = {"exchange": "31" * 8, "span": "32" * 8, "trace": TRACE.hex(), "session": "a b/ü"}


@pytest.fixture(scope="module")
def url():
    image = {"http.response.header.content-type": "image/png", "http.response.body.size": 3}
    with holding(
        exchange_span(
            trace=TRACE,
            span=b"1" * 8,
            session="a b/ü",
            method="POST",
            path="/orders/7",
            request_body="line one\nline \x1b[31mtwo",
            more={
                "sp.tag.tenant": "ac\x1bme",
                "sp.tag.plan": 3,
                "http.request.header.content-type": "text/plain",
                "http.request.header.x-evil": HOSTILE,
            },
        ),
        sdk_span("SELECT 1", trace=TRACE, span=b"2" * 8, parent=b"1" * 8, at=1),
        exchange_span(trace=TRACE, span=b"3" * 8, at=2, session="a b/ü", response_body="AAAA", more=image),
    ) as address:
        yield address


def shown(capsys, *arguments):
    assert main(["show", *arguments]) == 0
    out: str = capsys.readouterr().out
    return out


def test_an_exchange(url, capsys):
    out = shown(capsys, IDS["exchange"], "--url", url)
    assert "POST /orders/7\n" in out
    assert f"trace {IDS['trace']}  span {IDS['exchange']}  session a b/ü" in out
    assert "first byte after 4.5ms, all after 12ms" in out
    assert "line one\nline \\x1b[31mtwo\n" in out
    assert '{"ok":true}' in out
    assert "content-type: application/json\n" in out
    assert "tags tenant=ac\\x1bme  plan=3\n" in out
    assert "\x1b" not in out
    assert "\x00" not in out


def test_a_body_that_is_no_text(url, capsys):
    assert "(3B that are no text)" in shown(capsys, "33" * 8, "--url", url)


def test_a_span(url, capsys):
    out = shown(capsys, IDS["span"], "--url", url)
    assert "orders: SELECT 1 (internal)" in out
    assert "db.system: postgresql\n" in out


def test_a_trace(url, capsys):
    lines = shown(capsys, IDS["trace"].upper(), "--url", url).splitlines()
    assert lines[0] == f"trace {IDS['trace']}: 3 spans, 14ms"
    assert "/orders/7" in lines[1]
    assert lines[2].startswith("  ")
    assert lines[2].endswith("orders: SELECT 1  5ms")
    assert len(lines) == 4


def test_a_session(url, capsys):
    first, *rest = shown(capsys, IDS["session"], "--url", url).splitlines()
    assert first == "session a b/ü: 2 exchanges, 0 errors, orders"
    assert len(rest) == 2


@pytest.mark.parametrize("kind", IDS)
def test_as_json(url, capsys, kind):
    assert isinstance(json.loads(shown(capsys, IDS[kind], "--as", "json", "--url", url)), dict)


@pytest.mark.parametrize("kind, count", [("exchange", 1), ("trace", 2), ("session", 2)])
def test_as_an_export(url, capfdbinary, kind, count):
    assert main(["show", IDS[kind], "--as", "jsonl", "--url", url]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == count
    assert main(["show", IDS[kind], "--as", "har", "--url", url]) == 0
    assert len(json.loads(capfdbinary.readouterr().out)["log"]["entries"]) == count


@pytest.mark.parametrize("identity", ["ab" * 8, "ab" * 16, "nobody", "\x1b[31m"])
def test_there_is_none(url, capsys, identity):
    assert main(["show", identity, "--url", url]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sp-proxy: there is no span, trace or session of the id ")
    assert "\x1b" not in err
