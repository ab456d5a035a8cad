"""Which tap, and which worker, a connection gets; and in a real worker, that it is handed over untouched."""

import os
import socket
import struct
import time
from collections import defaultdict

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.relay.config import WorkerConfig
from sp_proxy.relay.detect import Detection
from sp_proxy.relay.handoff import STATE_BYTES, EngineState, receive
from sp_proxy.taps.context import Endpoints, Signal
from sp_proxy.taps.http1 import Http1Tap
from sp_proxy.taps.sniff import HandOverRules
from sp_proxy.taps.tls import TlsTap
from tests.relay.running_worker import RunningWorker
from tests.taps.rig import Wire
from tests.taps.test_tls_hello import client_hello

NOTHING = HandOverRules()
ENDS = Endpoints("127.0.0.1", 40000, "127.0.0.1", 443)


def detection(rules: HandOverRules = NOTHING) -> Detection:
    return Detection(WorkerConfig(0, -1, (), HeaderConfig("a"), PolicyConfig(), hand_over=rules))


def test_without_a_mitm_worker_nothing_is_held_for_it():
    tap = detection(HandOverRules(tls_intercept=(".",), http=True)).first_tap(ENDS)
    tap.client(client_hello("a.test")[:10])
    assert tap.signal is Signal.KEEP


def test_the_tap_for_what_stays():
    context = Wire().context
    assert isinstance(Detection.next_tap(context, ENDS, b"\x16\x03\x01"), TlsTap)
    assert isinstance(Detection.next_tap(context, ENDS, b"GET /"), Http1Tap)
    assert isinstance(Detection.next_tap(context, ENDS, b""), Http1Tap)


def test_without_a_mitm_worker_nothing_is_handed_over():
    assert not detection().hand_over(defaultdict(int), 0, Direction.INBOUND, ENDS, b"", redirected=True)


class Engine:
    """Stands for the supervisor's part: the receiving end, and the state."""

    def __init__(self) -> None:
        self.sending, self.receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.state_fd = os.memfd_create("state")
        os.truncate(self.state_fd, STATE_BYTES)
        self.state = EngineState(self.state_fd)
        self.state.takes = True
        self.receiving.settimeout(10)

    def options(self, rules: HandOverRules) -> dict[str, object]:
        return {"hand_over": rules, "handover_fd": self.sending.fileno(), "engine_state_fd": self.state_fd}


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.sending.close()
    engine.receiving.close()
    os.close(engine.state_fd)


@pytest.fixture
def origin():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


def running(origin: socket.socket, engine: Engine, rules: HandOverRules, **options: object) -> RunningWorker:
    return RunningWorker(
        origin.getsockname(),
        options=engine.options(rules) | options,
        pass_fds=(engine.sending.fileno(), engine.state_fd),
    )


def test_a_connection_is_handed_over_with_its_first_bytes_and_its_own_upstream_saw_none(origin, engine):
    hello = client_hello("shop.test")
    with running(origin, engine, HandOverRules(tls_intercept=("shop",))) as worker, worker.connect() as client:
        client.sendall(hello[:100])
        client.sendall(hello[100:])
        found = receive(engine.receiving)
        assert found is not None
        adopted, message = found
        assert message.prefix == hello
        assert message.client == client.getsockname()
        assert message.destination == origin.getsockname()
        speculative, _ = origin.accept()
        with speculative:
            speculative.settimeout(10)
            assert speculative.recv(100) == b""
        with adopted:
            adopted.setblocking(True)
            adopted.settimeout(10)
            client.sendall(b"more")
            assert adopted.recv(100) == b"more"
            adopted.sendall(b"answer")
            assert client.recv(100) == b"answer"
        worker.counter("handed_over", 1)
        worker.wait(lambda: worker.gauges.get("connections_open") == 0)


def test_other_names_pass_through_and_are_counted(origin, engine):
    hello = client_hello("bank.test", "h2")
    with running(origin, engine, HandOverRules(tls_intercept=("shop",))) as worker, worker.connect() as client:
        client.sendall(hello)
        upstream, _ = origin.accept()
        with upstream:
            assert upstream.recv(4096) == hello
            upstream.sendall(b"server hello")
            assert client.recv(100) == b"server hello"
        worker.counter("tls_server_names:bank.test", 1)
        worker.counter("tls_alpn:h2", 1)
        worker.counter("raw:tls", 1)
        assert "handed_over" not in worker.counters


def test_server_names_are_matched_in_linear_time(origin, engine):
    """``(a+)+$`` takes the standard library's engine 2**60 steps."""
    hello = client_hello("a" * 60 + "-")
    with running(origin, engine, HandOverRules(tls_intercept=("^(a+)+$",))) as worker, worker.connect() as client:
        client.sendall(hello)
        upstream, _ = origin.accept()
        with upstream:
            upstream.settimeout(10)
            assert upstream.recv(4096) == hello
        worker.counter("raw:tls", 1)


def test_while_the_engine_is_down_connections_stay(origin, engine):
    engine.state.takes = False
    with running(origin, engine, HandOverRules(http=True)) as worker, worker.connect() as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        upstream, _ = origin.accept()
        with upstream:
            assert upstream.recv(4096).startswith(b"GET /a HTTP/1.1\r\nHost: a\r\nx-sp-service-name: orders\r\n")
            upstream.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert client.recv(100) == b"HTTP/1.1 204 No Content\r\n\r\n"
        worker.counter("hand_over_refused:engine_down", 1)
        worker.wait(lambda: bool(worker.exchanges))


def test_a_server_that_speaks_first_is_heard(origin, engine):
    with running(origin, engine, HandOverRules(http=True)) as worker, worker.connect() as client:
        upstream, _ = origin.accept()
        with upstream:
            upstream.sendall(b"220 ready\r\n")
            assert client.recv(100) == b"220 ready\r\n"
            client.sendall(b"EHLO a\r\n")
            assert upstream.recv(100) == b"EHLO a\r\n"


def test_a_slow_beginning_is_let_go_in_time(origin, engine):
    with running(origin, engine, HandOverRules(http=True)) as worker, worker.connect() as client:
        client.sendall(b"G")
        upstream, _ = origin.accept()
        with upstream:
            upstream.settimeout(10)
            assert upstream.recv(100) == b"G"


def test_what_is_held_for_two_reasons_arrives_before_the_client_s_reset(origin, engine):
    """It may be a WebSocket's, which is the mitm worker's; and it is half a head, which is held for that in its turn."""
    rules = HandOverRules(websocket=True)
    with running(origin, engine, rules, detect_timeout=60.0) as worker, worker.connect() as client:
        server, _ = origin.accept()
        with server:
            server.settimeout(10)
            client.sendall(b"GET /half HTTP/1.1\r\nhost: ")
            time.sleep(0.2)  # it must be held when the reset comes
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            assert server.recv(1000) == b"GET /half HTTP/1.1\r\nhost: "
            with pytest.raises(ConnectionResetError):
                server.recv(1000)
