"""A real worker's life: start, drain, retirement, and the end of its supervisor."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sp_proxy.core.admission import AdmissionConfig, RateConfig
from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig, RuleConfig
from sp_proxy.mitm.config import MitmConfig, TlsConfig, encode_config
from sp_proxy.relay.handoff import HandOver, send
from tests.mitm.origins import Origin, read_all, read_head
from tests.mitm.running_mitm import TIMEOUT, RunningMitm

GET = b"GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def exchange(client: socket.socket, upstream: socket.socket) -> None:
    read_head(upstream)
    upstream.sendall(NO_CONTENT)
    assert read_head(client) == NO_CONTENT


def test_sigterm_closes_idle_connections_and_lets_others_finish(origin: Origin):
    with RunningMitm(options={"flows": True}) as worker:
        idle = worker.connect(origin.address, GET)
        with idle, origin.accept() as idle_upstream:
            exchange(idle, idle_upstream)
            with worker.connect(origin.address, GET) as busy, origin.accept() as upstream:
                read_head(upstream)
                worker.process.terminate()
                assert read_all(idle) == b""
                upstream.sendall(NO_CONTENT)
                assert read_head(busy) == NO_CONTENT
        assert worker.process.wait(TIMEOUT) == 0
        assert worker.drained.wait(TIMEOUT)
        assert len(worker.exchanges) == 2
        assert worker.counters["captured"] == 2


def test_what_does_not_finish_in_the_grace_period_is_aborted(origin: Origin):
    with RunningMitm(options={"flows": True, "grace_period": 0.5}) as worker:
        with worker.connect(origin.address, GET) as client, origin.accept() as upstream:
            read_head(upstream)
            worker.process.terminate()
            assert read_all(client) == b""
        assert worker.process.wait(TIMEOUT) == 0
        assert worker.drained.wait(TIMEOUT)
        assert worker.counters["aborted_at_shutdown"] == 1
        assert [each.error for each in worker.exchanges] == ["client_aborted"]


def test_a_second_signal_ends_at_once(origin: Origin):
    with RunningMitm(options={"flows": True}) as worker:
        idle = worker.connect(origin.address, GET)
        with idle, origin.accept() as idle_upstream:
            exchange(idle, idle_upstream)
            with worker.connect(origin.address, GET) as client, origin.accept() as upstream:
                read_head(upstream)
                worker.process.terminate()
                assert read_all(idle) == b""  # the first has been seen
                worker.process.terminate()
                assert read_all(client) == b""
        assert worker.process.wait(TIMEOUT) == 0


def test_a_retired_worker_takes_nothing_new_and_ends_with_its_last_connection(origin: Origin):
    with RunningMitm(options={"flows": True, "grace_period": 0.1}) as worker:
        with worker.connect(origin.address, GET) as client, origin.accept() as upstream:
            exchange(client, upstream)
            worker.process.send_signal(signal.SIGUSR1)
            with socket.create_server(("127.0.0.1", 0)) as listening:
                nobody = listening.getsockname()
            worker.wait(lambda: not worker.takes(nobody))
            client.sendall(GET)
            exchange(client, upstream)
        assert worker.process.wait(TIMEOUT) == 0
        assert worker.drained.wait(TIMEOUT)


def test_it_ends_with_its_supervisor(origin: Origin):
    with RunningMitm(options={"flows": True}) as worker:
        worker.channel.shutdown(socket.SHUT_RDWR)
        assert worker.process.wait(TIMEOUT) == 0


def test_totals_and_gauges(flows: RunningMitm, origin: Origin):
    before = flows.counters.get("connections", 0)
    with flows.connect(origin.address, GET) as client, origin.accept() as upstream:
        exchange(client, upstream)
        flows.wait(lambda: flows.gauges.get("connections_open", 0) >= 1)
        flows.counter("connections", before + 1)
        assert flows.gauges["resident_memory_bytes"] > 1 << 20
    assert flows.exchange().status == 204


def test_a_client_of_a_forwarding_listener_may_have_the_port_of_an_upstream_connection(origin: Origin):
    """Both on this machine: only what they are connected to is different. That is no loop."""
    with (
        RunningMitm(options={"flows": True}) as worker,
        worker.connect(origin.address, GET) as first,
        origin.accept() as upstream,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), TIMEOUT) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            about = HandOver(Direction.OUTBOUND, upstream.getpeername(), origin.address, GET, redirected=False)
            send(worker.handover, accepted.fileno(), about)
        with origin.accept() as second:
            exchange(client, second)
        exchange(first, upstream)
        assert "refused:loop" not in worker.counters


def test_its_own_upstream_connection_sent_back_to_it_is_refused(origin: Origin):
    """As a wrong redirect rule does: what it has said upstream comes in again, bound for the same destination."""
    with RunningMitm(options={"flows": True}) as worker:
        with worker.connect(origin.address, GET) as client, origin.accept() as looped:
            said = read_head(looped)
            looped.setblocking(False)
            message = HandOver(Direction.OUTBOUND, looped.getpeername(), origin.address, said)
            send(worker.handover, looped.fileno(), message)
            looped.close()
            assert read_head(client).startswith(b"HTTP/1.1 502 ")
        worker.counter("refused:loop", 1)
        worker.counter("connections", 2)
        assert worker.exchange().error == "upstream_aborted"
        with worker.connect(origin.address, GET) as client, origin.accept() as upstream:
            exchange(client, upstream)


def test_a_pattern_that_would_hang_another_engine_does_not_hang_it(origin: Origin):
    policy = PolicyConfig(client_rules=(RuleConfig(paths=("(a+)+$",)),))
    with RunningMitm(policy=policy, options={"flows": True}) as worker:
        hostile = GET.replace(b"/a", b"/" + b"a" * 64 + b"!")
        with worker.connect(origin.address, hostile) as client, origin.accept() as upstream:
            exchange(client, upstream)
        worker.counter("requests:no_rule", 1)


def test_rules_are_those_of_the_relay(origin: Origin):
    policy = PolicyConfig(client_rules=(RuleConfig(paths=("^/yes",)),))
    with RunningMitm(policy=policy, options={"flows": True}) as worker:
        with worker.connect(origin.address, GET) as client, origin.accept() as upstream:
            exchange(client, upstream)
            client.sendall(GET.replace(b"/a", b"/yes"))
            exchange(client, upstream)
        found = worker.exchange()
        assert (found.target, found.rule) == (b"/yes", "client[0]")
        worker.counter("requests:no_rule", 1)


def test_sampling_and_limits_hold_here_too(origin: Origin):
    policy = PolicyConfig(client_rules=(RuleConfig(paths=("^/limited",)), RuleConfig(paths=("^/a",))))
    admission = AdmissionConfig(
        rule_limits={"client[0]": RateConfig(exchanges=0.001, exchange_burst=1.0)}, sampling_ratio=0.0
    )
    failed = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    limited = GET.replace(b"/a", b"/limited")
    with RunningMitm(policy=policy, options={"flows": True, "admission": admission}) as worker:
        with worker.connect(origin.address) as client, origin.accept() as upstream:
            for request, answer in ((GET, NO_CONTENT), (GET, failed), *[(limited, failed)] * 4):
                client.sendall(request)
                read_head(upstream)
                upstream.sendall(answer)
                assert read_head(client) == answer
        worker.counter("dropped:sampled_out", 1)
        worker.counter("captured", 6)
        worker.counter("dropped:rule_rate_limit", 2)  # a debt of one exchange is allowed
    assert [each.target for each in worker.exchanges] == [b"/a", b"/limited", b"/limited"]


def test_an_upstream_that_cannot_be_reached(flows: RunningMitm):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
    with flows.connect(address, GET) as client:
        assert read_all(client) == b""


@pytest.mark.parametrize("ca", ["missing", "broken"])
def test_without_an_authority_it_says_so_and_ends(tmp_path: Path, ca: str):
    if ca == "broken":
        (tmp_path / "own.pem").write_text("nothing")
    tls = TlsConfig(
        intercept=(".",), ca_directory=str(tmp_path), ca_file=str(tmp_path / "own.pem") if ca == "broken" else ""
    )
    ours, theirs = socket.socketpair()
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, sending, receiving, os.fdopen(os.memfd_create("config"), "w+b", buffering=0) as file:
        config = MitmConfig(64, theirs.fileno(), receiving.fileno(), HeaderConfig("a"), PolicyConfig(), tls)
        file.write(encode_config(config))
        file.seek(0)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sp_proxy.mitm", str(file.fileno())],
            pass_fds=(file.fileno(), theirs.fileno(), receiving.fileno()),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert "mitm_worker_cannot_start" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
