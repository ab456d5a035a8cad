"""Operators' scripts in a real daemon under real traffic: every example of ``addons/``, and hostile ones.

Clients talk to an origin through the daemon's forwarding listener; what was captured is read from a file exporter.
"""

import base64
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import httpx
import pytest
import trio

from tests.supervisor.daemon import REAL, TIMEOUT, Daemon, running_daemon

ADDONS = Path(__file__).parent.parent.parent / "addons"
EXAMPLES = sorted(path.stem for path in ADDONS.glob("*.py"))
FLOW_SCRIPTS = {"fault"}
BUDGETS = {"call_budget": "10s", "batch_budget": "30s", "request_budget": "1s"}


class Origin(BaseHTTPRequestHandler):
    """Says what it was asked; ``/status/N`` answers so, ``/slow`` takes a second."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        said = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()}}
        answer = body if self.path.startswith("/echo") else json.dumps(said).encode()
        if self.path.startswith("/slow"):
            trio_free_wait()
        self.send_response(int(self.path[8:]) if self.path.startswith("/status/") else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815  # http.server's name

    def log_message(self, *_: Any) -> None:
        return


def trio_free_wait() -> None:
    """In the origin's thread."""
    import time  # noqa: PLC0415

    time.sleep(1.2)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Spans:
    """What a file exporter has written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[dict[str, Any]]:
        spans = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            for resource in json.loads(line)["resourceSpans"]:
                for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
                    values = {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}
                    spans.append({"span": span["name"], **values})
        return spans

    async def of(self, path: str, count: int = 1) -> list[dict[str, Any]]:
        """Those of requests to this path, when there are so many."""
        with trio.fail_after(TIMEOUT):
            while len(found := [each for each in self.all() if each["url.path"] == path]) < count:  # noqa: ASYNC110
                await trio.sleep(0.02)
        return found


@asynccontextmanager
async def daemon_with(
    origin: str, directory: Path, addons: dict[str, Any], environ: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[tuple[Daemon, Spans, httpx.AsyncClient]]:
    out = directory / "spans.jsonl"
    values = {
        "addons": {**BUDGETS, **addons},
        "exporters": [{"type": "file", "path": str(out)}],
        "batch": {"flush_timeout": "50ms"},
        "spool": {"mode": "off"},
        "service_name": "shop",
        **settings,
    }
    async with running_daemon(origin, values, directory=directory, command=REAL, environ=environ) as daemon:
        url = f"http://127.0.0.1:{daemon.port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=TIMEOUT) as client:
            yield daemon, Spans(out), client


def token(**claims: Any) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "x"}, claims)
    ]
    return ".".join([*parts, "c2lnbmF0dXJl"])


async def test_every_example_does_what_it_says(origin, tmp_path):
    lines = tmp_path / "lines.jsonl"
    files = [str(ADDONS / f"{name}.py") for name in EXAMPLES if name not in FLOW_SCRIPTS]
    async with daemon_with(origin, tmp_path, {"files": files}, {"EXPORT_LINES": str(lines)}) as (daemon, spans, client):
        customer = {"x-customer-id": "acme"}

        # tenant_from_jwt, anonymous_clients, request_id
        headers = {**customer, "authorization": f"Bearer {token(tenant='t-7')}", "x-forwarded-for": "192.0.2.77"}
        seen = (await client.get("/tenant", headers=headers)).json()["headers"]
        assert seen["authorization"].startswith("Bearer ey")
        (span,) = await spans.of("/tenant")
        assert span["sp.tag.tenant"] == "t-7"
        assert (span["client.address"], seen["x-forwarded-for"]) == ("127.0.0.0", "192.0.2.77")
        assert "http.request.header.x-forwarded-for" not in span
        assert span["sp.tag.request_id"] == str(UUID(seen["x-request-id"]))

        # mask_json_field
        said = {"a": [{"iban": "DE00 1234", "city": "Ulm"}]}
        assert (await client.post("/echo", json=said, headers=customer)).json() == said
        (span,) = await spans.of("/echo")
        for side in ("request", "response"):
            assert json.loads(span[f"http.{side}.body"]) == {"a": [{"iban": "[masked]", "city": "Ulm"}]}

        # drop_health_checks, sample_by_customer
        assert (await client.get("/healthz")).status_code == 200
        await client.get("/sampled", headers={"x-customer-id": "customer-0"})
        await client.get("/status/503", headers={"x-customer-id": "customer-0"})
        await spans.of("/status/503")

        # rewrite_host
        answer = await client.get("/host", headers={**customer, "host": "orders.old.example:81"})
        said = answer.json()["headers"]
        assert (said["host"], said["x-forwarded-host"]) == ("orders.example:81", "orders.old.example:81")
        assert (await spans.of("/host"))[0]["url.host"] == "orders.example:81"

        # graphql_operations
        one = {"query": "mutation Pay($a: Int) { pay(a: $a) }"}
        await client.post("/graphql", json=one, headers=customer)
        assert [span["span"] for span in await spans.of("/graphql")] == ["mutation Pay"]
        two = [one, {"operationName": "Orders", "query": "query Orders { a } query Other { b }"}]
        await client.post("/batch/graphql", json=two, headers=customer)
        both = await spans.of("/batch/graphql", 2)
        assert {span["span"]: span["sp.tag.graphql.operation"] for span in both} == {
            "mutation Pay": "Pay",
            "query Orders": "Orders",
        }

        # count_by_api_version, slow_requests
        await client.get("/v2/orders", headers=customer)
        await client.get("/slow/12345?q=secret", headers=customer)
        (span,) = await spans.of("/slow/12345?q=secret")
        assert span["sp.tag.slow"] == "true"
        line = await daemon.logged("addon_says")
        assert line["text"].startswith("GET /slow/{id} took 1.")
        metrics = (await daemon.get("/metrics")).text
        assert (
            'sp_proxy_addon_api_requests_total{addon="count_by_api_version",status="2xx",version="v2"} 1.0' in metrics
        )
        assert 'sp_proxy_addon_request_seconds_count{addon="slow_requests",direction="inbound"}' in metrics
        assert 'sp_proxy_worker_addon_requests_total{addon="drop_health_checks",worker="0"}' in metrics

        # export_lines
        written = [json.loads(line) for line in lines.read_text().splitlines()]
        assert {"/tenant", "/echo", "/status/503", "/slow/12345"} <= {each["path"] for each in written}

        paths = {span["url.path"] for span in spans.all()}
        assert not paths & {"/healthz", "/sampled"}
        assert not [line for line in daemon.log if line["event"] in {"addon_fault", "addon_failed"}]
        status = (await daemon.get("/status")).json()
        assert status["balanced"] is True


HOSTILE = {
    "block": "while True:\n            pass",
    "swallow": "import time\n        while True:\n            try: time.sleep(9)\n            except BaseException: pass",
    "end": "import os\n        os._exit(0)",
    "hoard": "kept = []\n        while True:\n            kept.append(bytearray(1 << 20))",
    "close": "import os\n        os.closerange(3, 200)",
}


async def test_hostile_request_hooks_lose_their_place_and_nothing_else(origin, tmp_path):
    """Each of them is asked for by a path of its own. The traffic after it is served, with the hooks that are left."""
    folder = tmp_path / "addons"
    folder.mkdir()
    (folder / "aa_good.py").write_text("def request(head):\n    head.headers['x-good'] = 'yes'\n")
    (folder / "bb_raises.py").write_text("def request(head):\n    head.headers['x-bad'] = 'yes'\n    1 / 0\n")
    for name, body in HOSTILE.items():
        text = (
            f"def request(head):\n    if head.path == '/{name}':\n        {body}\n    head.headers['x-{name}'] = 'on'\n"
        )
        (folder / f"{name}.py").write_text(text)
    addons = {"directory": str(folder), "stuck_after": "1s", "max_memory": "128MiB"}
    async with daemon_with(origin, tmp_path, addons) as (daemon, spans, client):

        async def served(by: str = "x-good") -> dict[str, str]:
            """What a request carries, when one has this field: without a worker none has."""
            with trio.fail_after(TIMEOUT):
                while True:
                    try:
                        answer = await client.get("/orders", headers={"connection": "close"})
                    except httpx.TransportError:
                        await trio.sleep(0.05)
                        continue
                    headers: dict[str, str] = answer.json()["headers"]
                    if by in headers:
                        return headers
                    await trio.sleep(0.05)

        headers = await served()
        assert {name for name in HOSTILE if f"x-{name}" in headers} == set(HOSTILE)
        assert "x-bad" not in headers
        for count, name in enumerate(("block", "hoard"), 1):  # interrupted
            with trio.fail_after(TIMEOUT):
                answer = await client.get(f"/{name}")
            await daemon.logged("addon_interrupted", count)
            assert answer.json()["headers"]["x-good"] == "yes"
            assert f"x-{name}" not in answer.json()["headers"]
            assert f"x-{name}" not in await served()
        assert not [line for line in daemon.log if line["event"] in {"worker_died", "addon_switched_off"}]
        for count, name in enumerate(("swallow", "end"), 1):
            with pytest.raises(httpx.TransportError):
                await client.get(f"/{name}")
            said = await daemon.logged("addon_switched_off", count)
            assert said["addon"] == name
            headers = await served()
            assert f"x-{name}" not in headers
            assert "x-close" in headers
        # Nobody can see who has closed what is not his: hooks are left out in turn until workers live.
        for _ in range(6):
            with contextlib.suppress(httpx.TransportError):
                await client.get("/close", headers={"connection": "close"})
            headers = await served("x-sp-num")
            if "x-close" not in headers:
                break
        assert "x-good" in headers
        assert "x-close" not in headers
        assert await spans.of("/orders")
        faults = [line for line in daemon.log if "addon bb_raises:" in line["event"]]
        assert faults
        assert all("ZeroDivisionError" in str(line) and "bb_raises.py:3" in str(line) for line in faults)


HOSTILE_CAPTURE = {
    "block": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\ndef exchange(ex):\n    while True: pass\n",
    "hoard": "kept = []\ndef exchange(ex):\n    while True: kept.append(bytearray(1 << 20))\n",
    "close": "import os\ndef exchange(ex):\n    os.closerange(0, 100)\n",
    "end": "import os\ndef exchange(ex):\n    os._exit(0)\n",
    "leave": "import sys\ndef exchange(ex):\n    sys.exit('bye')\n",
    "raises": "def exchange(ex):\n    raise RuntimeError(ex.path)\n",
}


async def test_hostile_capture_hooks_leave_traffic_records_and_other_hooks_alone(origin, tmp_path):
    folder = tmp_path / "addons"
    folder.mkdir()
    for name, text in HOSTILE_CAPTURE.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "zz_good.py").write_text("def exchange(ex):\n    ex.tag('good', ex.path)\n")
    addons = {"directory": str(folder), "call_budget": "200ms", "batch_budget": "500ms"}
    async with daemon_with(origin, tmp_path, addons) as (daemon, spans, client):
        for number in range(20):
            assert (await client.get(f"/orders/{number}")).status_code == 200
        for number in range(20):
            (span,) = await spans.of(f"/orders/{number}")
            assert span["sp.tag.good"] == f"/orders/{number}"
        named = {line["addon"] for line in daemon.log if line["event"] in {"addon_failed", "addon_fault"}}
        assert named == set(HOSTILE_CAPTURE)
        assert len([line for line in daemon.log if line["event"] == "addon_fault" and line["addon"] == "raises"]) == 1
        status = (await daemon.get("/status")).json()
        assert (status["balanced"], status["workers_ready"]) == (True, 1)
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_other_files_come_into_force_or_are_refused_whole(origin, tmp_path):
    folder = tmp_path / "addons"
    folder.mkdir()
    hook = folder / "hook.py"
    hook.write_text("def request(head):\n    head.headers['x-by'] = 'one'\n")
    reload = {"interval": "100ms", "settle_time": "100ms"}
    async with daemon_with(origin, tmp_path, {"directory": str(folder)}, reload=reload) as (daemon, _, client):
        assert (await client.get("/")).json()["headers"]["x-by"] == "one"
        hook.write_text("def request(head):\n    head.headers['x-by'] =\n")
        refused = await daemon.logged("reload_refused")
        assert refused["problems"] == [f"{hook}:2: invalid syntax"]
        assert (await client.get("/")).json()["headers"]["x-by"] == "one"
        hook.write_text("import nowhere\ndef request(head): ...\n")
        refused = await daemon.logged("reload_refused", 2)
        assert refused["problems"] == [f"{hook}:1: ModuleNotFoundError: No module named 'nowhere'"]
        hook.write_text("def request(head):\n    head.headers['x-by'] = 'two'\n")
        (folder / "more.py").write_text("def exchange(ex): ...\n")
        assert (await daemon.logged("reloaded"))["changed"] == ["addons: changed files"]
        with trio.fail_after(TIMEOUT):
            while (await client.get("/", headers={"connection": "close"})).json()["headers"].get("x-by") != "two":  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.02)
