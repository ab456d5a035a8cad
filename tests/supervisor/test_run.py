"""Life and death of the daemon, as real processes. The workers are fake where a flaw is wanted, else the real relay."""

import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import trio

from tests.supervisor.daemon import REAL, TIMEOUT, free_ports, running_daemon
from tests.supervisor.fake_worker import GARBLE

NOWHERE = "127.0.0.1:9"


async def first_line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = await stream.receive_some(1)
        assert data
        line += data
    return line


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def echo_server(greeting: bytes = b"") -> AsyncIterator[str]:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.send_all(greeting)
            async for data in stream:
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        host, port = listener.socket.getsockname()
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"{host}:{port}"
        nursery.cancel_scope.cancel()


class Handler(BaseHTTPRequestHandler):
    """Answers everything with the same; keeps the request bodies of POST."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.answer()

    def answer(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def http_server():
    """Address of an HTTP server, and the bodies that were posted to it."""
    bodies: list[bytes] = []
    handler = type("KeepingHandler", (Handler,), {"bodies": bodies})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


async def test_birth_in_order_and_what_the_admin_server_says(tmp_path):
    async with running_daemon(NOWHERE, {"relay": {"workers": 2}, "public_key": "s3cret"}, directory=tmp_path) as daemon:
        ready = await daemon.logged("ready")
        assert ready["listen"] == {"listen.forward[0].listen": [f"127.0.0.1:{daemon.port}"]}
        assert [line["event"] for line in daemon.log].count("worker_started") == 2
        assert (await daemon.get("/healthz/live")).status_code == 200
        assert (await daemon.get("/healthz/ready")).json()["ready"] is True
        assert await daemon.metric("sp_proxy_relay_workers_ready") == 2
        assert await daemon.metric("process_max_fds") >= 1024
        config = (await daemon.get("/config")).json()
        assert config["settings"]["relay"]["workers"] == 2
        assert "relay.workers" in config["origins"]
        assert "s3cret" not in (await daemon.get("/config")).text
        async with await daemon.connect() as stream:
            assert int(await first_line(stream)) in [line["pid"] for line in daemon.log if "pid" in line]
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert "s3cret" not in str(daemon.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_two_phases_not_ready_and_closed_first_then_what_is_in_flight_finishes(tmp_path, number):
    async with running_daemon(NOWHERE, directory=tmp_path) as daemon:
        async with await daemon.connect() as stream:
            await first_line(stream)
            daemon.signal(number)
            assert (await daemon.logged("draining"))["cause"] == number.name
            answer = await daemon.get("/healthz/ready")
            assert (answer.status_code, answer.json()["reasons"]) == (503, ["draining"])
            await stream.send_all(b"in flight")
            assert await stream.receive_some() == b"in flight"
            assert daemon.process.returncode is None
        assert await daemon.ended() == 0
        events = [line["event"] for line in daemon.log]
        order = ["draining", "worker_drained", "traffic_ended", "stopped"]
        assert [event for event in events if event in order] == [event for event in order if event in events]
        with pytest.raises(OSError):
            await daemon.connect()


@pytest.mark.parametrize(
    "first, second, code",
    [(signal.SIGTERM, signal.SIGTERM, 143), (signal.SIGINT, signal.SIGINT, 130), (signal.SIGTERM, signal.SIGINT, 130)],
)
async def test_a_second_signal_ends_it_at_once(tmp_path, first, second, code):
    async with running_daemon(NOWHERE, directory=tmp_path) as daemon:
        async with await daemon.connect() as stream:
            worker = int(await first_line(stream))
            daemon.signal(first)
            await daemon.logged("draining")
            started = time.monotonic()
            daemon.signal(second)
            assert await daemon.ended() == code
            assert time.monotonic() - started < 5
            # By itself, and not by the timer for a clean-up that hangs.
            assert (await daemon.logged("stopped"))["exit_code"] == code
        assert not alive(worker)


async def test_a_second_signal_resets_what_is_not_over(tmp_path):
    """An answer that is cut off must not look complete. With a real worker: a killed process's connections end in order."""
    with socket.create_server(("127.0.0.1", 0)) as origin:
        upstream = f"127.0.0.1:{origin.getsockname()[1]}"
        async with running_daemon(upstream, directory=tmp_path, command=REAL) as daemon:
            async with await daemon.connect() as stream:
                await stream.send_all(b"GET /cut HTTP/1.0\r\n\r\n")
                server, _ = await trio.to_thread.run_sync(origin.accept)
                with server:
                    server.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf of it")
                    head = b""
                    while not head.endswith(b"half of it"):
                        head += await stream.receive_some()
                    daemon.signal(signal.SIGTERM)
                    await daemon.logged("draining")
                    daemon.signal(signal.SIGTERM)
                    with pytest.raises(trio.BrokenResourceError):
                        await stream.receive_some()
            assert await daemon.ended() == 128 + signal.SIGTERM


