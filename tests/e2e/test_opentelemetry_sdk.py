"""Applications with OpenTelemetry's SDK, unmodified, and sp_proxy before each of them: everything joins in one trace.

Two services; the daemon's forward listeners stand before both and between them; the embedded backend takes OTLP from the
daemon, from the SDKs' span exporters and from their log exporters.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.supervisor.daemon import free_ports

RUN = (sys.executable, "-m", "sp_proxy.cli.main", "run")
APPLICATION = Path(__file__).with_name("instrumented_app.py")
TIMEOUT = 60
pytestmark = pytest.mark.timeout(180)


@contextmanager
def process(command: list[str], log: Path, ready: str, **environ: str) -> Iterator[None]:
    """A process that has said that it is ready; it ends by SIGTERM."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environ}
        )
    try:
        eventually(lambda: ready in log.read_text() or child.poll() is not None)
        assert child.poll() is None, log.read_text()
        yield
        child.send_signal(signal.SIGTERM)
        assert child.wait(TIMEOUT) == 0, log.read_text()
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()


def eventually(look: Callable[[], Any]) -> Any:
    """What it gives once that is true."""
    deadline = time.monotonic() + TIMEOUT
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def nodes(tree: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Every span of a tree with its parent."""
    waiting: list[tuple[dict[str, Any], dict[str, Any] | None]] = [(root, None) for root in tree["roots"]]
    while waiting:
        node, parent = waiting.pop()
        yield node["span"], parent
        waiting += [(child, node["span"]) for child in node["children"]]


def kind(span: dict[str, Any] | None) -> str:
    """What a span is, in a word: by whom, and which half."""
    if span is None:
        return "nothing"
    exchange = span["exchange"]
    return f"{span['service']} {exchange['direction']}" if exchange else f"{span['service']}'s {span['name']}"


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_spans_logs_and_exchanges_of_a_request_are_one_trace(tmp_path, compression):
    front, back, to_front, to_back, backend, admin = free_ports(6)
    config = tmp_path / "sp_proxy.yaml"
    listen = {
        "inbound": "off",
        "outbound": "off",
        "forward": [
            {"listen": f"127.0.0.1:{to_front}", "upstream": f"127.0.0.1:{front}"},
            {"listen": f"127.0.0.1:{to_back}", "upstream": f"127.0.0.1:{back}", "direction": "outbound"},
        ],
    }
    settings = {
        "service_name": "front",
        "listen": listen,
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "backend": {"enabled": True, "listen": f"127.0.0.1:{backend}", "database": str(tmp_path / "store")},
        "batch": {"flush_timeout": "100ms"},
        "spool": {"directory": str(tmp_path / "spool")},
    }
    config.write_text(yaml.safe_dump(settings))
    sdk = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{backend}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
        "NO_PROXY": "*",
    }

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{backend}/api/v1{path}", timeout=20) as answer:
            return json.load(answer)

    with ExitStack() as stack:
        stack.enter_context(process([*RUN, "--config", str(config)], tmp_path / "daemon", '"event": "ready"'))
        app = [sys.executable, str(APPLICATION)]
        for name, port, following in (("back", back, ""), ("front", front, f"http://127.0.0.1:{to_back}")):
            command = [*app, str(port), following]
            stack.enter_context(process(command, tmp_path / name, "ready", OTEL_SERVICE_NAME=name, **sdk))
        with urllib.request.urlopen(f"http://127.0.0.1:{to_front}/orders/7?x=1", timeout=20) as answer:
            assert answer.read() == b"done"

        def complete() -> Any:
            traces = ask("/traces")["traces"]
            return traces[0] if traces and traces[0]["spans"] == 5 and ask("/stats")["logs"] == 2 else None

        summary = eventually(complete)
        trace = summary["trace_id"]
        assert (summary["name"], summary["exchanges"], summary["services"]) == (
            *("GET /orders/7?x=1", 2, ["back", "front"]),
        )
        parents = {kind(span): kind(parent) for span, parent in nodes(ask(f"/traces/{trace}"))}
        assert parents == {
            "front inbound": "nothing",
            "front's handle": "front inbound",
            "front's call": "front's handle",
            "front outbound": "front inbound",
            # The SDK's own context goes on as it is: sp_proxy adds one only where there is none.
            "back's handle": "front's call",
        }
        records = ask(f"/logs?trace={trace}")["logs"]
        assert {(record["service"], record["body"], record["severity_text"]) for record in records} == {
            ("front", "answered /orders/7?x=1", "WARN"),
            ("back", "answered /orders/7?x=1", "WARN"),
        }
        assert all(record["details"]["attributes"]["customer"] == "kingfisher" for record in records)
        spans = {span["span_id"]: span for span, _ in nodes(ask(f"/traces/{trace}"))}
        assert {kind(spans[record["span_id"]]) for record in records} == {"front's handle", "back's handle"}
