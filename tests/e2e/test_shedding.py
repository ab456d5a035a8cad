"""What is not captured on purpose: sampling and limits, by real daemons. Every exchange is answered, what is kept is exactly
what the settings say, on every hop, and the rest is in the books with its reason.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.misbehaving_backend import Backend, open_backend
from tests.supervisor.daemon import REAL, Daemon, running_daemon

RATIO = 0.4
LEAST_KEPT = round((1 - RATIO) * (1 << 56))
"""Of the last 56 bits of a trace id (W3C Trace Context level 2)."""
EXCHANGE_SECONDS = 10.0


@asynccontextmanager
async def origin() -> AsyncIterator[str]:
    """Fails where the path says so."""

    async def serve(stream: trio.SocketStream) -> None:
        buffer = b""
        async with stream:
            async for data in stream:
                *requests, buffer = (buffer + data).split(b"\r\n\r\n")
                for request in requests:
                    status = b"503 Busy" if b" /fails" in request else b"200 OK"
                    await stream.send_all(b"HTTP/1.1 %s\r\ncontent-length: 2\r\n\r\nok" % status)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def ask(daemon: Daemon, paths: list[str]) -> None:
    """One after the other, on one connection."""
    async with await daemon.connect() as stream:
        for path in paths:
            with trio.fail_after(EXCHANGE_SECONDS):
                await stream.send_all(f"GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n".encode())
                received = b""
                while not received.endswith(b"\r\n\r\nok"):
                    data = await stream.receive_some()
                    assert data, "the connection has ended"
                    received += data
            assert received.startswith(b"HTTP/1.1 503 " if path == "/fails" else b"HTTP/1.1 200 ")


async def books(daemon: Daemon, asked: int) -> tuple[int, dict[str, int]]:
    """Records accepted, and exchanges left out by reason, when the daemon speaks of all of them."""
    with trio.fail_after(EXCHANGE_SECONDS):
        while True:
            document = (await daemon.get("/status")).json()
            assert document["balanced"]
            lost: dict[str, int] = document["lost_before_the_exporter"]
            (exporter,) = document["exporters"]
            if exporter["accepted"] + sum(lost.values()) == asked:
                assert exporter["captured"] == exporter["accepted"]
                return int(exporter["accepted"]), lost
            await trio.sleep(0.05)


def settings(backend: Backend, directory: Path, **sections: Any) -> dict[str, Any]:
    return {
        "sp_backend_url": backend.url,
        "batch": {"flush_timeout": "20ms"},
        "spool": {"directory": str(directory / "spool")},
        **sections,
    }


def accepted(backend: Backend) -> dict[str, list[tuple[int, str]]]:
    """Trace id and path of each span, by service."""
    found: dict[str, list[tuple[int, str]]] = {}
    for request in backend.requests:
        for resource_spans in request.resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in resource_spans.resource.attributes}
            found.setdefault(attributes["service.name"], []).extend(
                (int.from_bytes(span.trace_id), span.name)
                for scope_spans in resource_spans.scope_spans
                for span in scope_spans.spans
            )
    return found


async def test_every_hop_keeps_the_same_traces_and_all_errors(tmp_path):
    paths = ["/works", "/works", "/fails"] * 40
    sampling = {"sampling": {"ratio": RATIO}}
    (tmp_path / "front").mkdir()
    (tmp_path / "back").mkdir()
    async with (
        origin() as upstream,
        open_backend() as backend,
        running_daemon(
            upstream,
            settings(backend, tmp_path / "back", service_name="back", **sampling),
            directory=tmp_path / "back",
            command=REAL,
        ) as back,
        running_daemon(
            f"127.0.0.1:{back.port}",
            settings(backend, tmp_path / "front", service_name="front", **sampling),
            directory=tmp_path / "front",
            command=REAL,
        ) as front,
    ):
        await ask(front, paths)
        counts = [await books(daemon, len(paths)) for daemon in (front, back)]
    spans = accepted(backend)
    assert sorted(spans["front"]) == sorted(spans["back"])
    kept = [trace & ((1 << 56) - 1) for trace, path in spans["front"] if path == "/works"]
    assert 0 < len(kept) < 80
    assert min(kept) >= LEAST_KEPT
    assert Counter(path for _, path in spans["front"]) == {"/works": len(kept), "/fails": 40}
    assert counts == [(40 + len(kept), {"sampled_out": 80 - len(kept)})] * 2


async def test_a_rule_has_its_limit_beside_the_common_one(tmp_path):
    """Rates of next to nothing, so that only the bursts are there to be used up. The beginning of a token is enough for one
    exchange more, which leaves a debt.
    """
    limits = {"exchanges_per_second": 1e-6, "exchange_burst": 20}
    rules = [{"path": "^/rare", "limits": {"exchanges_per_second": 1e-6, "exchange_burst": 3}}, {}]
    async with (
        origin() as upstream,
        open_backend() as backend,
        running_daemon(
            upstream,
            settings(backend, tmp_path, limits=limits, collectionRules={"http": {"server": rules}}),
            directory=tmp_path,
            command=REAL,
        ) as daemon,
    ):
        await ask(daemon, ["/rare"] * 30 + ["/often"] * 30)
        kept, lost = await books(daemon, 60)
    (spans,) = accepted(backend).values()
    paths = Counter(path for _, path in spans)
    assert 20 <= kept <= 21
    assert 3 <= paths["/rare"] <= 4
    assert paths["/often"] == kept - paths["/rare"]
    assert lost == {"rule_rate_limit": 30 - paths["/rare"], "rate_limit": 30 - paths["/often"]}
