"""The explicit proxy, through a real worker: tunnels, requests in absolute form, one origin after the other."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sp_proxy.core.exchange import Exchange
from sp_proxy.relay.downstream import GAVE_UP_AFTER
from sp_proxy.relay.explicit_proxy import elsewhere
from tests.relay.conversation import OK, End, without_injection
from tests.relay.running_worker import RunningWorker, listening, unreachable
from tests.relay.test_listener import listener

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(scope="module")
def proxy() -> Iterator[RunningWorker]:
    with RunningWorker("proxy") as worker:
        yield worker
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


def records(proxy: RunningWorker, client: End, count: int) -> list[Exchange]:
    """Those of one client, once so many are there."""

    def found() -> list[Exchange]:
        return [each for each in proxy.exchanges if each.client_port == client.port]

    proxy.wait(lambda: len(found()) >= count)
    assert len(found()) == count
    return found()


def authority(origin: socket.socket) -> bytes:
    return b"127.0.0.1:%d" % origin.getsockname()[1]


def connect(to: bytes) -> bytes:
    return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (to, to)


def get(to: bytes, path: bytes = b"/a", more: bytes = b"") -> bytes:
    return b"GET http://%b%b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (to, path, to, more)


def seen(to: bytes, path: bytes = b"/a") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, to)


def accept(origin: socket.socket) -> End:
    origin.settimeout(10)
    sock, _ = origin.accept()
    sock.settimeout(10)
    return End(sock)


def test_a_tunnel_is_a_connection_like_any_other(proxy: RunningWorker) -> None:
    with listening() as origin, proxy.connect() as sock:
        client = End(sock)
        to = authority(origin)
        client.send(connect(to) + b"GET /early HTTP/1.1\r\nHost: h\r\n\r\n")
        client.until(ESTABLISHED)
        with accept(origin).sock as server_sock:
            server = End(server_sock)
            server.until(b"\r\n\r\n")
            assert without_injection(bytes(server.received)) == b"GET /early HTTP/1.1\r\nHost: h\r\n\r\n"
            server.send(OK)
            client.until(b"ok")
            client.half_close()
            server.rest()
            server.send(b"and more")
            server.half_close()
            client.rest()
    assert client.received == ESTABLISHED + OK + b"and more"
    (record,) = records(proxy, client, 1)
    assert (record.target, record.server_address, record.server_port) == (b"/early", *origin_of(to))


def origin_of(to: bytes) -> tuple[str, int]:
    host, _, port = to.decode().rpartition(":")
    return host, int(port)


@pytest.mark.parametrize("end", [End.reset, End.close])
def test_how_the_origin_ends_a_tunnel_is_how_it_ends(proxy: RunningWorker, end: object) -> None:
    with listening() as origin, proxy.connect() as sock:
        client = End(sock)
        client.send(connect(authority(origin)))
        client.until(ESTABLISHED)
        server = accept(origin)
        server.send(b"220 hello\r\n")
        client.until(b"hello\r\n")
        if end is End.reset:
            server.reset()
        else:
            server.close()
        client.rest()
    assert client.end == ("reset" if end is End.reset else "eof")


def test_a_request_in_absolute_form(proxy: RunningWorker) -> None:
    with listening() as origin, proxy.connect() as sock:
        client = End(sock)
        to = authority(origin)
        client.send(get(to, b"/a?b", b"Proxy-Connection: keep-alive\r\n"))
        with accept(origin).sock as server_sock:
            server = End(server_sock)
            server.until(b"\r\n\r\n")
            assert without_injection(bytes(server.received)) == seen(to, b"/a?b")
            server.send(OK)
            client.until(b"ok")
            client.send(get(to, b"/c"))
            server.until(b"/c HTTP")
            server.send(OK)
            client.received.clear()
            client.until(b"ok")
            assert client.received == OK
    first, second = records(proxy, client, 2)
    assert (first.target, second.target) == (b"/a?b", b"/c")
    assert (first.server_address, first.server_port) == origin_of(to)


def test_one_origin_after_the_other(proxy: RunningWorker) -> None:
    """Pipelined, too: the second request waits for the first's answer, and the first connection ends."""
    with listening() as one, listening() as other, proxy.connect() as sock:
        client = End(sock)
        client.send(get(authority(one)) + get(authority(other), b"/b"))
        client.send(connect(authority(one)))
        first = accept(one)
        first.until(b"\r\n\r\n")
        first.send(OK)
        client.until(b"ok")
        first.rest()
        assert first.end == "eof"
        assert without_injection(bytes(first.received)) == seen(authority(one))
        first.close()
        second = accept(other)
        second.until(b"\r\n\r\n")
        assert without_injection(bytes(second.received)) == seen(authority(other), b"/b")
        second.send(OK.replace(b"ok", b"up"))
        client.until(b"up")
        third = accept(one)
        client.until(ESTABLISHED)
        client.send(b"\x00raw")
        third.until(b"raw")
        assert third.received == b"\x00raw"
        second.close()
        third.close()
        client.rest()
    assert len(records(proxy, client, 2)) == 2


