from typing import Any

from rich.console import Console

from sp_proxy.dev import screen
from sp_proxy.dev.calls import Exchanges
from sp_proxy.dev.screen import Row
from tests.dev.test_calls import exchange

HOSTILE = "/\x1b[2J\x07[bold]\u202e"


def drawn(view: Any, **size: int) -> str:
    console = Console(
        width=size.get("width", 100), height=size.get("height", 40), force_terminal=True, color_system=None
    )
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def full(**fields: Any) -> dict[str, Any]:
    return {**exchange("shop", "outbound"), "status": 200, "method": "GET", "scheme": "https", "path": "/", **fields}


def test_what_was_answered_from_an_earlier_run():
    said = screen.mocked({"stored_answers_given": 3, "stored_answers_missing": 1, "spans": 9})
    assert said == "mock: 3 answered from what was captured, 1 without an answer there went on"


def test_the_live_view():
    exchanges = Exchanges()
    exchanges.add([exchange("shop", "inbound"), exchange("shop", "outbound", host="api.example", failed=True)])
    rows = [Row("shop", 8080, "up"), Row("worker", None, "ended (3)")]
    text = drawn(screen.live_view(rows, exchanges, "http://127.0.0.1:4318/", ending=False))
    assert "shop" in text
    assert "8080" in text
    assert "ended (3)" in text
    assert "-> api.example  1 request, 1 failed" in text
    assert "Ctrl-C ends all" in text
    assert "http://127.0.0.1:4318/" in text


def test_a_large_tree_is_cut():
    exchanges = Exchanges()
    exchanges.add(exchange("shop", "outbound", host=f"host-{number}") for number in range(50))
    text = drawn(screen.live_view([Row("shop", 1, "up")], exchanges, "u", ending=True))
    assert len(text.splitlines()) < screen.MAX_TREE + 10
    assert "and 37 more" in text


def test_captured_text_instructs_no_terminal():
    for view in (screen.exchange_line(full(path=HOSTILE, host=HOSTILE)), screen.log_line("shop", HOSTILE, 4)):
        text = drawn(view)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[bold]" in text
    exchanges = Exchanges()
    exchanges.add([exchange("shop", "outbound", host=HOSTILE)])
    assert "\x1b" not in drawn(screen.tree_lines(exchanges, ["shop"])[1])


def test_lines():
    assert "200 shop -> GET https://h/  2.0 ms" in drawn(screen.exchange_line(full()))
    assert "none" in drawn(screen.exchange_line(full(status=0)))
    assert drawn(screen.log_line("shop", "hello\tworld", 6)) == "shop   | hello    world\n"


def test_totals():
    exchanges = Exchanges()
    exchanges.add([exchange("shop", "inbound"), exchange("shop", "outbound", failed=True)])
    assert screen.totals(exchanges, ["shop"]) == "captured 2 exchanges: 1 inbound, 1 outbound, 1 failed"
