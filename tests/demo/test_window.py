import socket
import threading

import pytest

from sp_proxy.demo.places import Host
from sp_proxy.demo.window import Window


@pytest.fixture
def window():
    opened = Window(Host())
    yield opened
    opened.close()


def connect(window: Window) -> socket.socket:
    return socket.create_connection((window.address.host, window.address.port), timeout=30)


def test_one_sees_what_is_there(window):
    with socket.create_server(("127.0.0.1", 0)) as server:
        window.look_at(server.getsockname())

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                while data := peer.recv(100):
                    peer.sendall(data.upper())

        answering = threading.Thread(target=answer)
        answering.start()
        with connect(window) as client:
            for said in (b"GET /status", b"and again"):
                client.sendall(said)
                assert client.recv(100) == said.upper()
        answering.join(30)
        assert not answering.is_alive()


def test_there_is_nothing_before_it_looks_at_something(window):
    with connect(window) as client:
        assert client.recv(1) == b""


def test_where_nobody_listens_there_is_nothing(window):
    with socket.create_server(("127.0.0.1", 0)) as server:
        window.look_at(server.getsockname())
    with connect(window) as client:
        assert client.recv(1) == b""


def test_a_closed_one_refuses(window):
    window.close()
    with pytest.raises(ConnectionRefusedError):
        connect(window)
