"""Real traffic through real redirect rules: outside and pod are network namespaces, the daemon is a process of its own.

Every exchange is looked at from three sides: what the client got, what the application saw, what the backend has.
"""

import itertools
import json
import socket
import ssl
import struct
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e.certificates import write_certificate
from tests.e2e.clients import CLIENTS, curl, httpx_client
from tests.e2e.conftest import DETECT_TIMEOUT, Site
from tests.e2e.contract import check_identity, check_injected, check_request_headers, check_span, joined
from tests.e2e.harness import TIMEOUT, Metrics, eventually, netfilter, total
from tests.e2e.servers import ECHO_PORT, NGINX_PORT, SocketServer
from tests.netns import Namespace

WRITERS = ("nft", "iptables-nft", "iptables-legacy")
AT_ONCE = DETECT_TIMEOUT / 2
_numbers = itertools.count(1)


def fresh_path() -> str:
    """A path by which the exchange is found again."""
    return f"/orders/{next(_numbers)}?q=a%20b"


def authority(namespace: Namespace, family: int, port: int) -> str:
    return f"{namespace.ipv4}:{port}" if family == 4 else f"[{namespace.ipv6}]:{port}"


@pytest.fixture(scope="module", params=WRITERS)
def redirected(site: Site, request: pytest.FixtureRequest) -> Site:
    site.redirect(request.param)
    return site


@pytest.fixture
def nft(site: Site) -> Site:
    """For what does not depend on who wrote the rules."""
    site.redirect("nft")
    return site


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
class TestEveryExchange:
    def test_with_a_body_to_an_application(self, redirected: Site, direction: str, family: int, client: str):
        near, far = redirected.ends(direction)
        host, path = authority(far, family, ECHO_PORT), fresh_path()
        headers = {
            "Content-Type": "application/json",
            "X-Order": "7",
            "Authorization": "Bearer secret",
            "Cookie": "a=1",
        }
        body = json.dumps({"sku": "tea", "n": 2})
        answer = CLIENTS[client](near, "POST", f"http://{host}{path}", headers, body)
        assert answer.status == 200
        saw = json.loads(answer.body)
        seen = joined(saw["headers"])
        assert (saw["method"], saw["target"], saw["body"]) == ("POST", path, body)
        assert len(seen) == len(saw["headers"])  # nothing twice
        assert {name: seen[name.lower()] for name in headers} == headers
        assert seen["host"] == host
        check_injected(seen, "shop")

        exchange = redirected.daemon.exchange_where(path=path)
        check_identity(exchange, seen)
        check_span(exchange, direction, "shop", 200)
        check_request_headers(exchange, seen)
        assert exchange["parent_span_id"] == ""
        assert seen["traceparent"] == f"00-{exchange['trace_id']}-{exchange['span_id']}-01"
        assert (exchange["method"], exchange["host"], exchange["path"]) == ("POST", host, path)
        assert exchange["request"]["body"] == {"encoding": "text", "data": body, "content_type": "application/json"}
        assert exchange["response"]["body"]["data"] == answer.body
        assert dict(exchange["response"]["headers"]) == answer.headers
        attributes = exchange["attributes"]
        assert attributes["http.request.body.size"] == len(body)
        assert attributes["http.response.body.size"] == len(answer.body)
        source, target = (near.ipv4, far.ipv4) if family == 4 else (near.ipv6, far.ipv6)
        assert (attributes["client.address"], attributes["server.address"]) == (source, target)
        assert attributes["server.port"] == ECHO_PORT
        assert attributes["network.peer.address"] == (source if direction == "inbound" else target)
        assert attributes["network.protocol.version"] == "1.1"
        assert attributes["url.query"] == "q=a%20b"
        assert "secret" not in json.dumps({**exchange, "response": None})  # whose body tells of it

    def test_to_an_unmodified_server(self, redirected: Site, direction: str, family: int, client: str):
        near, far = redirected.ends(direction)
        host, path = authority(far, family, NGINX_PORT), fresh_path()
        answer = CLIENTS[client](near, "GET", f"http://{host}{path}", {}, "")
        assert answer.status == 200
        assert answer.headers["server"].startswith("nginx")
        assert answer.headers["content-encoding"] == "gzip"  # both clients ask for it
        saw = json.loads(answer.body)
        assert (saw["host"], saw["method"]) == (host, "GET")
        service, workload = saw["old"]
        seen = {
            "x-sp-service-name": saw["service"],
            "x-sp-num": saw["hops"],
            "x-service-name": service,
            "x-current-service": workload,
            "traceparent": saw["traceparent"],
            "tracestate": saw["tracestate"],
        }
        check_injected(seen, "shop")

        exchange = redirected.daemon.exchange_where(path=path)
        check_identity(exchange, seen)
        check_span(exchange, direction, "shop", 200)
        captured = dict(exchange["request"]["headers"])
        assert {name: captured[name] for name in seen} == seen
        assert exchange["response"]["body"]["data"] == answer.body  # decoded
        assert dict(exchange["response"]["headers"])["x-answered-by"] == "nginx"
        assert exchange["attributes"]["http.response.body.size"] < len(answer.body)  # as it came


