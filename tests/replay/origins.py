"""An HTTP/1.1 origin on a thread, which keeps what it got and answers as it is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Got(NamedTuple):
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each.lower() == name), None)


class Origin(NamedTuple):
    url: str
    got: list[Got]


type Given = tuple[int, dict[str, str], bytes]


@contextmanager
def origin(answer: Callable[[Got], Given]) -> Iterator[Origin]:
    got: list[Got] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Callable[[], None]:
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def _answer(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length", "0")))
            request = Got(self.command, self.path, list(self.headers.items()), data)
            got.append(request)
            status, headers, content = answer(request)
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content if self.command != "HEAD" else b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Origin(f"http://127.0.0.1:{server.server_address[1]}", got)
        finally:
            server.shutdown()
            thread.join()
