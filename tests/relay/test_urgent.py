"""Urgent data goes on as urgent, in its place. Receivers have it in line (SO_OOBINLINE), so that what they see shows where it stood."""

import socket
import threading

import pytest

from tests.relay.conversation import OK, End
from tests.relay.running_worker import RunningWorker, listening

BULK = bytes(4 << 20)
REQUEST = (b"GET / HTTP/1.1\r\n", b"host: a\r\n\r\n")


def receiver(sock: socket.socket) -> End:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.settimeout(30)
    return End(sock)


def send(sock: socket.socket, before: bytes, behind: bytes) -> None:
    sock.sendall(before)
    sock.send(b"!", socket.MSG_OOB)
    sock.sendall(behind)


@pytest.mark.parametrize("from_client", [True, False])
def test_it_keeps_its_place(from_client: bool) -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(b"\0")
        server, _ = listener.accept()
        with server:
            assert server.recv(1) == b"\0"
            here, there = (client, server) if from_client else (server, client)
            end = receiver(there)
            for _ in range(3):
                end.received.clear()
                send(here, b"before", b"behind")
                end.until(b"behind")
                assert end.received == b"before!behind"
            send(here, b"", b"")
            here.shutdown(socket.SHUT_WR)
            end.received.clear()
            end.rest()
            assert end.received == b"!"
            assert end.end == "eof"


def test_what_is_held_of_a_head_goes_before_it() -> None:
    options = {"detect_timeout": 60.0}
    with (
        listening() as listener,
        RunningWorker(listener.getsockname(), options=options) as worker,
        worker.connect() as client,
    ):
        server, _ = listener.accept()
        with server:
            end = receiver(server)
            client.sendall(REQUEST[0])
            client.send(b"!", socket.MSG_OOB)
            end.until(b"!")  # and the rest of the head is not there
            client.sendall(REQUEST[1])
            end.until(b"\r\n\r\n")
            assert end.received.startswith(REQUEST[0] + b"!host: a\r\nx-sp-service-name: orders\r\n")
            end.send(OK)
            worker.counter("captured", 1)


def test_strictly_read_nothing_passes_that_was_not_read() -> None:
    options = {"strict": "reject"}
    with (
        listening() as listener,
        RunningWorker(listener.getsockname(), options=options) as worker,
        worker.connect() as client,
    ):
        send(client, *REQUEST)
        server, _ = listener.accept()
        with server:
            end = receiver(server)
            end.until(b"\r\n\r\n")
            assert b"!" not in end.received


def test_the_explicit_proxy_reads_all_that_goes_to_an_origin() -> None:
    with listening() as listener, RunningWorker("proxy") as worker, worker.connect() as client:
        target = b"http://127.0.0.1:%d/" % listener.getsockname()[1]
        send(client, b"GET %b HTTP/1.1\r\n" % target, REQUEST[1])
        server, _ = listener.accept()
        with server:
            end = receiver(server)
            end.until(b"\r\n\r\n")
            assert b"!" not in end.received


def test_it_waits_for_what_was_written_before_and_a_splice_ends_before_it() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.settimeout(30)
        server, _ = listener.accept()
        with server:
            end = receiver(server)
            thread = threading.Thread(target=send, args=(client, b"\0" + BULK, BULK + b"behind"))
            thread.start()
            end.until(b"behind")
            thread.join()
            assert bytes(end.received).index(b"!") == 1 + len(BULK)
            assert len(end.received) == 2 + 2 * len(BULK) + len(b"behind")
            worker.counter("raw:not_http", 1)
