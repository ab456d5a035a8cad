"""ClickHouse's HTTP interface, as far as clickhouse-connect speaks it, over the engine in this process."""

import base64
import gzip
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import lz4.frame
import zstandard

from tests.backend.clickhouse.engine import client

PASSWORD = "s3cret"
_lock = threading.Lock()
_DECODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "lz4": lz4.frame.decompress,
    "zstd": zstandard.decompress,
}


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.body()
        coding = self.headers.get("content-encoding")
        body = _DECODE[coding](body) if coding else body
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get("authorization") != f"Basic {base64.b64encode(f'default:{PASSWORD}'.encode()).decode()}":
            self.answer(403, b"Code: 516. DB::Exception: default: Authentication failed", {})
            return
        statement = parameters.get("query", "")
        if not statement:
            first, _, rest = body.partition(b"\n")
            # An insert has its rows behind its first line, whatever bytes they are.
            inserts = first.startswith(b"INSERT") and first.endswith(b"FORMAT Native")
            statement, body = (first.decode(), rest) if inserts else (body.decode(), b"")
        try:
            with _lock:
                result = self.run(statement, body, parameters)
        except Exception as error:
            self.answer(404, str(error).encode(), {"x-clickhouse-exception-code": "60"})
            return
        self.answer(200, result, {"x-clickhouse-summary": "{}"})

    do_GET = do_POST  # noqa: N815

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def run(self, statement: str, rows: bytes, parameters: dict[str, str]) -> bytes:
        if rows:
            with tempfile.TemporaryDirectory() as directory:
                file = Path(directory) / "block.native"
                file.write_bytes(rows)
                client().command(f"{statement.removesuffix('FORMAT Native')} FROM INFILE '{file}' FORMAT Native")
            return b""
        for name, value in parameters.items():
            if name.startswith("param_"):
                escaped = value.replace("\\", "\\\\").replace("'", "\\'")
                client().command(f"SET {name} = '{escaped}'")
        settings = {"final": parameters["final"]} if "final" in parameters else {}
        return client().raw(statement, parameters.get("default_format"), settings)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {
            **headers,
            "content-length": str(len(body)),
            "x-clickhouse-server-display-name": "t",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its parent's name)
        pass


@contextmanager
def serving() -> Iterator[str]:
    """Its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
