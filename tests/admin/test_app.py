"""The endpoints, over a view of a daemon that does not exist: their contract with probes, scrapers and people."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from sp_proxy.admin.app import DaemonView, build_app


async def refused(cause: str) -> dict[str, Any]:
    return {"result": "refused", "problems": [f"no, {cause}"]}


def client(**parts: Any) -> httpx.AsyncClient:
    view: dict[str, Callable[..., Any] | CollectorRegistry] = {
        "not_ready": list,
        "failing_open": lambda: False,
        "registry": CollectorRegistry(),
        "status": dict,
        "settings": dict,
        "drain": lambda _cause: None,
        "reload": refused,
    }
    app = build_app(DaemonView(**{**view, **parts}))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://admin")


async def test_liveness_does_not_depend_on_readiness():
    async with client(not_ready=lambda: ["waiting for: relay workers"]) as admin:
        answer = await admin.get("/healthz/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready():
    async with client() as admin:
        answer = await admin.get("/healthz/ready")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "reasons": [], "failing_open": False})


async def test_not_ready_says_why():
    async with client(not_ready=lambda: ["draining"], failing_open=lambda: True) as admin:
        answer = await admin.get("/healthz/ready")
    assert (answer.status_code, answer.json()) == (
        503,
        {"ready": False, "reasons": ["draining"], "failing_open": True},
    )


async def test_metrics_are_in_the_text_format():
    registry = CollectorRegistry()
    Gauge("sp_proxy_test", "Help.", registry=registry).set(3)
    async with client(registry=registry) as admin:
        answer = await admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert answer.text == "# HELP sp_proxy_test Help.\n# TYPE sp_proxy_test gauge\nsp_proxy_test 3.0\n"


async def test_config():
    async with client(settings=lambda: {"settings": {"public_key": "***"}, "origins": {"public_key": "f:1"}}) as admin:
        answer = await admin.get("/config")
    assert answer.json() == {"settings": {"public_key": "***"}, "origins": {"public_key": "f:1"}}


async def test_a_drain_is_asked_for_once_with_its_cause():
    causes: list[str] = []
    async with client(drain=causes.append) as admin:
        answer = await admin.post("/drain")
    assert (answer.status_code, answer.json()) == (202, {"status": "draining"})
    assert causes == ["POST /drain"]


async def test_a_reload_says_what_came_of_it():
    async def applied(_cause: str) -> dict[str, Any]:
        return {"result": "applied", "changed": ["strict: raw → reject"]}

    async with client(reload=applied) as admin:
        answer = await admin.post("/reload")
    assert (answer.status_code, answer.json()["changed"]) == (200, ["strict: raw → reject"])
    async with client() as admin:
        answer = await admin.post("/reload")
    assert (answer.status_code, answer.json()["problems"]) == (422, ["no, POST /reload"])


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/drain"),
        ("GET", "/reload"),
        ("PUT", "/drain"),
        ("POST", "/metrics"),
        ("DELETE", "/config"),
        ("POST", "/healthz/ready"),
    ],
)
async def test_other_methods_are_not_allowed_and_do_nothing(method, path):
    causes: list[str] = []
    async with client(drain=causes.append) as admin:
        answer = await admin.request(method, path)
    assert answer.status_code == 405
    assert causes == []


@pytest.mark.parametrize("path", ["/", "/health", "/healthz", "/drain/", "/metrics/x"])
async def test_unknown_paths(path):
    async with client() as admin:
        assert (await admin.get(path)).status_code in {404, 307}
