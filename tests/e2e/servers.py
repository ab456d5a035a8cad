"""Servers for end-to-end tests: nginx with a configuration of its own, the echo application, and small ones in threads."""

import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

from tests.e2e.harness import APP_UID, TIMEOUT, eventually, get
from tests.netns import Namespace

ROOT = Path(__file__).parents[2]
NGINX_PORT = 8080
ECHO_PORT = 8081

NGINX_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body;
    proxy_temp_path {directory}/nginx-proxy;
    fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi;
    scgi_temp_path {directory}/nginx-scgi;
    gzip on;
    gzip_types application/json;
    gzip_min_length 1;
    server {{
        listen 0.0.0.0:{port};
        listen [::]:{port};
        default_type application/json;
        location / {{
            add_header x-answered-by nginx;
            return 200 '{{"service":"$http_x_sp_service_name","hops":"$http_x_sp_num","traceparent":"$http_traceparent","tracestate":"$http_tracestate","old":["$http_x_service_name","$http_x_current_service"],"host":"$http_host","method":"$request_method"}}';
        }}
        location /files/ {{ root {directory}; }}
        location /moved {{ return 302 /files/data.json; }}
        location /fails {{ return 503 '{{"error":"no"}}'; }}
    }}
}}
"""


@contextmanager
def nginx(namespace: Namespace, directory: Path) -> Iterator[None]:
    """Debian's nginx on NGINX_PORT of all addresses, as the application's user."""
    directory.mkdir()
    directory.chmod(0o777)
    configuration = directory / "nginx.conf"
    configuration.write_text(NGINX_CONFIGURATION.format(directory=directory, port=NGINX_PORT), "utf-8")
    files = directory / "files"
    files.mkdir()
    (files / "data.json").write_text('{"data":[1,2,3]}' + " " * 5000)
    with (directory / "nginx.log").open("wb") as log:
        process = namespace.popen(
            *("nginx", "-e", "stderr", "-c", str(configuration), "-p", str(directory)),
            user=APP_UID,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(partial(get, namespace, NGINX_PORT, "/"), lambda answer: answer[0] == 200, "nginx answers")
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def echo(namespace: Namespace) -> Iterator[None]:
    """``echo_app`` on ECHO_PORT of all addresses, as the application's user. Speaks HTTP/2 without TLS too."""
    listening = namespace.call(partial(listen, ECHO_PORT))
    process = namespace.popen(
        *("env", "-i", f"--chdir={ROOT}", sys.executable, "-m", "hypercorn", "--bind", f"fd://{listening.fileno()}"),
        *("--keep-alive", "60", "tests.e2e.echo_app:app"),
        user=APP_UID,
        pass_fds=(listening.fileno(),),
    )
    listening.close()
    try:
        eventually(partial(get, namespace, ECHO_PORT, "/"), lambda answer: answer[0] == 200, "the echo app answers")
        yield
    finally:
        process.terminate()
        process.wait()


def listen(port: int = 0) -> socket.socket:
    """A listening socket on all addresses of both IP versions."""
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)


class SocketServer:
    """Handles each connection with a function in a thread of its own. A context manager; ``errors`` must stay empty."""

    def __init__(self, namespace: Namespace, handle: Callable[[socket.socket], None], port: int = 0) -> None:
        self._handle = handle
        self._listening = namespace.call(partial(listen, port))
        self.port: int = self._listening.getsockname()[1]
        self.accepted = 0
        self.errors: list[Exception] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listening.close()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()
        assert self.errors == []

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.accepted += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        try:
            with connection:
                self._handle(connection)
        except Exception as error:
            self.errors.append(error)


class _HttpServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = False
    block_on_close = True
    request_queue_size = 1024

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: it asks the resolver for our name.
        self.socket.bind(self.server_address)


@contextmanager
def http_server(
    namespace: Namespace, handler: type[http.server.BaseHTTPRequestHandler], port: int
) -> Iterator[http.server.ThreadingHTTPServer]:
    """The standard library's server on all addresses."""
    server = namespace.call(lambda: _HttpServer(("::", port), handler))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
