"""Others than this host may look at health and numbers, and at nothing else."""

from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from sp_proxy.admin.app import DaemonView, build_app
from sp_proxy.admin.local_only import OPEN, is_foreign_page, is_this_host


async def no_reload(_cause: str) -> dict[str, Any]:
    return {"result": "unchanged"}


def client(peer: str, drained: list[str]) -> httpx.AsyncClient:
    view = DaemonView(
        not_ready=list,
        failing_open=lambda: False,
        registry=CollectorRegistry(),
        status=dict,
        settings=dict,
        drain=drained.append,
        reload=no_reload,
    )
    transport = httpx.ASGITransport(app=build_app(view), client=(peer, 50000))
    return httpx.AsyncClient(transport=transport, base_url="http://10.0.0.5:16021")


@pytest.mark.parametrize("peer", ["10.0.0.1", "127.0.0.6", "::6", "2001:db8::1", "::ffff:10.0.0.1", "not an address"])
async def test_others_may_only_look(peer):
    drained: list[str] = []
    async with client(peer, drained) as admin:
        assert {path: (await admin.get(path)).status_code for path in OPEN} == dict.fromkeys(OPEN, 200)
        refused = await admin.post("/drain")
        assert (refused.status_code, refused.json()) == (403, {"error": "only for clients on this host"})
        for path in ("/config", "/config/", "/no-such-path", "//metrics"):
            assert (await admin.get(path)).status_code == 403
    assert drained == []


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_this_host_may_do_all(peer):
    drained: list[str] = []
    async with client(peer, drained) as admin:
        assert (await admin.get("/config")).status_code == 200
        assert (await admin.post("/drain")).status_code == 202
    assert drained == ["POST /drain"]


async def test_what_a_page_of_another_site_asks_is_refused():
    drained: list[str] = []
    async with client("127.0.0.1", drained) as admin:
        refused = await admin.post("/drain", headers={"origin": "http://evil.example"})
        assert (refused.status_code, refused.json()) == (403, {"error": "not for pages of other sites"})
        assert (await admin.get("/metrics", headers={"origin": "http://evil.example"})).status_code == 200
    assert drained == []


@pytest.mark.parametrize(
    "headers, foreign",
    [
        ({"host": "127.0.0.1:16021"}, False),
        ({"host": "daemon.example:16021", "user-agent": "curl/8"}, False),
        ({"host": "localhost:16021", "user-agent": "Mozilla/5.0"}, False),
        ({"host": "10.0.0.5:16021", "origin": "http://10.0.0.5:16021"}, False),
        ({"host": "[::1]:16021", "sec-fetch-site": "same-origin"}, False),
        ({"host": "127.0.0.1:16021", "sec-fetch-site": "cross-site"}, True),
        ({"host": "127.0.0.1:16021", "origin": "null"}, True),
        ({"host": "evil.example:16021", "origin": "http://evil.example:16021"}, True),
        ({"host": "evil.example:16021", "user-agent": "Mozilla/5.0"}, True),
        ({"user-agent": "Mozilla/5.0"}, True),
    ],
)
def test_how_a_page_of_another_site_is_told(headers, foreign):
    assert is_foreign_page("POST", headers) is foreign


@pytest.mark.parametrize(
    "peer, server, expected",
    [
        ("10.0.0.5", "10.0.0.5", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("::ffff:10.0.0.5", "10.0.0.5", True),
    ],
)
def test_a_connection_to_its_own_address_is_of_this_host(peer, server, expected):
    assert is_this_host((peer, 1), (server, 16021)) is expected


def test_who_cannot_be_told_is_not_of_this_host():
    assert not is_this_host(None, ("10.0.0.5", 1))
    assert not is_this_host(("", 1), ("", 1))
