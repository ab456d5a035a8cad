import socket
import threading
from contextlib import closing

from sp_proxy.demo.shop import report
from sp_proxy.demo.shop.client import Peer
from sp_proxy.demo.shop.inventory import Inventory
from sp_proxy.demo.shop.messages import Answer, Request
from sp_proxy.demo.shop.report import Call
from tests.demo.shop.serving import serving


class Headers:
    name = "headers"

    def answer(self, request: Request) -> Answer:
        return Answer(200, dict(request.headers))

    def close(self) -> None:
        pass


def test_a_call_is_made_and_reported(capsys):
    with serving(Inventory) as address, closing(Peer("orders", "inventory", address)) as peer:
        assert peer.call("GET", "/stock/ESP-250").value["name"] == "Espresso beans, 250 g"
        assert peer.call("GET", "/catalog").status == 200  # comes compressed
        assert peer.call("GET", "/stock/none").status == 404
    calls = [report.parse(line) for line in capsys.readouterr().out.splitlines()]
    assert calls == [
        Call("orders", "inventory", "GET", "/stock/ESP-250", 200),
        Call("orders", "inventory", "GET", "/catalog", 200),
        Call("orders", "inventory", "GET", "/stock/none", 404),
    ]


def test_what_is_sent():
    with serving(Headers) as address, closing(Peer("orders", "payment", address)) as peer:
        plain = peer.call("GET", "/").value
        with_body = peer.call("POST", "/", {"a": "é"}, {"traceparent": "00-x"}).value
    assert plain["host"] == "payment:8080"
    assert plain["user-agent"] == "orders/1.0"
    assert "content-type" not in plain
    assert "traceparent" not in plain
    assert (with_body["content-type"], with_body["traceparent"]) == ("application/json", "00-x")


def test_no_answer_is_status_0_and_the_next_call_works(capsys):
    with socket.create_server(("127.0.0.1", 0)) as refusing:
        address = refusing.getsockname()[:2]
    with closing(Peer("orders", "inventory", address)) as peer:
        answer = peer.call("GET", "/catalog")
        assert (answer.status, answer.value) == (0, {"title": "inventory: ConnectionRefusedError"})
        assert capsys.readouterr().out.count('"status":0') == 1
        with socket.create_server(address) as listening:
            listening.settimeout(5)
            # A peer that hangs up in the middle of a call is no answer either.
            accepting = _hang_up_on_first(listening)
            assert peer.call("GET", "/catalog").status == 0
            accepting.join()


def _hang_up_on_first(listening):
    def accept() -> None:
        sock, _ = listening.accept()
        with sock:
            sock.recv(65536)

    thread = threading.Thread(target=accept)
    thread.start()
    return thread
