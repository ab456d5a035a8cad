from typing import Any

from sp_proxy.dev import calls
from sp_proxy.dev.calls import Exchanges, tree

SERVICES = frozenset({"shop", "stock", "pay"})
NUMBERS = iter(range(1_000_000))


def exchange(service: str, direction: str, *, peer: str = "", host: str = "h", failed: bool = False) -> dict[str, Any]:
    number = next(NUMBERS)
    return {
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "service": service,
        "direction": direction,
        "peer": peer,
        "host": host,
        "failed": failed,
        "duration_ns": 2_000_000,
        "start_unix_ns": number,
    }


def shown(exchanges: Exchanges) -> list[tuple[int, str, int, bool]]:
    return [(node.depth, node.call.target, node.call.requests, node.again) for node in tree(exchanges.calls(SERVICES))]


def test_two_halves_are_one_call():
    exchanges = Exchanges()
    exchanges.add(
        [
            exchange("shop", "inbound"),
            exchange("shop", "outbound", peer="stock"),
            exchange("stock", "inbound", peer="shop"),
            exchange("stock", "outbound", host="api.example:443", failed=True),
        ]
    )
    assert shown(exchanges) == [(0, "shop", 1, False), (1, "stock", 1, False), (2, "api.example:443", 1, False)]
    assert exchanges.of("stock") == (1, 1, 1)
    (call,) = [each for each in exchanges.calls(SERVICES) if each.target == "stock"]
    assert (call.mean_ms, call.errors) == (2.0, 0)


def test_a_later_word_replaces_the_earlier():
    exchanges = Exchanges()
    first = exchange("shop", "outbound", host="localhost:8081")
    exchanges.add([first])
    exchanges.add([{**first, "peer": "stock"}])
    assert shown(exchanges) == [(0, "shop", 0, False), (1, "stock", 1, False)]


def test_circles_and_shared_services_end():
    exchanges = Exchanges()
    exchanges.add(exchange("shop", "outbound", peer=peer) for peer in ("stock", "pay"))
    exchanges.add([exchange("stock", "outbound", peer="pay"), exchange("pay", "outbound", peer="shop")])
    lines = shown(exchanges)
    assert [line for line in lines if line[3]]
    assert {target for _, target, _, _ in lines} == SERVICES


def test_what_is_nobodys_service_has_nothing_below():
    exchanges = Exchanges()
    exchanges.add([exchange("shop", "outbound", host="shop")])
    assert shown(exchanges) == [(0, "shop", 0, False), (1, "shop", 1, True)]


def test_the_oldest_are_forgotten_and_counted(monkeypatch):
    monkeypatch.setattr(calls, "MAX_KEPT", 3)
    exchanges = Exchanges()
    exchanges.add(exchange("shop", "inbound") for _ in range(5))
    assert (len(exchanges), exchanges.forgotten) == (3, 2)
    starts = [each["start_unix_ns"] for each in exchanges.latest(2)]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) == 2