async def test_the_grace_period_is_the_limit(tmp_path):
    async with (
        running_daemon(
            NOWHERE, {"shutdown": {"grace_period": "200ms", "flush_timeout": "1s"}}, directory=tmp_path
        ) as daemon,
        await daemon.connect() as stream,
    ):
        await first_line(stream)
        started = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert 0.2 <= time.monotonic() - started < 5


async def test_a_drain_by_request_and_the_sigterm_after_it_are_one_drain(tmp_path):
    async with running_daemon(NOWHERE, directory=tmp_path) as daemon:
        async with await daemon.connect() as stream:
            await first_line(stream)
            assert (await daemon.get("/drain")).status_code == 405
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.post(f"{daemon.admin}/drain")).status_code == 202
            assert (await daemon.logged("draining"))["cause"] == "POST /drain"
            daemon.signal(signal.SIGTERM)
            await daemon.get("/healthz/live")
            await stream.send_all(b"in flight")
            assert await stream.receive_some() == b"in flight"
        assert await daemon.ended() == 0


async def test_workers_end_when_the_supervisor_is_killed(tmp_path):
    async with running_daemon(NOWHERE, directory=tmp_path) as daemon:
        worker = (await daemon.logged("worker_ready"))["pid"]
        assert alive(worker)
        daemon.signal(signal.SIGKILL)
        assert await daemon.ended() == -signal.SIGKILL
        with trio.fail_after(TIMEOUT):
            while alive(worker):  # noqa: ASYNC110  # nobody is left to tell us
                await trio.sleep(0.02)


async def test_a_drain_during_the_start_ends_it_too(tmp_path):
    async with running_daemon(
        NOWHERE, directory=tmp_path, environ={"FAKE_WORKER": "hangs"}, until="worker_started"
    ) as daemon:
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert "ready" not in [line["event"] for line in daemon.log]


async def test_a_worker_whose_channel_is_garbled_is_replaced_and_counted(tmp_path):
    async with running_daemon(NOWHERE, {"relay": {"workers": 1}}, directory=tmp_path) as daemon:
        async with await daemon.connect() as stream:
            first = int(await first_line(stream))
            await stream.send_all(GARBLE)
            assert (await daemon.logged("channel_closed"))["level"] == "warning"
            await daemon.logged("worker_not_heard")
            await daemon.logged("worker_ready", 2)
            await daemon.metric_becomes("sp_proxy_channel_errors_total", lambda value: value == 1)
            assert await daemon.metric("sp_proxy_relay_worker_restarts_total") == 1
            assert await daemon.metric("sp_proxy_relay_workers_ready") == 1
            assert alive(first)
        line = await daemon.logged("worker_stopped")
        assert line["pid"] == first
        async with await daemon.connect() as stream:
            assert int(await first_line(stream)) != first
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_traffic_passes_raw_while_no_worker_lives_and_is_theirs_again_afterwards(tmp_path):
    until = tmp_path / "until"
    until.touch()
    environ = {"FAKE_WORKER": "dies", "FAKE_WORKER_UNTIL": str(until)}
    async with (
        echo_server(b"application\n") as upstream,
        running_daemon(upstream, directory=tmp_path, environ=environ, until="failing_open") as daemon,
    ):
        async with await daemon.connect() as raw:
            assert await first_line(raw) == b"application\n"
            assert await daemon.metric("sp_proxy_failing_open") == 1
            assert await daemon.metric("sp_proxy_failopen_connections") == 1
            answer = await daemon.get("/healthz/ready")
            assert (answer.status_code, answer.json()["failing_open"]) == (503, True)
            until.unlink()
            worker = (await daemon.logged("worker_ready"))["pid"]
            await daemon.logged("ready")
            await daemon.logged("failing_open_ended")
            assert await daemon.metric("sp_proxy_failing_open") == 0
            async with await daemon.connect() as stream:
                assert int(await first_line(stream)) == worker
            await raw.send_all(b"still relayed")
            assert await raw.receive_some() == b"still relayed"
            os.kill(worker, signal.SIGKILL)
            await daemon.logged("worker_died", count=1)
            # Ready is a latch: that a worker restarts does not take the daemon out of service.
            assert (await daemon.get("/healthz/ready")).status_code == 200
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_killing_the_real_worker_under_load_refuses_no_connection(tmp_path, http_server):
    upstream, _ = http_server
    async with running_daemon(upstream, directory=tmp_path, command=REAL) as daemon:
        served = refused = 0
        url = f"http://127.0.0.1:{daemon.port}/"

        async def load() -> None:
            nonlocal served, refused
            while True:
                # A new connection for each: one that a killed worker had accepted is lost with it, never refused.
                try:
                    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
                        assert (await client.get(url)).status_code == 200
                    served += 1
                except httpx.ConnectError:
                    refused += 1
                except httpx.TransportError:
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(load)
            for kill in range(1, 4):
                worker = (await daemon.logged("worker_ready", count=kill))["pid"]
                before = served
                while served < before + 10:  # noqa: ASYNC110  # the load goes on by itself
                    await trio.sleep(0.01)
                os.kill(worker, signal.SIGKILL)
                assert (await daemon.logged("worker_died", count=kill))["ended"] == "killed by SIGKILL"
            await daemon.logged("worker_ready", count=4)
            before = served
            while served < before + 10:  # noqa: ASYNC110
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert refused == 0
        assert await daemon.metric("sp_proxy_relay_worker_restarts_total") == 3


