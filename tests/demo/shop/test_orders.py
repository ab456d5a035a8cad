import json
from contextlib import closing, contextmanager

import pytest

from sp_proxy.demo.shop import orders as module
from sp_proxy.demo.shop.client import Peer
from sp_proxy.demo.shop.inventory import Inventory
from sp_proxy.demo.shop.messages import Answer, Request
from sp_proxy.demo.shop.orders import OrderBook, Orders
from sp_proxy.demo.shop.payment import DECLINED, FAULTY, Payment
from tests.demo.shop.serving import serving

TRACING = {"traceparent": "00-t", "tracestate": "a=b", "x-sp-session-id": "s"}
seen: list[Request] = []


class WatchedPayment(Payment):
    def answer(self, request: Request) -> Answer:
        seen.append(request)
        return super().answer(request)


@contextmanager
def shop(book=None):
    with (
        serving(Inventory) as inventory,
        serving(WatchedPayment) as payment,
        closing(
            Orders(book or OrderBook(), Peer("orders", "inventory", inventory), Peer("orders", "payment", payment))
        ) as orders,
    ):
        yield orders


def order(orders, items, token="tok"):
    value = {"customer": {"id": "ana"}, "items": items, "card": {"token": token}}
    headers = {**TRACING, "cookie": "secret"}
    return orders.answer(Request("POST", "/orders", headers, json.dumps(value).encode()))


def test_an_order_is_priced_charged_and_kept():
    seen.clear()
    with shop() as orders:
        answer = order(orders, [{"sku": "ESP-250", "quantity": 2}, {"sku": "MUG-BLU", "quantity": 1}])
        assert answer.status == 201
        assert answer.value["total"] == "25.30"
        assert answer.headers["location"] == f"/orders/{answer.value['order_id']}"
        assert orders.answer(Request("GET", answer.headers["location"], {})).value == answer.value
    (charge,) = seen
    assert {name: charge.headers[name] for name in TRACING} == TRACING
    assert "cookie" not in charge.headers


@pytest.mark.parametrize(
    "items, token, status",
    [
        ([{"sku": "none", "quantity": 1}], "tok", 404),
        ([{"sku": "KTL-GSN", "quantity": 40}], "tok", 409),
        ([{"sku": "ESP-250", "quantity": 1}], DECLINED, 402),
        ([{"sku": "ESP-250", "quantity": 1}], FAULTY, 502),
        ([], "tok", 400),
        ("text", "tok", 400),
        ([{"sku": "ESP-250"}], "tok", 400),
        ([{"sku": "ESP-250", "quantity": "many"}], "tok", 400),
    ],
)
def test_what_can_go_wrong_with_an_order(items, token, status):
    with shop() as orders:
        assert order(orders, items, token).status == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"customer": 1, "card": 2}'])
def test_what_is_no_order_is_refused(body):
    with shop() as orders:
        assert orders.answer(Request("POST", "/orders", {}, body)).status == 400


def test_the_catalog_is_the_inventorys():
    with shop() as orders:
        assert orders.answer(Request("GET", "/catalog?page=1", {})).value["products"]


@pytest.mark.parametrize("target", ["/orders/none", "/", "/stock/ESP-250"])
def test_everything_else_is_not_found(target):
    with shop() as orders:
        assert orders.answer(Request("GET", target, {})).status == 404


def test_a_service_that_is_gone_is_a_bad_gateway():
    with serving(Inventory) as address:
        pass
    nobody = Peer("orders", "inventory", address)
    with closing(Orders(OrderBook(), nobody, nobody)) as orders:
        assert orders.answer(Request("GET", "/catalog", {})).status == 502


def test_the_oldest_orders_are_forgotten(monkeypatch):
    monkeypatch.setattr(module, "MAX_ORDERS", 2)
    book = OrderBook()
    for _ in range(3):
        book.keep({"order_id": book.new_id()})
    assert [book.find(f"ord-{number:05}") is None for number in (1, 2, 3)] == [True, False, False]
