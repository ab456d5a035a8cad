import json

import pytest

from sp_proxy.demo.shop.messages import Request
from sp_proxy.demo.shop.payment import DECLINED, FAULTY, Payment

CHARGE = {"order_id": "ord-1", "amount": "7.90", "currency": "EUR", "card": {"token": "tok", "last4": "4242"}}


def charge(value, headers=None):
    headers = {"authorization": "Bearer x"} if headers is None else headers
    return Payment().answer(Request("POST", "/charge", headers, json.dumps(value).encode()))


def test_a_charge_is_captured_with_the_same_receipt_each_time():
    one, two = charge(CHARGE), charge(CHARGE)
    assert one.status == 201
    assert one.value["status"] == "captured"
    assert one.value["charge_id"] == two.value["charge_id"] != charge({**CHARGE, "amount": "8"}).value["charge_id"]


@pytest.mark.parametrize("token, status", [(DECLINED, 402), (FAULTY, 500)])
def test_some_cards_fail(token, status):
    assert charge({**CHARGE, "card": {"token": token}}).status == status


@pytest.mark.parametrize("value", [{}, [], {"order_id": "a"}, {k: v for k, v in CHARGE.items() if k != "card"}])
def test_a_charge_without_its_parts_is_refused(value):
    assert charge(value).status == 400


def test_strangers_are_refused():
    assert charge(CHARGE, {}).status == 401


def test_everything_else_is_not_found():
    assert Payment().answer(Request("GET", "/charge", {})).status == 404
