"""The inventory: what there is, and how much of it. Calls nobody."""

from typing import Any
from urllib.parse import urlsplit

from sp_proxy.demo.shop.messages import Answer, Request, problem

PRODUCTS: dict[str, dict[str, Any]] = {
    sku: {"sku": sku, "name": name, "available": available, "price": price, "currency": "EUR", "warehouse": warehouse}
    for sku, name, available, price, warehouse in [
        ("ESP-250", "Espresso beans, 250 g", 812, "7.90", "HAM-2"),
        ("FIL-500", "Filter coffee, 500 g", 430, "12.40", "HAM-2"),
        ("MUG-BLU", "Stoneware mug, blue", 96, "9.50", "LEJ-1"),
        ("GRD-MAN", "Hand grinder, ceramic burrs", 31, "64.00", "LEJ-1"),
        ("KTL-GSN", "Gooseneck kettle, 0.9 l", 4, "79.90", "LEJ-1"),
        ("TEA-SEN", "Sencha 煎茶, 100 g", 150, "11.20", "HAM-2"),
    ]
}


class Inventory:
    """One connection's service."""

    name = "inventory"

    def answer(self, request: Request) -> Answer:
        """``GET /stock/SKU`` and ``GET /catalog``."""
        path = urlsplit(request.target).path
        if request.method == "GET" and path == "/catalog":
            return Answer(200, {"products": list(PRODUCTS.values())}, {"cache-control": "max-age=60"})
        if request.method == "GET" and path.startswith("/stock/"):
            sku = path.removeprefix("/stock/")
            found = PRODUCTS.get(sku)
            return Answer(200, found) if found else problem(404, "unknown product", sku=sku)
        return problem(404, "there is nothing here")

    def close(self) -> None:
        """Nothing is held."""
