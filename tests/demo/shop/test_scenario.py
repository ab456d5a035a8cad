import json
from collections import Counter

from sp_proxy.demo.shop.payment import DECLINED, FAULTY
from sp_proxy.demo.shop.scenario import PEOPLE, customer_headers, visit


def visits(count):
    return [visit(person, number) for person in PEOPLE for number in range(count)]


def test_everything_that_can_go_wrong_does_within_ten_visits():
    wanted = json.dumps([[each.target, each.value] for each in visits(10)])
    for sign in ("CUP-OLD", DECLINED, FAULTY, "KTL-GSN", "/orders/{order}", "ord-lost-", "/catalog"):
        assert sign in wanted, sign


def test_the_fault_happens_once_in_a_run():
    assert json.dumps([each.value for each in visits(200)]).count(FAULTY) == 1


def test_customers_mostly_buy():
    methods = Counter(each.method for each in visits(10))
    assert methods["POST"] > methods["GET"] / 2


def test_each_customer_has_a_session_of_the_run():
    sessions = {customer_headers(person, "r1")["x-sp-session-id"] for person in PEOPLE}
    assert len(sessions) == len(PEOPLE)
    assert sessions.isdisjoint(customer_headers(person, "r2")["x-sp-session-id"] for person in PEOPLE)
