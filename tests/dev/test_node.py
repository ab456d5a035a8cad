"""``node.cjs``: where Node.js does not read the proxy variables by itself, its connections go through the proxy all the same."""

import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sp_proxy.dev import run
from tests.certificate_authority import CertificateAuthority
from tests.requirements import require_tools

PRELOAD = Path(run.__file__).with_name("node.cjs")
SCRIPT = """
const http = require('node:http'), https = require('node:https')
const got = (of, url, options) => new Promise((ok, no) =>
  of.get(url, options || {}, (r) => { let s = ''; r.on('data', (d) => s += d).on('end', () => ok(s)) }).on('error', no))
const [plain, safe, refused] = process.argv.slice(2)
const told = (promise) => promise.catch((e) => `failed: ${e.code || (e.cause && e.cause.code)}`)
;(async () => console.log(JSON.stringify([
  await told(got(http, `${plain}/http`)),
  await told(got(http, `${plain}/agent`, { agent: new http.Agent({ keepAlive: true }) })),
  await told(got(https, `${safe}/https`)),
  await told(fetch(`${plain}/fetch`).then((r) => r.text())),
  await told(fetch(`${safe}/fetch`).then((r) => r.text())),
  await told(got(http, refused)),
  await told(fetch(refused)),
])))().then(() => process.exit(0))
"""


class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"{self.path} as {self.headers['host'].partition(':')[0]}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """Nothing."""


class Proxy(http.server.BaseHTTPRequestHandler):
    """CONNECT, and what a Node.js that reads the variables itself asks in absolute form. Every name is this machine."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        url = urlsplit(self.path)
        if url.hostname == "refused.example":
            self.send_error(502)
            return
        connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=30)
        connection.request("GET", url.path, headers={"host": url.netloc})
        body = connection.getresponse().read()
        connection.close()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        host, _, port = self.path.partition(":")
        if host == "refused.example":
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", int(port)), 30) as upstream:
            back = threading.Thread(target=pump, args=(upstream, self.connection))
            back.start()
            pump(self.connection, upstream)
            back.join(30)
        self.close_connection = True

    def log_message(self, *_args: object) -> None:
        """Nothing."""


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        """A client that goes away is no error."""


@pytest.fixture
def serving() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def served(
    stack: ExitStack, handler: type[http.server.BaseHTTPRequestHandler], context: ssl.SSLContext | None = None
) -> int:
    server = stack.enter_context(Server(("127.0.0.1", 0), handler))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.shutdown)
    return server.server_address[1]


def test_every_connection_goes_through_the_proxy(serving, tmp_path):
    require_tools("node")
    authority = CertificateAuthority(tmp_path)
    Proxy.asked = []
    plain = f"http://plain.example:{served(serving, Origin)}"
    safe = f"https://safe.example:{served(serving, Origin, authority.server('safe.example'))}"
    proxy = f"http://127.0.0.1:{served(serving, Proxy)}"
    (tmp_path / "app.cjs").write_text(SCRIPT)
    done = subprocess.run(
        [shutil.which("node") or "node", "--require", str(PRELOAD), "app.cjs", plain, safe, "http://refused.example/"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "NODE_USE_ENV_PROXY": "1",
            "NODE_EXTRA_CA_CERTS": str(authority.ca_file),
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), proxy),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers[:5] == [
        "/http as plain.example",
        "/agent as plain.example",
        "/https as safe.example",
        "/fetch as plain.example",
        "/fetch as safe.example",
    ]
    assert not any(" as " in str(answer) for answer in answers[5:])
    assert len(Proxy.asked) >= 7


def test_without_a_proxy_nothing_is_changed(serving, tmp_path):
    require_tools("node")
    origin = f"http://127.0.0.1:{served(serving, Origin)}/direct"
    script = f"fetch('{origin}').then((r) => r.text()).then((t) => {{ console.log(t); process.exit(0) }})"
    done = subprocess.run(
        ["node", "--require", str(PRELOAD), "-e", script],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout == "/direct as 127.0.0.1\n"
