"""The HTTP/2 conversations of ``tests/conformance`` through the whole daemon behind real redirect rules, in both directions and
both IP versions: the two ends see what they see directly, and the records are those of the script.
"""

import importlib
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import get_args

import pytest

from sp_proxy.core.exchange import ErrorType
from tests.conformance.http2_play import CHECKS, Played, Record, differences, play
from tests.e2e.conftest import Pair
from tests.e2e.harness import TIMEOUT, Daemon, home, netfilter, running_daemon, total
from tests.e2e.servers import listen

for module in ("settings", "blocks", "frames", "streams", "malformed"):
    importlib.import_module(f"tests.conformance.http2_{module}")

ERRORS = get_args(ErrorType)
Name = tuple[str, str]
"""The client's address, and the check's name, which is in the target."""


class Books:
    """A daemon, and what it has recorded."""

    def __init__(self, daemon: Daemon, spans: Path) -> None:
        self.daemon = daemon
        self._spans = spans
        self._read = 0

    def records(self) -> dict[Name, list[Record]]:
        """Of what has been played since the last time, each sorted: a second try begins anew."""
        self.daemon.settled()
        lines = self._spans.read_bytes().splitlines()[self._read :] if self._spans.exists() else []
        self._read += len(lines)
        found: dict[Name, list[Record]] = {}
        for line in lines:
            for resource_spans in json.loads(line)["resourceSpans"]:
                for span in (each for scope in resource_spans["scopeSpans"] for each in scope["spans"]):
                    of = {each["key"]: str(next(iter(each["value"].values()))) for each in span["attributes"]}
                    target = of["http.request.header.:path"]
                    status = int(of.get("http.response.status_code", 0))
                    error = of.get("error.type", "")
                    error = error if error in ERRORS else ""  # else a status: of HTTP, or of gRPC
                    record = of["http.request.method"], target, status, error
                    found.setdefault((of["client.address"], target.removeprefix("/").removesuffix(":80")), []).append(
                        record
                    )
        return {name: sorted(records) for name, records in found.items()}


@pytest.fixture(scope="module")
def books(pair: Pair) -> Iterator[Books]:
    with home() as directory, ExitStack() as stack:
        spans = directory / "spans.jsonl"
        settings = {"exporters": [{"type": "file", "path": str(spans)}]}
        daemon = stack.enter_context(running_daemon(pair[0], directory, settings))
        netfilter(pair[0], directory / "sp_proxy.yaml", "apply", "--writer", "nft")
        stack.callback(netfilter, pair[0], directory / "sp_proxy.yaml", "remove")
        yield Books(daemon, spans)


@cache
def played_directly(name: str) -> Played:
    with listen() as listener:
        address = ("::1", listener.getsockname()[1])
        return play(CHECKS[name](f"/{name}"), partial(socket.create_connection, address), listener)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_conversations(books: Books, pair: Pair, direction: str, family: int) -> None:
    pod, outside = pair
    near, far = (outside, pod) if direction == "inbound" else (pod, outside)
    books.records()
    before = books.daemon.reported()
    wrong: dict[str, list[str]] = {}
    raw: Counter[str] = Counter()
    with far.call(listen) as listener:
        address = (far.ipv4 if family == 4 else far.ipv6, listener.getsockname()[1])
        own = near.ipv4 if family == 4 else near.ipv6
        connect = partial(near.call, partial(socket.create_connection, address, TIMEOUT))
        for name, make in CHECKS.items():
            script = make(f"/{name}")
            relayed = play(script, connect, listener)
            if found := differences(script, played_directly(name), relayed):
                wrong[name] = found
            raw[script.raw] += 1
    records = books.records()
    for name, make in CHECKS.items():
        expected = sorted(make(f"/{name}").records)
        recorded = records.pop((own, name), [])
        if recorded != expected:
            wrong.setdefault(name, []).append(f"recorded {recorded} instead of {expected}")
    assert wrong == {}, "\n".join(f"{name}: {found}" for name, found in wrong.items())
    assert [name for address, name in records if address == own] == []
    now = books.daemon.reported()
    counted = "sp_proxy_worker_raw_total"
    label = 'reason="{}"'.format
    for reason in filter(None, raw):
        assert total(now, counted, label(reason)) - total(before, counted, label(reason)) == raw[reason], reason
