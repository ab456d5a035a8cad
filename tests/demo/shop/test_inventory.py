import pytest

from sp_proxy.demo.shop.inventory import PRODUCTS, Inventory
from sp_proxy.demo.shop.messages import Request


def ask(method: str, target: str):
    return Inventory().answer(Request(method, target, {}))


def test_stock_of_every_product():
    for sku, product in PRODUCTS.items():
        answer = ask("GET", f"/stock/{sku}")
        assert (answer.status, answer.value) == (200, product)


def test_the_catalog_has_them_all_whatever_the_query():
    assert len(ask("GET", "/catalog?page=1").value["products"]) == len(PRODUCTS)


@pytest.mark.parametrize("method, target", [("GET", "/stock/none"), ("GET", "/"), ("POST", "/stock/ESP-250")])
def test_everything_else_is_not_found(method, target):
    assert ask(method, target).status == 404