def test_a_large_answer_before_another_origin(proxy: RunningWorker) -> None:
    size = 8 << 20
    with listening() as one, listening() as other, proxy.connect() as sock:
        client = End(sock)
        client.send(get(authority(one)) + get(authority(other)))
        first = accept(one)
        first.until(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        first.sock.setblocking(True)
        sender = sending(first.sock, head + bytes(size))
        time.sleep(0.3)  # a client that is slower than its origin
        client.receive(len(head) + size)
        sender.join()
        second = accept(other)
        second.until(b"\r\n\r\n")
        second.send(OK)
        client.until(b"ok")
        assert (client.end, len(client.received)) == ("", len(head) + size + len(OK))
        assert client.received.startswith(head)
        assert client.received.endswith(OK)
        assert client.received.count(0) == size
        first.close()
        second.close()


def sending(sock: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=sock.sendall, args=(data,))
    thread.start()
    return thread


@pytest.mark.parametrize(
    "said, status",
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\x05hello", b"400"),
        (b"CONNECT nowhere HTTP/1.1\r\n\r\n", b"400"),
        (b"GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", b"501"),
        (b"CONNECT no-such-host.invalid:80 HTTP/1.1\r\n\r\n", b"502"),
        (b"GET http://no-such-host.invalid/ HTTP/1.1\r\nHost: no-such-host.invalid\r\n\r\n", b"502"),
        (b"CONNECT " + b"a" * 300 + b".:80 HTTP/1.1\r\n\r\n", b"502"),
        (b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n", b"502"),
    ],
)
def test_what_is_answered_here(proxy: RunningWorker, said: bytes, status: bytes) -> None:
    with proxy.connect() as sock:
        client = End(sock)
        client.send(said)
        client.rest()
    assert client.received.startswith(b"HTTP/1.1 %b " % status)
    assert client.end == "eof"


def test_an_origin_that_cannot_be_reached_is_a_record(proxy: RunningWorker) -> None:
    with proxy.connect() as sock:
        client = End(sock)
        client.send(get(b"127.0.0.1:1"))
        client.rest()
    (record,) = records(proxy, client, 1)
    assert (record.target, record.error, record.status) == (b"/a", "upstream_unreachable", 0)
    assert (record.server_address, record.server_port) == ("127.0.0.1", 1)


@pytest.mark.parametrize("said", [b"", b"GET http://127.0", b"\r\n\r\n"])
@pytest.mark.parametrize("leave", [End.half_close, End.reset])
def test_a_client_that_asks_for_nothing(proxy: RunningWorker, said: bytes, leave: object) -> None:
    with proxy.connect() as sock:
        client = End(sock)
        client.send(said)
        if leave is End.half_close:
            client.half_close()
            client.rest()
            assert (bytes(client.received), client.end) == (b"", "eof")
        else:
            client.reset()


def test_a_client_that_goes_while_its_origin_is_being_connected(proxy: RunningWorker) -> None:
    with unreachable() as address, proxy.connect() as sock:
        client = End(sock)
        client.send(connect(b"%b:%d" % (address[0].encode(), address[1])))
        proxy.wait(lambda: proxy.gauges["connections_open"] == 1)
        time.sleep(GAVE_UP_AFTER * 1.2)
        client.close()
        proxy.wait(lambda: proxy.gauges["connections_open"] == 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0.0.0.0", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("form", [connect, get])
def test_asked_for_itself(proxy: RunningWorker, host: str, form: object) -> None:
    to = f"{host}:{proxy.address[1]}".encode()
    before = proxy.counters.get("connections", 0)
    with proxy.connect() as sock:
        client = End(sock)
        client.send(connect(to) if form is connect else get(to))
        client.rest()
    assert client.received.startswith(b"HTTP/1.1 502 ")
    proxy.wait(lambda: proxy.counters["connections"] > before)
    assert proxy.counters["connections"] == before + 1


def test_addresses_of_a_listener_on_all_addresses() -> None:
    with socket.create_server(("0.0.0.0", 0)) as wild:
        port = wild.getsockname()[1]
        here = listener(wild, None)
        with socket.create_connection(("127.0.0.3", port)), wild.accept()[0] as client:
            asked = [
                ("127.0.0.1", port),
                ("::1", port),
                ("0.0.0.0", port),
                ("127.0.0.3", port),
                ("::ffff:127.0.0.1", port),
            ]
            others = [("127.0.0.1", port + 1), ("192.0.2.1", port), ("::ffff:192.0.2.1", port)]
            assert elsewhere(asked, here, client) == []
            assert elsewhere(others, here, client) == [*others[:2], ("192.0.2.1", port)]
