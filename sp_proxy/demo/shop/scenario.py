"""What customers do, by number (pure): mostly they buy, and everything that can go wrong in a shop does, now and then."""

from dataclasses import dataclass
from typing import Any

from sp_proxy.demo.shop.payment import DECLINED, FAULTY

GOOD_CARD = "tok_visa_4242"
PEOPLE = ("ana", "bo", "chen", "dora")


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a customer. ``{order}`` in the target stands for the customer's latest order."""

    method: str
    target: str
    value: dict[str, Any] | None = None


def customer_headers(person: str, run: str) -> dict[str, str]:
    """What a customer's browser sends with everything: the session is one for each customer and run."""
    return {"x-sp-session-id": f"sess-{person}-{run}", "accept-language": "en, de;q=0.7"}


def visit(person: str, number: int) -> Visit:
    """The ``number``-th request (from 0) of a customer."""
    first = PEOPLE[0] == person
    match number % 10:
        case 0 | 7:
            return Visit("GET", "/catalog?page=1")
        case 1:
            return _order(person, [("ESP-250", 2), ("MUG-BLU", 1)])
        case 2:
            return Visit("GET", "/orders/{order}")
        case 3:
            return _order(person, [("FIL-500", 1), ("CUP-OLD", 4)])  # no such product
        case 4:
            return _order(person, [("GRD-MAN", 1)], card=DECLINED)
        case 5 if first and number == 5:
            return _order(person, [("TEA-SEN", 1)], card=FAULTY)  # once in a run
        case 6:
            return _order(person, [("KTL-GSN", 40)])  # more than there are
        case 8:
            return Visit("GET", f"/orders/ord-lost-{person}")
        case _:
            return _order(person, [("TEA-SEN", 1), ("ESP-250", 1), ("FIL-500", 3)])


def _order(person: str, items: list[tuple[str, int]], card: str = GOOD_CARD) -> Visit:
    value = {
        "customer": {"id": person, "email": f"{person}@shop.example"},
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in items],
        "card": {"token": card, "last4": "4242"},
        "note": "Bitte klingeln, schönen Gruß ☕",
    }
    return Visit("POST", "/orders", value)
