"""``sp-proxy backend`` as people run it, in a process of its own, and what the browser tests send to it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.message import Message
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.backend.requests import request_of
from tests.backend.serving import listener
from tests.backend.test_logs import logs_request

PROTOBUF = {"content-type": "application/x-protobuf"}
TIMEOUT = 60
"""Seconds for one answer: of a machine that has other things to do."""


class BackendProcess:
    """A running backend."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def send(self, spans: Sequence[Span], service: str = "orders") -> None:
        """Through the OTLP intake. Returns when they are stored."""
        self._post("/v1/traces", request_of(*spans, service=service))

    def send_logs(self, records: Sequence[LogRecord], service: str = "orders") -> None:
        """Likewise."""
        self._post("/v1/logs", logs_request(*records, service=service))

    def get(self, path: str) -> Any:
        """An answer of the API."""
        return json.loads(self._ask("GET", path))

    def _post(self, path: str, message: Message) -> None:
        answer = self._ask("POST", path, message.SerializeToString(), PROTOBUF)
        assert answer == b"", answer  # no partial success

    def _ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, {**(headers or {}), **self._headers})
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        assert response.status == 200, (method, path, response.status, answer[:300])
        return answer


@contextmanager
def backend_process(
    directory: Path, *, host: str = "127.0.0.1", token: str = "", port: int = 0
) -> Iterator[BackendProcess]:
    """A backend on the database of a directory, until the block ends."""
    if not port:
        probe = listener(host)
        port = probe.getsockname()[1]
        probe.close()
    command = [sys.executable, "-m", "sp_proxy.cli.main", "backend", "--listen", f"{host}:{port}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SP_PROXY_")}
    if token:
        environment["SP_PROXY_BACKEND__TOKEN"] = token
    with (directory / "backend.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--database", str(directory / "backend.sqlite3")],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=directory,
        )
    try:
        assert process.stdout is not None
        with process.stdout:
            line = process.stdout.readline()  # the test's own time limit holds here
            assert line.startswith(b"sp-proxy backend: http://"), (line, (directory / "backend.log").read_text())
            yield BackendProcess(f"http://127.0.0.1:{port}", token)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
