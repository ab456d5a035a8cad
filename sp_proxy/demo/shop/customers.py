"""The customers: a thread and a connection each. A burst of requests, then, if wanted, slow ones until they are told to go."""

import threading
from dataclasses import dataclass
from typing import Any

from sp_proxy.demo.shop.client import Peer
from sp_proxy.demo.shop.report import CUSTOMERS
from sp_proxy.demo.shop.scenario import PEOPLE, customer_headers, visit

NO_ORDER = "ord-none"


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much, and how fast. Pauses are seconds between two requests of one customer."""

    requests: int
    """In the burst, of all customers together."""
    pause: float = 0.0
    slow_pause: float | None = None
    """After the burst; None ends the customers then."""


def shares(requests: int) -> list[int]:
    """The part of the burst that each customer does."""
    return [requests // len(PEOPLE) + (index < requests % len(PEOPLE)) for index in range(len(PEOPLE))]


def drive(orders: tuple[str, int], run: str, traffic: Traffic, stop: threading.Event) -> None:
    """Send the traffic; returns when all of it has been answered, or soon after ``stop``."""
    threads = [
        threading.Thread(target=_customer, args=(person, share, orders, run, traffic, stop), name=person)
        for person, share in zip(PEOPLE, shares(traffic.requests), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _customer(
    person: str, share: int, orders: tuple[str, int], run: str, traffic: Traffic, stop: threading.Event
) -> None:
    peer = Peer(CUSTOMERS, "orders", orders)
    headers = customer_headers(person, run)
    order, number = NO_ORDER, 0
    while not stop.is_set() and (number < share or traffic.slow_pause is not None):
        wanted = visit(person, number)
        answer = peer.call(wanted.method, wanted.target.format(order=order), wanted.value, headers)
        order = _order_id(answer.value) or order
        number += 1
        pause = traffic.pause if number < share else traffic.slow_pause
        if pause:
            stop.wait(pause)
    peer.close()


def _order_id(value: Any) -> str:
    return str(value.get("order_id", "")) if isinstance(value, dict) and value.get("status") == "paid" else ""
