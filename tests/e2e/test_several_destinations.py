"""Several destinations of one daemon, one of them down: the others get everything, its own records wait on disk, and the
``sp-proxy spool`` commands show, verify, export and send them when the daemon is gone.
"""

import json
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trio
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.misbehaving_backend import open_backend
from tests.origin import origin
from tests.supervisor.daemon import REAL, Daemon, running_daemon

COUNT = 30
NAMES = {f"/n/{number}" for number in range(COUNT)}
SECONDS = 20.0


async def ask(daemon: Daemon) -> None:
    async with await daemon.connect() as stream:
        for name in sorted(NAMES):
            await stream.send_all(f"GET {name} HTTP/1.1\r\nhost: shop.example\r\n\r\n".encode())
            received = b""
            while not received.endswith(b"\r\n\r\nok"):
                received += await stream.receive_some()


def names(requests: Iterable[ExportTraceServiceRequest]) -> Counter[str]:
    return Counter(
        span.name
        for request in requests
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    )


def lines(text: str) -> Counter[str]:
    """Of OTLP-JSON, one request a line. Ids are hexadecimal there, which protobuf's own JSON does not read: left out."""
    requests = []
    for line in text.splitlines():
        document = json.loads(line)
        for resource_spans in document["resourceSpans"]:
            for scope_spans in resource_spans["scopeSpans"]:
                for span in scope_spans["spans"]:
                    for key in ("traceId", "spanId", "parentSpanId"):
                        span.pop(key, None)
        requests.append(ParseDict(document, ExportTraceServiceRequest()))
    return names(requests)


async def cli(*arguments: str, config: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "sp_proxy.cli.main", *arguments, "--config", str(config)]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode()


async def statuses(daemon: Daemon, down: str) -> dict[str, Any]:
    """By name, when all others than this one are through."""
    with trio.fail_after(SECONDS):
        while True:
            document = (await daemon.get("/status")).json()
            assert document["balanced"], document
            found = {each["name"]: each for each in document["exporters"]}
            if all(each["accepted"] == COUNT for name, each in found.items() if name != down):
                return found
            await trio.sleep(0.05)


async def test_one_that_is_down_keeps_its_records_and_stops_no_other(tmp_path):
    stdout = tmp_path / "stdout.jsonl"
    into_a_file = ("sh", "-c", f'exec {shlex.join(REAL)} "$0" > {shlex.quote(str(stdout))}')
    async with origin() as upstream, open_backend() as down, open_backend() as collector:
        config = {
            "public_key": "pk-secret",
            "sp_backend_url": down.url,
            "exporters": [
                {"type": "softprobe"},
                {"type": "otlp", "name": "collector", "url": collector.url, "headers": {"x-tenant": "shop"}},
                {"type": "file", "path": str(tmp_path / "spans.jsonl")},
                {"type": "stdout"},
            ],
            "batch": {"flush_timeout": "50ms"},
            "spool": {"directory": str(tmp_path / "spool")},
            "retry": {"initial_interval": "50ms", "max_interval": "100ms"},
        }
        await down.go_down()
        async with running_daemon(upstream, config, directory=tmp_path, command=into_a_file) as daemon:
            await ask(daemon)
            found = await statuses(daemon, "softprobe")
            assert found["softprobe"]["accepted"] == 0
            assert found["softprobe"]["waiting"] + found["softprobe"]["spooled"] == COUNT
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0

        once = Counter(NAMES)
        assert names(collector.requests) == once
        assert {received.headers["x-tenant"] for received in collector.received} == {"shop"}
        assert not any("x-public-key" in received.headers for received in collector.received)
        assert lines((tmp_path / "spans.jsonl").read_text()) == once
        assert lines(stdout.read_text()) == once

        file = tmp_path / "config.json"
        code, listed = await cli("spool", "ls", config=file)
        assert (code, f"{COUNT} records" in listed) == (0, True), listed
        assert await cli("spool", "check", config=file) == (0, f"{listed.splitlines()[0]}\n0 damaged\n")
        code, exported = await cli("spool", "export", config=file)
        assert (code, lines(exported)) == (0, once)

        await down.come_up()
        code, drained = await cli("spool", "drain", config=file)
        assert (code, f"softprobe: {COUNT} accepted, 0 rejected, 0 left" in drained) == (0, True), drained
        assert names(down.requests) == once
        assert {received.headers["x-public-key"] for received in down.received} == {"pk-secret"}
