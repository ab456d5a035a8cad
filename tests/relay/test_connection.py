"""The same conversation directly and through a real worker, compared on both ends."""

import contextlib
import select
import socket
import threading
import time

import pytest

from tests.relay.conversation import GET, OK, RESET, End, Script, converse, without_injection
from tests.relay.running_worker import RunningWorker, listening


def _get(end: End) -> None:
    end.send(GET)
    end.until(b"ok")
    end.close()


def _ok(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(OK)
    end.rest()


def _half_close_after_request(end: End) -> None:
    end.send(GET)
    end.half_close()
    end.rest()


def _answer_after_eof(end: End) -> None:
    end.rest()
    end.send(OK)
    end.close()


def _until_close(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.0 200 OK\r\n\r\nsome")
    end.send(b"thing")
    end.close()


def _truncated(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    end.close()


def _truncated_by_reset(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    time.sleep(0.1)  # the bytes must have left before the reset discards them
    end.reset()


def _get_and_rest(end: End) -> None:
    end.send(GET)
    end.rest()


def _reset_at_once(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.reset()


def _abort_in_answer(end: End) -> None:
    end.send(GET)
    end.until(b"200")
    time.sleep(0.1)
    end.reset()


def _endless_answer(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    end.rest()


def _server_first(end: End) -> None:
    end.send(b"220 mail.example ESMTP\r\n")
    end.until(b"EHLO")
    end.send(b"250 ok\r\n")
    end.rest()


def _smtp(end: End) -> None:
    end.until(b"220")
    end.until(b"\r\n")
    end.send(b"EHLO me\r\n")
    end.until(b"250 ok\r\n")
    end.close()


def _one_letter(end: End) -> None:
    end.send(b"G")
    end.until(b"got it")
    end.close()


def _answers_one_letter(end: End) -> None:
    end.receive(1)
    end.send(b"got it")
    end.rest()


def _early_answer(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    end.rest()
    end.close()


def _big_upload(end: End) -> None:
    end.send(b"POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n0123456789")
    end.until(b"big")
    end.send(b"9876543210")
    end.half_close()
    end.rest()


def _websocket(end: End) -> None:
    end.send(b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    end.until(b"\r\n\r\n")
    end.send(b"\x81\x02hi" + GET)
    end.until(b"yo")
    end.close()


def _websocket_server(end: End) -> None:
    end.until(b"\r\n\r\n")
    end.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    end.until(GET)
    end.send(b"\x81\x02yo")
    end.rest()


def _malformed(end: End) -> None:
    end.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    end.until(b"ok")
    end.close()


def _bare_lf(end: End) -> None:
    end.send(b"GET / HTTP/1.1\nHost: h\n\n")
    end.until(b"ok")
    end.close()


def _ok_after_lf(end: End) -> None:
    end.until(b"\n\n")
    end.send(OK)
    end.rest()


CONVERSATIONS: dict[str, tuple[Script, Script]] = {
    "get": (_get, _ok),
    "half-close-after-request": (_half_close_after_request, _answer_after_eof),
    "body-until-close": (_get_and_rest, _until_close),
    "truncated-answer": (_get_and_rest, _truncated),
    "truncated-by-reset": (_get_and_rest, _truncated_by_reset),
    "reset-instead-of-answer": (_get_and_rest, _reset_at_once),
    "client-aborts": (_abort_in_answer, _endless_answer),
    "server-speaks-first": (_smtp, _server_first),
    "one-letter": (_one_letter, _answers_one_letter),
    "answer-before-the-request-ends": (_big_upload, _early_answer),
    "websocket": (_websocket, _websocket_server),
    "two-framings": (_malformed, _ok),
    "bare-lf": (_bare_lf, _ok_after_lf),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_both_ends_see_what_they_see_directly(name: str) -> None:
    client, server = CONVERSATIONS[name]
    with listening() as listener:
        direct = converse(listener.getsockname(), listener, client, server)
        with RunningWorker(listener.getsockname()) as worker:
            relayed = converse(worker.address, listener, client, server)
    for one, other in zip(direct, relayed, strict=True):
        assert without_injection(bytes(other.received)) == bytes(one.received)
        assert other.end == one.end


def test_a_connection_to_a_transparent_listener_itself_is_closed_at_once() -> None:
    with RunningWorker(None) as worker:
        with contextlib.suppress(ConnectionResetError), worker.connect() as client:  # even while connecting
            client.settimeout(5)
            assert client.recv(1) == b""
        worker.counter("refused:not_redirected", 1)
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


def _ask(worker: RunningWorker) -> bytes:
    with worker.connect() as client:
        client.sendall(GET)
        return client.recv(1)


def test_a_listener_whose_upstream_is_itself_does_not_loop() -> None:
    with RunningWorker("itself") as worker:
        with pytest.raises(ConnectionResetError):  # whenever it is heard
            _ask(worker)
        worker.wait(lambda: worker.counters.get("refused:loop") == 1)
        assert worker.counters["connections"] <= 3
        worker.wait(lambda: worker.gauges["connections_open"] == 0)


def test_a_slow_head_is_forwarded_after_the_detect_timeout_and_still_injected() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHo")
        server, _ = listener.accept()
        server.settimeout(5)
        with server:
            assert server.recv(1000) == b"GET /slow HTTP/1.1\r\nHo"
            client.sendall(b"st: h\r\n\r\n")
            end = End(server)
            end.until(b"\r\n\r\n")
            assert b"x-sp-service-name: orders\r\n" in end.received
            end.send(OK)
            near = End(client)
            near.until(b"ok")
            worker.wait(lambda: len(worker.exchanges) == 1)
            assert worker.exchanges[0].target == b"/slow"


def test_a_slow_reader_makes_the_sender_wait_and_loses_nothing() -> None:
    size = 64 * 1024 * 1024
    with listening() as listener, RunningWorker(listener.getsockname()) as worker, worker.connect() as client:
        client.sendall(GET)
        server, _ = listener.accept()
        with server:
            End(server).until(b"\r\n\r\n")
            server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            server.settimeout(1.0)
            sent = 0
            piece = bytes(1 << 20)
            with contextlib.suppress(TimeoutError):
                while sent < size:
                    sent += server.send(piece)
            assert sent < size  # it was made to wait
            server.settimeout(10)

            def send_the_rest() -> None:
                left = size - sent
                while left:
                    left -= server.send(piece[:left])

            thread = threading.Thread(target=send_the_rest)
            thread.start()
            total = 0
            while total < size:
                total += len(client.recv(1 << 20))
            thread.join(10)
        worker.wait(lambda: len(worker.exchanges) == 1)
        assert worker.exchanges[0].response_body_size == size
        assert len(worker.exchanges[0].response_body) == 65536


def test_a_client_s_reset_reaches_a_server_that_does_not_read() -> None:
    with listening() as listener, RunningWorker(listener.getsockname()) as worker:
        client = worker.connect()
        client.setblocking(False)
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n")
        server, _ = listener.accept()
        with server:
            with contextlib.suppress(BlockingIOError):
                for _ in range(1000):  # until nobody takes any more
                    client.send(bytes(1 << 20))
                    time.sleep(0.001)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            poll = select.poll()
            poll.register(server, 0)
            assert poll.poll(30_000)[0][1] & select.POLLERR
            worker.wait(lambda: worker.gauges.get("connections_open") == 0)
            assert worker.counters["not_taken:reset"] == 1


@pytest.mark.parametrize("strict, arrives", [("raw", b"GET /half HTTP/1.1\r\nhost: "), ("reject", b"")])
def test_what_is_held_of_a_head_arrives_before_the_client_s_reset(strict: str, arrives: bytes) -> None:
    """Strictly read, no part of a request may pass that is not known to be whole."""
    options = {"strict": strict, "detect_timeout": 60.0}
    with listening() as listener, RunningWorker(listener.getsockname(), options=options) as worker:
        client = worker.connect()
        server, _ = listener.accept()
        with server:
            server.settimeout(10)
            client.sendall(b"GET /half HTTP/1.1\r\nhost: ")
            time.sleep(0.2)  # it must be held when the reset comes
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            got = bytearray()

            def read() -> None:
                while piece := server.recv(1000):
                    got.extend(piece)

            with pytest.raises(ConnectionResetError):
                read()
            assert bytes(got) == arrives
        worker.wait(lambda: worker.gauges.get("connections_open") == 0)


def test_clients_that_go_at_once_do_not_close_what_is_not_theirs(capfd: pytest.CaptureFixture[str]) -> None:
    """A descriptor that is closed twice is another connection's the second time."""
    with listening() as listener, RunningWorker(listener.getsockname()) as worker:
        for _ in range(40):
            clients = [worker.connect() for _ in range(100)]
            for client in clients:
                End(client).reset()
            listener.settimeout(0)
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
        worker.wait(lambda: worker.gauges["connections_open"] == 0)
    assert capfd.readouterr().err == ""


def test_refused_requests_leave_nothing_behind() -> None:
    """Refused before the upstream connection was there: neither end may stay open."""
    with listening() as listener, RunningWorker(listener.getsockname(), options={"strict": "reject"}) as worker:
        for _ in range(40):
            with worker.connect() as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n")
                end = End(client)
                end.rest()
                assert end.received.startswith(b"HTTP/1.1 400 ")
        worker.wait(lambda: worker.gauges["connections_open"] == 0)
