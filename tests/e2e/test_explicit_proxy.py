"""The explicit proxy for local development, as HTTP_PROXY and HTTPS_PROXY make clients use it."""

import itertools
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.contract import check_identity, check_injected, joined
from tests.e2e.intercepted import TLS_PORT, TlsSite, address, fetch, tls_site
from tests.e2e.servers import ECHO_PORT, echo

PROXY = "http://127.0.0.1:8888"
_numbers = itertools.count(1)


def fresh_path() -> str:
    return f"/local/{next(_numbers)}?q=1"


@pytest.fixture(scope="module")
def site(pair: Pair) -> Iterator[TlsSite]:
    settings = {
        "listen": {"inbound": "off", "outbound": "off", "proxy": "127.0.0.1:8888"},
        "tls": {"intercept": ["^shop"]},
    }
    with echo(pair[1]), tls_site(*pair, settings, ("tls_server_failed",), redirect=False) as site:
        yield site


def ask(site: TlsSite, url: str, *options: str):
    return fetch(site.pod, url, "--proxy", PROXY, *options)


@pytest.mark.parametrize("family", [4, 6])
def test_clear_text(site: TlsSite, family: int):
    path = fresh_path()
    host = f"{address(site.outside, family)}:{ECHO_PORT}"
    answer = ask(site, f"http://{host}{path}", "--header", "X-A: b")
    assert answer.code == 0
    assert answer.seen["target"] == path
    seen = joined(answer.seen["headers"])
    assert (seen["host"], seen["x-a"]) == (host, "b")
    check_injected(seen, "shop")
    exchange = site.daemon.exchange_where(path=path)
    check_identity(exchange, seen)
    assert exchange["attributes"]["sp.traffic.direction"] == "outbound"
    assert exchange["attributes"]["url.full"] == f"http://{host}{path}"
    target = site.outside.ipv4 if family == 4 else site.outside.ipv6
    assert exchange["attributes"]["network.peer.address"] == target


def test_clear_text_through_a_tunnel(site: TlsSite):
    path = fresh_path()
    answer = ask(site, f"http://{site.outside.ipv4}:{ECHO_PORT}{path}", "--proxytunnel")
    assert answer.code == 0
    check_injected(joined(answer.seen["headers"]), "shop")
    assert site.daemon.exchange_where(path=path)["attributes"]["url.scheme"] == "http"


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_https_that_is_opened(site: TlsSite, version: str):
    path = fresh_path()
    flag = "--http2" if version == "2" else "--http1.1"
    connect = f"shop.test:{TLS_PORT}:{site.outside.ipv4}:{TLS_PORT}"
    answer = ask(site, f"https://shop.test:{TLS_PORT}{path}", "--connect-to", connect, flag, "--cacert", str(site.ca))
    assert (answer.code, answer.http_version) == (0, version)
    seen = joined(answer.seen["headers"])
    check_injected(seen, "shop")
    exchange = site.daemon.exchange_where(path=path)
    check_identity(exchange, seen)
    assert exchange["attributes"]["url.scheme"] == "https"


def test_https_that_is_not(site: TlsSite):
    connect = f"bank.test:{TLS_PORT}:{site.outside.ipv4}:{TLS_PORT}"
    options = ("--connect-to", connect, "--cacert", str(site.origin))
    answer = ask(site, f"https://bank.test:{TLS_PORT}{fresh_path()}", *options)
    assert answer.code == 0
    assert "x-sp-service-name" not in joined(answer.seen["headers"])


def test_nobody_there_is_told(site: TlsSite):
    done = site.pod.run(
        *("curl", "--silent", "--write-out", "%{http_code}", "--output", "/dev/null", "--proxy", PROXY),
        f"http://{site.outside.ipv4}:1/",
    )
    assert done.stdout == "502"


def test_the_proxy_itself_is_not_asked_for_itself(site: TlsSite):
    done = site.pod.run(
        *("curl", "--silent", "--write-out", "%{http_code}", "--output", "/dev/null", "--proxy", PROXY),
        "http://127.0.0.1:8888/",
    )
    assert done.stdout == "502"
