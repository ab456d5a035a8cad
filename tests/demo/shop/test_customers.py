import threading

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.demo.shop import report
from sp_proxy.demo.shop.customers import NO_ORDER, Traffic, drive, shares
from sp_proxy.demo.shop.messages import Answer, Request, problem
from sp_proxy.demo.shop.scenario import PEOPLE
from tests.demo.shop.serving import serving


class FakeOrders:
    """Sells everything."""

    name = "orders"
    requests: list[Request]
    on_request = staticmethod(lambda: None)

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        self.on_request()
        session = request.headers["x-sp-session-id"]
        if request.method == "POST":
            return Answer(201, {"status": "paid", "order_id": f"of-{session}"})
        return problem(404, "no")

    def close(self) -> None:
        pass


def fake():
    return type("Fake", (FakeOrders,), {"requests": []})


@given(st.integers(0, 10_000))
def test_shares_add_up_and_are_even(requests):
    parts = shares(requests)
    assert sum(parts) == requests
    assert max(parts) - min(parts) <= 1


def test_a_burst_sends_what_was_asked_for_and_ends(capsys):
    service = fake()
    with serving(service) as address:
        drive(address, "r", Traffic(30), threading.Event())
    assert len(service.requests) == 30
    assert {each.headers["x-sp-session-id"] for each in service.requests} == {f"sess-{name}-r" for name in PEOPLE}
    calls = [report.parse(line) for line in capsys.readouterr().out.splitlines()]
    assert [call is not None and call.source for call in calls] == ["customers"] * 30


def test_customers_ask_for_their_own_latest_order():
    service = fake()
    with serving(service) as address:
        drive(address, "r", Traffic(12), threading.Event())
    asked = {each.target: each.headers["x-sp-session-id"] for each in service.requests if "/of-" in each.target}
    assert asked == {f"/orders/of-sess-{name}-r": f"sess-{name}-r" for name in PEOPLE}
    assert not any(NO_ORDER in each.target for each in service.requests)


def test_slow_traffic_goes_on_until_it_is_stopped():
    service, stop = fake(), threading.Event()

    def stop_after_enough() -> None:
        if len(service.requests) >= 20:
            stop.set()

    service.on_request = staticmethod(stop_after_enough)
    with serving(service) as address:
        drive(address, "r", Traffic(4, slow_pause=0.001), stop)
    assert 20 <= len(service.requests) <= 20 + len(PEOPLE)