def test_rules_are_what_the_settings_ask_for(redirected: Site):
    text = netfilter(redirected.pod, redirected.config, "verify")
    assert "ok    rules" in text
    assert "FAIL" not in text.upper().split()


@pytest.mark.parametrize("family", [4, 6])
def test_a_trace_goes_through_the_application(nft: Site, family: int):
    """In, through an application which hands on the W3C headers, and out: two exchanges of one trace and one session."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    outer = f"/inner/{next(_numbers)}"
    inner_url = f"http://{authority(nft.outside, family, ECHO_PORT)}{outer}"
    path = f"/call?{inner_url}"
    session = f"session-{next(_numbers)}"
    headers = {
        "traceparent": f"00-{trace}-{span}-01",
        "tracestate": "vendor=1",
        "x-sp-session-id": session,
        "x-sp-num": "3",
        "x-sp-service-name": "the-caller",
    }
    answer = curl(nft.outside, "GET", f"http://{authority(nft.pod, family, ECHO_PORT)}{path}", headers)
    saw = json.loads(answer.body)
    seen, seen_behind = joined(saw["headers"]), joined(saw["called"]["headers"])
    inbound, outbound = (nft.daemon.exchange_where(direction=way, session=session) for way in ("inbound", "outbound"))
    assert (inbound["path"], outbound["path"]) == (path, outer)
    assert inbound["trace_id"] == outbound["trace_id"] == trace
    assert (inbound["parent_span_id"], outbound["parent_span_id"]) == (span, inbound["span_id"])
    assert seen["traceparent"] == seen_behind["traceparent"] == headers["traceparent"]
    assert seen["tracestate"].endswith(",vendor=1")
    assert seen_behind["tracestate"].endswith(",vendor=1")
    check_injected(seen, "shop", hops=4)
    check_injected(seen_behind, "shop")
    check_identity(inbound, seen)
    check_identity(outbound, seen_behind)
    tree = nft.daemon.api(f"/api/v1/traces/{trace}")
    assert {inbound["span_id"], outbound["span_id"]} <= set(json.dumps(tree).replace('"', " ").split())


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize(
    "method, path, status",
    [("GET", "/moved", 302), ("GET", "/fails", 503), ("GET", "/files/none", 404), ("HEAD", "/", 200)],
)
def test_statuses_and_methods(nft: Site, direction: str, method: str, path: str, status: int):
    near, far = nft.ends(direction)
    target = f"{path}?{next(_numbers)}"
    answer = curl(near, method, f"http://{authority(far, 4, NGINX_PORT)}{target}", {"accept": "application/json"})
    assert answer.status == status
    if status in {302, 404}:  # nginx answers with a page of its own, in HTML: static content, not captured
        nft.daemon.wait_metric("sp_proxy_worker_responses_skipped_total", bool)
        return
    exchange = nft.daemon.exchange_where(path=target)
    check_span(exchange, direction, "shop", status)
    assert (exchange["response"]["body"] is None) == (method == "HEAD")


def test_many_requests_on_one_connection(nft: Site):
    url = f"http://{authority(nft.pod, 4, ECHO_PORT)}"
    paths = [fresh_path() for _ in range(20)]

    def inside() -> list[str]:
        with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
            return [dict(client.get(url + path).json()["headers"])["traceparent"] for path in paths]

    seen = nft.outside.call(inside)
    exchanges = [nft.daemon.exchange_where(path=path) for path in paths]
    assert [each["span_id"] for each in exchanges] == [traceparent.split("-")[2] for traceparent in seen]
    assert len({each["attributes"]["client.port"] for each in exchanges}) == 1
    assert (
        len({each["trace_id"] for each in exchanges}) == len({each["session_id"] for each in exchanges}) == len(paths)
    )


def test_without_rules_nothing_is_touched(site: Site):
    site.redirect("")
    connections = total(site.daemon.reported(), "sp_proxy_worker_connections_total")
    for direction in ("inbound", "outbound"):
        near, far = site.ends(direction)
        saw = json.loads(httpx_client(near, "GET", f"http://{authority(far, 6, ECHO_PORT)}/", {}).body)
        assert "x-sp-service-name" not in joined(saw["headers"])
    assert total(site.daemon.reported(), "sp_proxy_worker_connections_total") == connections


# ---- connections that must not go on


def conversation(address: str, port: int, said: bytes) -> tuple[bytes, float]:
    """What was heard until the end of the connection, and how long that took. A reset is an end like any other."""
    begun = time.monotonic()
    heard = b""
    with (
        suppress(ConnectionResetError, BrokenPipeError),  # even before connecting has returned
        socket.create_connection((address, port), TIMEOUT) as connection,
    ):
        connection.sendall(said)
        while data := connection.recv(65536):
            heard += data
    return heard, time.monotonic() - begun


REQUEST = b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n"


def test_connections_to_a_transparent_port_itself_are_closed_at_once(nft: Site):
    before = nft.daemon.reported()
    loopback = ("127.0.0.1", "::1")
    own = (nft.pod.ipv4, nft.pod.ipv6)
    tried = 0
    for namespace, addresses in ((nft.outside, own), (nft.pod, own), (nft.pod, loopback)):
        for address, port in itertools.product(addresses, (16001, 16006)):
            heard, seconds = namespace.call(partial(conversation, address, port, REQUEST))
            assert heard == b""
            assert seconds < AT_ONCE
            tried += 1
    after = nft.daemon.reported()
    for name in ("sp_proxy_worker_refused_total", "sp_proxy_worker_connections_total"):  # each once: no loop
        assert total(after, name) == total(before, name) + tried


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize("family", [4, 6])
def test_rules_that_send_the_daemons_own_connections_back_end_quickly(site: Site, family: int):
    """The bypass of our own user left out: every connection of ours arrives here again, with its original destination."""
    site.redirect("nft", user=4242)
    (worker,) = site.daemon.workers
    before = descriptors(worker)
    address = site.outside.ipv4 if family == 4 else site.outside.ipv6
    loops = total(site.daemon.reported(), "sp_proxy_worker_refused_total", 'reason="loop"')
    for _ in range(5):
        heard, seconds = site.pod.call(partial(conversation, address, NGINX_PORT, REQUEST))
        assert heard == b""
        assert seconds < AT_ONCE
        assert descriptors(worker) < before + 10
    assert total(site.daemon.reported(), "sp_proxy_worker_refused_total", 'reason="loop"') == loops + 5
    eventually(partial(descriptors, worker), lambda count: count <= before, "descriptors closed")


def test_it_has_not_suffered_from_wrong_rules(nft: Site):
    assert curl(nft.pod, "GET", f"http://{authority(nft.outside, 4, NGINX_PORT)}/", {}).status == 200


STALE_PORT = 40_000


@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_of_ours_that_the_kernel_takes_for_an_old_one_goes_on(site: Site, family: int):
    """A client's connection that we have reset, since nobody answered it, is remembered with its redirection. One of ours that
    gets its port comes back to us, by right rules.
    """
    site.redirect("nft")
    address = (site.outside.ipv4 if family == 4 else site.outside.ipv6, STALE_PORT + family)
    before = site.daemon.reported()
    for setting, value in (
        ("netfilter/nf_conntrack_tcp_timeout_close", "600"),
        ("ipv4/ip_local_port_range", f"{STALE_PORT} {STALE_PORT + 1}"),  # the first one for the next connection of ours
    ):
        site.pod.run("sh", "-c", f"echo {value} > /proc/sys/net/{setting}")

    def ask(own_port: int) -> bytes:
        own = site.pod.ipv4 if family == 4 else site.pod.ipv6
        with socket.create_connection(address, TIMEOUT, (own, own_port)) as connection:
            connection.sendall(b"GET /again HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return b"".join(iter(partial(connection.recv, 65536), b""))

    try:
        with pytest.raises(ConnectionResetError):
            site.pod.call(partial(ask, STALE_PORT))

        def answer(connection: socket.socket) -> None:
            heard = b""
            while not heard.endswith(b"\r\n\r\n"):
                heard += connection.recv(65536)
            assert heard.count(b"x-sp-num: 1\r\n") == 1, "it has been read once"
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\ntea")

        with SocketServer(site.outside, answer, address[1]):
            assert site.pod.call(partial(ask, STALE_PORT + 2 + family)).endswith(b"tea")
    finally:
        site.pod.run("sh", "-c", "echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range")
        site.pod.run("sh", "-c", "echo 10 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close")
    after = site.daemon.reported()
    for name, label, more in (("raw", 'reason="own_connection"', 1), ("refused", 'reason="loop"', 0)):
        assert (
            total(after, f"sp_proxy_worker_{name}_total", label)
            == total(before, f"sp_proxy_worker_{name}_total", label) + more
        )


# ---- what is no HTTP


def greet(connection: socket.socket) -> None:
    """A protocol in which the server speaks first, and both ends in turn."""
    connection.sendall(b"220 ready\r\n")
    said = connection.recv(1024)
    connection.sendall(b"250 " + said)


def assert_passed_unread(site: Site, before: Metrics, count: int) -> None:
    """So many connections came to the daemon, which has captured nothing of them."""
    after = site.daemon.reported()
    for name, more in (
        ("sp_proxy_worker_connections_total", count),
        ("sp_proxy_worker_raw_total", count),
        ("sp_proxy_worker_captured_total", 0),
    ):
        assert total(after, name) == total(before, name) + more, name


def test_a_server_that_speaks_first_is_heard_at_once(nft: Site):
    before = nft.daemon.reported()
    for direction, family in itertools.product(("inbound", "outbound"), (4, 6)):
        near, far = nft.ends(direction)

        def talk(address: str, port: int) -> tuple[bytes, bytes]:
            with socket.create_connection((address, port), TIMEOUT) as connection:
                first = connection.recv(1024)
                connection.sendall(b"EHLO client\r\n")
                return first, connection.recv(1024)

        begun = time.monotonic()
        with SocketServer(far, greet) as server:
            heard = near.call(partial(talk, far.ipv4 if family == 4 else far.ipv6, server.port))
        assert heard == (b"220 ready\r\n", b"250 EHLO client\r\n")
        assert time.monotonic() - begun < AT_ONCE
    assert_passed_unread(nft, before, 4)


def ask_with_tls(client: str, near: Namespace, url: str, authority: Path) -> str:
    if client == "curl":
        return near.run("curl", "--silent", "--show-error", "--cacert", str(authority), url).stdout
    context = ssl.create_default_context(cafile=authority)
    return near.call(lambda: httpx.get(url, verify=context, trust_env=False).text)


def test_tls_passes_unread(nft: Site, tmp_path: Path):
    before = nft.daemon.reported()
    for direction, client in itertools.product(("inbound", "outbound"), CLIENTS):
        near, far = nft.ends(direction)
        certificate = write_certificate(tmp_path / f"{direction}.pem", far.ipv4)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        seen: list[bytes] = []
        begun = time.monotonic()
        with SocketServer(far, partial(serve_tls, context, seen)) as server:
            assert ask_with_tls(client, near, f"https://{far.ipv4}:{server.port}/secret", certificate) == "ok"
        assert time.monotonic() - begun < AT_ONCE
        (request,) = seen
        assert request.startswith(b"GET /secret HTTP/1.1\r\n")
        assert b"x-sp-" not in request
    assert_passed_unread(nft, before, 4)


def serve_tls(context: ssl.SSLContext, seen: list[bytes], connection: socket.socket) -> None:
    with context.wrap_socket(connection, server_side=True) as stream:
        seen.append(stream.recv(65536))
        stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")


def test_bytes_that_are_no_http_pass_both_ways(nft: Site):
    """Also a half-closed connection: the server answers when it has seen the end."""
    sent = struct.pack("!I", 0xFFFFFFFF) + bytes(range(256)) * 4096

    def serve(connection: socket.socket) -> None:
        received = b"".join(iter(partial(connection.recv, 65536), b""))
        connection.sendall(received[::-1])

    def talk() -> bytes:
        with socket.create_connection((nft.pod.ipv4, server.port), TIMEOUT) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(partial(connection.recv, 65536), b""))

    with SocketServer(nft.pod, serve) as server:
        assert nft.outside.call(talk) == sent[::-1]
