import socket
import threading
from collections.abc import Iterator

import pytest

from sp_proxy.dev import relays
from sp_proxy.dev.relays import Relays

TIMEOUT = 30


@pytest.fixture
def running() -> Iterator[Relays]:
    made = Relays()
    yield made
    made.close()
    made.close()


def echo_once(listening: socket.socket) -> threading.Thread:
    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            data = b"".join(iter(lambda: connection.recv(65536), b""))
            connection.sendall(data[::-1])

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_bytes_go_through_and_ends_are_told(running):
    sent = bytes(range(256)) * 4096
    with socket.create_server(("127.0.0.1", 0)) as origin:
        served = echo_once(origin)
        front = socket.create_server(("127.0.0.1", 0))
        running.tcp(front, origin.getsockname())
        with socket.create_connection(front.getsockname(), TIMEOUT) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: client.recv(65536), b""))
        served.join(TIMEOUT)
    assert got == sent[::-1]


def test_where_nobody_listens_the_client_is_told(running):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        front = socket.create_server(("127.0.0.1", 0))
        running.tcp(front, closed.getsockname())
        with socket.create_connection(front.getsockname(), TIMEOUT) as client:
            assert said_nothing(client)


def test_too_many_connections_are_refused(running, monkeypatch):
    monkeypatch.setattr(relays, "MAX_CONNECTIONS", 1)
    with socket.create_server(("127.0.0.1", 0)) as origin:
        front = socket.create_server(("127.0.0.1", 0))
        running.tcp(front, origin.getsockname())
        where = front.getsockname()
        with (
            socket.create_connection(where, TIMEOUT),
            origin.accept()[0],  # the first one is through when the second one comes
            socket.create_connection(where, TIMEOUT) as second,
        ):
            assert said_nothing(second)


def said_nothing(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_questions_are_answered_by_the_first_that_does(running):
    def answer(sock: socket.socket) -> None:
        data, client = sock.recvfrom(4096)
        sock.sendto(b"answer to " + data, client)

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as front,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        for each in (closed, server, front):
            each.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
        closed.close()
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        running.udp(front, [nobody, server.getsockname()])
        client.settimeout(TIMEOUT)
        client.sendto(b"a question", front.getsockname())
        assert client.recv(4096) == b"answer to a question"
        thread.join(TIMEOUT)
        running.close()
