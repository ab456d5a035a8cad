"""TLS through real redirect rules: passed through with the origin's own certificate, or opened where that is wanted."""

import itertools
import json
import os
import signal
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Pair
from tests.e2e.contract import check_identity, check_injected, joined
from tests.e2e.grpc_calls import TLS_PORT as GRPC_TLS_PORT
from tests.e2e.grpc_calls import calls, check_records, grpc_server, without_identity
from tests.e2e.harness import TIMEOUT, eventually, total
from tests.e2e.intercepted import TLS_PORT, TlsSite, address, fetch, tls_site
from tests.netns import Namespace

_numbers = itertools.count(1)


def fresh_path() -> str:
    return f"/secret/{next(_numbers)}?q=1"


@pytest.fixture(scope="module")
def site(pair: Pair) -> Iterator[TlsSite]:
    settings = {"tls": {"intercept": [r"\.test$"], "never": ["^bank"]}}
    with tls_site(*pair, settings, ("tls_client_failed", "mitm_worker_died")) as site:
        yield site


def ask(near: Namespace, far: Namespace, family: int, name: str, path: str, *options: str):
    resolve = f"{name}:{TLS_PORT}:{address(far, family)}"
    return fetch(near, f"https://{name}:{TLS_PORT}{path}", "--resolve", resolve, *options)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
class TestOpened:
    @pytest.mark.parametrize("version", ["1.1", "2"])
    def test_it_is_captured_and_injected(self, site: TlsSite, direction: str, family: int, version: str):
        near, far = site.ends(direction)
        path = fresh_path()
        flag = "--http2" if version == "2" else "--http1.1"
        body = json.dumps({"sku": "tea"})
        fields = ("--header", "content-type: application/json", "--data-binary", body)
        answer = ask(near, far, family, "shop.test", path, flag, "--cacert", str(site.ca), *fields)
        assert (answer.code, answer.http_version) == (0, version)
        assert (answer.seen["target"], answer.seen["body"]) == (path, body)
        seen = joined(answer.seen["headers"])
        check_injected(seen, "shop")
        exchange = site.daemon.exchange_where(path=path)
        check_identity(exchange, seen)
        attributes = exchange["attributes"]
        expected = {
            "url.scheme": "https",
            "http.request.header.:scheme": "https",
            "url.full": f"https://shop.test:{TLS_PORT}{path}",
            "sp.traffic.direction": direction,
            "http.response.status_code": 200,
            "network.protocol.version": version,
            "server.port": TLS_PORT,
        }
        assert {name: attributes[name] for name in expected} == expected
        source, target = (near.ipv4, far.ipv4) if family == 4 else (near.ipv6, far.ipv6)
        assert attributes["client.address"] == source
        assert attributes["network.peer.address"] == (source if direction == "inbound" else target)
        assert exchange["request"]["body"]["data"] == body


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_httpx_with_http2(site: TlsSite, direction: str, family: int):
    near, far = site.ends(direction)
    path = fresh_path()

    def inside() -> list[httpx.Response]:
        trusted = ssl.create_default_context(cafile=str(site.ca))
        with httpx.Client(http2=True, verify=trusted, trust_env=False, timeout=TIMEOUT) as client:
            request = client.build_request("POST", f"https://{address(far, family)}:{TLS_PORT}{path}", content=b"tea")
            request.extensions["sni_hostname"] = "shop.test"
            return [client.send(request) for _ in range(2)]

    answers = near.call(inside)
    assert [answer.http_version for answer in answers] == ["HTTP/2", "HTTP/2"]
    for answer in answers:
        seen = joined(answer.json()["headers"])
        check_injected(seen, "shop")
        exchange = site.daemon.exchange_where(trace=seen["traceparent"].split("-")[1])
        check_identity(exchange, seen)
        assert exchange["attributes"]["network.protocol.version"] == "2"


@pytest.fixture(scope="module")
def grpc_directly(site: TlsSite) -> Iterator[dict[str, Any]]:
    """What came of the calls inside of one namespace; there is a server on both sides."""
    with (
        grpc_server(site.pod, GRPC_TLS_PORT, site.origin),
        grpc_server(site.outside, GRPC_TLS_PORT, site.origin),
    ):
        yield calls(site.outside, "localhost", GRPC_TLS_PORT, str(site.origin), "shop.test")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_grpc(site: TlsSite, grpc_directly: dict[str, Any], direction: str, family: int):
    near, far = site.ends(direction)
    results = calls(near, address(far, family), GRPC_TLS_PORT, str(site.ca), "shop.test")
    assert without_identity(results) == without_identity(grpc_directly)
    check_records(site.daemon, results, direction, "https")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_what_is_never_opened_shows_the_origin_s_own_certificate(site: TlsSite, direction: str, family: int):
    near, far = site.ends(direction)
    path = fresh_path()
    answer = ask(near, far, family, "bank.test", path, "--cacert", str(site.origin))
    assert answer.code == 0
    assert "x-sp-service-name" not in joined(answer.seen["headers"])
    site.daemon.wait_metric(
        "sp_proxy_worker_tls_server_names_total", lambda count: count >= 1, 'server_name="bank.test"'
    )
    site.daemon.wait_metric("sp_proxy_worker_tls_connections_total", lambda count: count >= 1, f'port="{TLS_PORT}"')
    assert total(site.daemon.metrics(), "sp_proxy_worker_tls_alpn_total", 'protocol="h2"') >= 1
    assert site.daemon.exchanges(path=path) == []


def test_a_client_that_pins_the_origin_s_certificate_is_passed_through_from_then_on(site: TlsSite):
    for expected in (60, 0, 0):
        answer = ask(site.pod, site.outside, 4, "pinned.test", fresh_path(), "--cacert", str(site.origin))
        assert answer.code == expected
        site.daemon.wait_metric("sp_proxy_worker_tls_failed_total", lambda count: count >= 1, 'side="client"')
    assert "x-sp-service-name" not in joined(answer.seen["headers"])
    others = ask(site.pod, site.outside, 4, "shop.test", fresh_path(), "--cacert", str(site.ca))
    assert others.code == 0


def mitm_workers(site: TlsSite) -> list[int]:
    return [event["pid"] for event in site.daemon.events if event["event"] == "mitm_worker_ready"]


def test_after_its_death_the_worker_is_there_again(site: TlsSite):
    ask(site.pod, site.outside, 4, "shop.test", fresh_path(), "--cacert", str(site.ca))
    before = mitm_workers(site)
    os.kill(before[-1], signal.SIGKILL)
    eventually(lambda: mitm_workers(site), lambda now: len(now) > len(before), "a new mitm worker", TIMEOUT)
    path = fresh_path()
    answer = ask(site.pod, site.outside, 4, "shop.test", path, "--cacert", str(site.ca))
    assert answer.code == 0
    assert site.daemon.exchange_where(path=path)["attributes"]["url.scheme"] == "https"