async def test_what_was_captured_is_delivered_before_the_end(tmp_path, http_server):
    upstream, bodies = http_server
    settings = {
        "sp_backend_url": f"http://{upstream}",
        "batch": {"flush_timeout": "1h"},
        "shutdown": {"grace_period": "5s", "flush_timeout": "20s"},
        "upload": {"compression": "none"},
    }
    async with running_daemon(upstream, settings, directory=tmp_path, command=REAL) as daemon:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            await client.get(f"http://127.0.0.1:{daemon.port}/find-me-in-the-batch")
        assert bodies == []
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    (body,) = bodies
    assert b"/find-me-in-the-batch" in body


async def test_the_embedded_backend_runs_beside_it_and_ends_with_it(tmp_path, http_server):
    upstream, _ = http_server
    (port,) = free_ports(1)
    settings: dict[str, Any] = {
        "sp_backend_url": f"http://127.0.0.1:{port}",
        "backend": {"enabled": True, "listen": f"127.0.0.1:{port}", "database": str(tmp_path / "store.sqlite3")},
        "batch": {"flush_timeout": "10ms"},
    }
    async with running_daemon(upstream, settings, directory=tmp_path, command=REAL) as daemon:
        assert (await daemon.logged("backend_listening"))["url"] == f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            await client.get(f"http://127.0.0.1:{daemon.port}/seen")
            await daemon.metric_becomes(
                'sp_proxy_records_accepted_total{exporter="softprobe"}', lambda value: value == 1
            )
            exchanges = (await client.get(f"http://127.0.0.1:{port}/api/v1/exchanges")).json()["exchanges"]
        assert len(exchanges) == 1
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        assert daemon.log[-1]["event"] == "stopped"
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_during_the_drain_everything_is_sent_at_once(tmp_path, http_server):
    """What carries the uploads may end before us: nothing waits for the connections that still go on."""
    upstream, bodies = http_server
    settings = {
        "sp_backend_url": f"http://{upstream}",
        "batch": {"flush_timeout": "1h"},
        "shutdown": {"grace_period": "20s", "flush_timeout": "5s"},
        "upload": {"compression": "none"},
    }
    async with running_daemon(upstream, settings, directory=tmp_path, command=REAL) as daemon:
        async with await daemon.connect() as goes_on:
            await goes_on.send_all(b"POST /goes-on HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n1")
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
                await client.get(f"http://127.0.0.1:{daemon.port}/find-me-in-the-batch")
            await daemon.metric_becomes("sp_proxy_exchanges_captured_total", lambda value: value == 1)
            daemon.signal(signal.SIGTERM)
            with trio.fail_after(TIMEOUT):
                while not any(b"/find-me-in-the-batch" in body for body in bodies):  # noqa: ASYNC110  # a thread's
                    await trio.sleep(0.01)
            assert "traffic_ended" not in [line["event"] for line in daemon.log]
            await goes_on.send_all(b"2")
            assert (await goes_on.receive_some()).startswith(b"HTTP/1.1 200")
        assert await daemon.ended() == 0
    assert any(b"/goes-on" in body for body in bodies)


async def test_a_drain_that_hangs_has_an_end(tmp_path):
    settings = {"shutdown": {"grace_period": "100ms", "flush_timeout": "100ms"}}
    async with running_daemon(NOWHERE, settings, directory=tmp_path, environ={"HANGS": "yes"}) as daemon:
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 1
        assert (await daemon.logged("not_ended_in_time"))["limit_seconds"] == pytest.approx(3.3)


async def test_systemd_is_told(tmp_path):
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(TIMEOUT)
        environ = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"}
        async with running_daemon(NOWHERE, directory=tmp_path, environ=environ) as daemon:

            async def told(what: str) -> str:
                while what not in (text := (await trio.to_thread.run_sync(manager.recv, 4096)).decode()):
                    continue
                return text

            assert "STATUS=serving" in await told("READY=1")
            await told("WATCHDOG=1")
            daemon.signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in await told("RELOADING=1")
            assert "last reload unchanged" in await told("READY=1")
            daemon.signal(signal.SIGTERM)
            await told("STOPPING=1")
            assert await daemon.ended() == 0
