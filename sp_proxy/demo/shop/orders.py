"""The orders service: asks the inventory for each item, has the payment charged, keeps the order."""

import itertools
import threading
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

from sp_proxy.demo.shop.client import Peer
from sp_proxy.demo.shop.messages import Answer, Request, problem

MAX_ORDERS = 1000
"""Orders kept; the oldest are forgotten."""


class OrderBook:
    """The orders, shared by all connections."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._orders: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def new_id(self) -> str:
        """The id of a new order."""
        return f"ord-{next(self._numbers):05}"

    def keep(self, order: dict[str, Any]) -> None:
        """Remember an order."""
        with self._lock:
            self._orders[order["order_id"]] = order
            if len(self._orders) > MAX_ORDERS:
                del self._orders[next(iter(self._orders))]

    def find(self, order_id: str) -> dict[str, Any] | None:
        """An order by its id."""
        return self._orders.get(order_id)


class Orders:
    """One connection's service, with connections of its own to the services that it calls."""

    name = "orders"

    def __init__(self, book: OrderBook, inventory: Peer, payment: Peer) -> None:
        self._book = book
        self._inventory = inventory
        self._payment = payment

    def answer(self, request: Request) -> Answer:
        """``POST /orders``, ``GET /orders/ID`` and ``GET /catalog``."""
        path = urlsplit(request.target).path
        if (request.method, path) == ("POST", "/orders"):
            return self._order(request)
        if request.method == "GET" and path == "/catalog":
            catalog = self._inventory.call("GET", "/catalog", headers=request.propagated)
            return _passed_on(catalog, "inventory")
        if request.method == "GET" and path.startswith("/orders/"):
            order_id = path.removeprefix("/orders/")
            found = self._book.find(order_id)
            return Answer(200, found) if found else problem(404, "unknown order", order_id=order_id)
        return problem(404, "there is nothing here")

    def close(self) -> None:
        """Close the connections to the others."""
        self._inventory.close()
        self._payment.close()

    def _order(self, request: Request) -> Answer:
        wanted = request.json()
        items = _items(wanted)
        if wanted is None or not items:
            return problem(400, "customer, card and items with sku and quantity are needed")
        total = Decimal(0)
        for sku, quantity in items:
            stock = self._inventory.call("GET", f"/stock/{quote(sku)}", headers=request.propagated)
            if stock.status != 200:
                return _passed_on(stock, "inventory")
            if stock.value["available"] < quantity:
                return problem(409, "out of stock", sku=sku, available=stock.value["available"], quantity=quantity)
            total += Decimal(stock.value["price"]) * quantity
        order = {
            "order_id": self._book.new_id(),
            "customer": wanted["customer"],
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items],
            "total": str(total),
            "currency": "EUR",
        }
        charge = {
            "order_id": order["order_id"],
            "amount": order["total"],
            "currency": order["currency"],
            "card": wanted["card"],
        }
        # The secret is there to be missed in what was captured.
        headers = {**request.propagated, "authorization": "Bearer the-orders-secret"}
        charged = self._payment.call("POST", "/charge", charge, headers)
        if charged.status != 201:
            return _passed_on(charged, "payment")
        order |= {"status": "paid", "charge_id": charged.value["charge_id"]}
        self._book.keep(order)
        return Answer(201, order, {"location": f"/orders/{order['order_id']}"})


def _items(wanted: dict[str, Any] | None) -> list[tuple[str, int]]:
    """The items of an order; none when any of them is not understood."""
    if wanted is None or not {"customer", "card", "items"} <= wanted.keys():
        return []
    try:
        return [(str(item["sku"]), int(item["quantity"])) for item in wanted["items"]]
    except (KeyError, TypeError, ValueError):
        return []


def _passed_on(answer: Answer, service: str) -> Answer:
    """What another service answered; its failures are a bad gateway here."""
    if answer.status == 0 or answer.status >= 500:
        return problem(502, f"{service} failed", status_there=answer.status)
    if answer.status >= 400:
        return problem(answer.status, answer.value["title"], service=service)
    return Answer(answer.status, answer.value)
