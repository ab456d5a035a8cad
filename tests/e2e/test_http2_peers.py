"""HTTP/2 without TLS between unmodified programs, in both directions and both IP versions: nghttp and h2load to nghttpd (padding,
CONTINUATION, trailers, pushes, large tables), httpx, and curl's upgrade from HTTP/1.1.
"""

import itertools
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Site
from tests.e2e.contract import check_identity, check_injected, check_request_headers, check_span, joined
from tests.e2e.harness import APP_UID, TIMEOUT, eventually, home, total
from tests.e2e.servers import ECHO_PORT
from tests.netns import Namespace
from tests.requirements import require_root_tools

PORT = 8090
REQUESTS = 2000
EVERY_WAY = [(direction, family) for direction in ("inbound", "outbound") for family in (4, 6)]
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Nghttpd:
    """One that runs; ``log`` shows every field that it received."""

    log: Path

    def seen(self, path: str) -> list[dict[str, str]]:
        """Fields of each request for that path, those of its trailers among them."""
        streams: dict[tuple[str, str], dict[str, str]] = {}
        pattern = r"^\[id=(\d+)\] \[ *[\d.]+\] recv \(stream_id=(\d+)\) (:?[^:]+): (.*)$"
        for connection, stream, name, value in re.findall(pattern, self.log.read_text(), re.MULTILINE):
            fields = streams.setdefault((connection, stream), {})
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        return [fields for fields in streams.values() if fields.get(":path") == path]


@contextmanager
def nghttpd(namespace: Namespace, directory: Path) -> Iterator[Nghttpd]:
    directory.mkdir()
    directory.chmod(0o755)
    (directory / "data.json").write_text('{"tea":[1,2,3]}')
    (directory / "pushed.json").write_text(" " * 100_000)
    log = directory / "log"
    with log.open("wb") as output:
        process = namespace.popen(
            *("nghttpd", "--no-tls", "--verbose", f"--htdocs={directory}", "--padding=30", "--trailer=x-end: yes"),
            *("--push=/data.json=/pushed.json", "--header-table-size=65536", "--encoder-header-table-size=65536"),
            str(PORT),
            user=APP_UID,
            stdout=output,
            stderr=output,
        )
    try:
        url = f"http://127.0.0.1:{PORT}/data.json"
        started = partial(namespace.run, "nghttp", "--null-out", "--stat", url, check=False)
        eventually(lambda: started().stdout, lambda said: " 200 " in said, "nghttpd answers")
        yield Nghttpd(log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def servers(site: Site) -> Iterator[dict[str, Nghttpd]]:
    """By direction."""
    require_root_tools("nghttp", "nghttpd", "h2load")
    site.redirect("nft")
    with home() as directory, ExitStack() as stack:
        yield {
            direction: stack.enter_context(nghttpd(site.ends(direction)[1], directory / direction))
            for direction in ("inbound", "outbound")
        }


def authority(namespace: Namespace, family: int, port: int) -> str:
    return f"{namespace.ipv4}:{port}" if family == 4 else f"[{namespace.ipv6}]:{port}"


@pytest.mark.parametrize("direction, family", EVERY_WAY)
def test_nghttp_to_nghttpd(site: Site, servers: dict[str, Nghttpd], direction: str, family: int, tmp_path: Path):
    near, far = site.ends(direction)
    body = tmp_path / "body"
    body.write_text("tea" * 10_000)
    path = f"/data.json?{next(_numbers)}"
    done = near.run(
        *("nghttp", "--verbose", "--no-dep", "--padding=200", "--continuation", "--trailer=x-sum: 12", "--multiply=3"),
        *("--header-table-size=65536", "--encoder-header-table-size=65536", "--header=content-type: text/plain"),
        *(f"--timeout={TIMEOUT:.0f}", "--null-out", f"--data={body}", f"http://{authority(far, family, PORT)}{path}"),
    )
    assert done.stdout.count("recv PUSH_PROMISE frame") == 3
    assert done.stdout.count(":status: 200") == 6
    assert done.stdout.count("x-end: yes") == 6
    seen = servers[direction].seen(path)
    assert len(seen) == 3
    for fields in seen:
        check_injected(fields, "shop")
        assert fields["x-sum"] == "12"
        exchange = site.daemon.exchange_where(trace=fields["traceparent"].split("-")[1])
        check_identity(exchange, fields)
        attributes = exchange["attributes"]
        assert attributes["http.request.trailer.x-sum"] == "12"
        assert attributes["http.response.trailer.x-end"] == "yes"
        assert (attributes["http.request.body.size"], attributes["http.response.body.size"]) == (30_000, 15)
        assert exchange["request"]["body"]["data"] == "tea" * 10_000
        assert exchange["response"]["body"]["data"] == '{"tea":[1,2,3]}'


@pytest.mark.usefixtures("servers")
def test_h2load(site: Site):
    captured = partial(total, name="sp_proxy_worker_captured_total")  # of small bodies: nothing is to be shed
    before = captured(site.daemon.reported())
    for direction, family in EVERY_WAY:
        near, far = site.ends(direction)
        url = f"http://{authority(far, family, PORT)}/data.json"
        done = near.run("h2load", f"-n{REQUESTS}", "-c4", "-m25", url, timeout=60)
        assert f" {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout
    assert captured(site.daemon.settled()) - before == REQUESTS * len(EVERY_WAY)


@pytest.mark.parametrize("direction, family", EVERY_WAY)
def test_httpx(site: Site, direction: str, family: int):
    near, far = site.ends(direction)
    site.redirect("nft")
    path = f"/httpx/{next(_numbers)}"

    def inside() -> list[httpx.Response]:
        with httpx.Client(http1=False, http2=True, trust_env=False, timeout=TIMEOUT) as client:
            url = f"http://{authority(far, family, ECHO_PORT)}{path}"
            return [client.post(url, content=b"tea", headers={"content-type": "text/plain"}) for _ in range(2)]

    for response in near.call(inside):
        assert response.http_version == "HTTP/2"
        seen = joined(response.json()["headers"])
        check_injected(seen, "shop")
        exchange = site.daemon.exchange_where(trace=seen["traceparent"].split("-")[1])
        check_identity(exchange, seen)
        check_span(exchange, direction, "shop", 200)
        check_request_headers(exchange, seen)
        assert exchange["request"]["body"]["data"] == "tea"
        assert exchange["response"]["body"]["data"] == response.text


@pytest.mark.parametrize("direction, family", EVERY_WAY)
def test_an_upgrade_from_http1(site: Site, direction: str, family: int):
    """RFC 7540, section 3.2. What follows the 101 is HTTP/2, and the first answer is that of stream 1."""
    near, far = site.ends(direction)
    site.redirect("nft")
    path = f"/upgrade/{next(_numbers)}"
    url = f"http://{authority(far, family, ECHO_PORT)}{path}"
    done = near.run(
        *("curl", "--silent", "--show-error", "--globoff", "--http2", "--max-time", str(TIMEOUT)),
        *("--write-out", "\n%{http_version}\n", url, "--next", "--silent", "--globoff", "--http2", url),
    )
    first, version, second = done.stdout.splitlines()
    assert version == "2"
    seen = joined(json.loads(first)["headers"])
    check_injected(seen, "shop")
    check_injected(joined(json.loads(second)["headers"]), "shop")
    for text in (first, second):
        seen = joined(json.loads(text)["headers"])
        exchange = site.daemon.exchange_where(path=path, trace=seen["traceparent"].split("-")[1])
        check_identity(exchange, seen)
        check_span(exchange, direction, "shop", 200)
        assert exchange["response"]["body"]["data"] == text
