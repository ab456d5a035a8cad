"""Beside Istio's Envoy: a real one in each of two pods, mutual TLS between them, sp_proxy in one pod.

What was captured is in the backend, and who handled a request is in the headers with which it arrives. Nothing but TLS is on
the wire between the pods.
"""

import itertools
import json
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.contract import joined
from tests.e2e.envoy import ENVOY_UID, ISTIO_WRITERS, Envoy, install_istio, remove_istio, wire
from tests.e2e.harness import (
    APP_UID,
    DAEMON_UID,
    PROGRAM,
    SETTINGS,
    TIMEOUT,
    Daemon,
    eventually,
    home,
    launch,
    netfilter,
    require_daemon,
    running_daemon,
    total,
    write_config,
)
from tests.e2e.otlp_sink import otlp_sink
from tests.e2e.servers import ECHO_PORT, echo
from tests.netns import Namespace, default_route, link
from tests.requirements import require_root_tools

SERVICE_ADDRESS = "10.96.0.10"
"""A service address of the cluster, which is nobody's own; Envoy knows where it leads."""
SINK_PORT = 9002
BESIDE = {"mode": "beside-istio", "heartbeat": {"timeout": "2s"}}
SHOP = {
    "netfilter": BESIDE,
    "exemptionRules": [{"pathPatterns": ["^/healthz"]}],
}
APPLICATION_DATA = b"\x17\x03\x03"
_numbers = itertools.count(1)


@dataclass
class Mesh:
    """Pod ``shop``, where sp_proxy is to be, and its peer ``stock``, each with an application and Envoy."""

    shop: Namespace
    stock: Namespace
    interface: str
    envoys: tuple[Envoy, Envoy]
    trusted: Path
    directory: Path

    def ask(self, near: Namespace, address: str, host: str, path: str) -> dict[str, str]:
        """The header fields with which a request arrived at the application."""
        seen = json.loads(self.curl(near, address, host, path))
        assert seen["target"] == path
        return joined(seen["headers"])

    def curl(self, near: Namespace, address: str, host: str, path: str, *more: str, user: int = APP_UID) -> str:
        authority = f"[{address}]" if ":" in address else address
        command = ("curl", "-sSfg", "--max-time", "10", "-H", f"host: {host}:{ECHO_PORT}", *more)
        return near.run(*command, f"http://{authority}:{ECHO_PORT}{path}", user=user).stdout


@dataclass(frozen=True)
class Case:
    """One way a request takes through the mesh."""

    path: str
    arrived: dict[str, str]
    captured: frozenset[str]
    """Directions in which shop's daemon sees it."""
    hops: int
    on_wire: bool = True


def every_way(mesh: Mesh) -> Iterator[Case]:
    """Outbound, inbound, and both: to the pod's own service."""
    shop, stock = mesh.shop, mesh.stock
    ways: list[tuple[Namespace, str, str, set[str]]] = [
        (shop, stock.ipv4, "stock.mesh", {"outbound"}),
        (shop, stock.ipv6, "stock.mesh", {"outbound"}),
        (stock, shop.ipv4, "shop.mesh", {"inbound"}),
        (stock, shop.ipv6, "shop.mesh", {"inbound"}),
        (shop, SERVICE_ADDRESS, "shop.mesh", {"inbound", "outbound"}),
    ]
    for near, address, host, captured in ways:
        path = f"/secret-{next(_numbers)}"
        arrived = mesh.ask(near, address, host, path)
        yield Case(path, arrived, frozenset(captured), len(captured), on_wire=address != SERVICE_ADDRESS)


def check_all_flow(mesh: Mesh, daemon: Daemon | None) -> None:
    """Every way works, and shop's daemon captures its part of it; without one, nothing has touched the requests."""
    with wire(mesh.shop, mesh.interface) as seen:
        cases = list(every_way(mesh))
    for case in cases:
        assert case.arrived["x-request-id"], "Envoy was on its way"
        assert case.arrived.get("x-sp-num", "0") == str(case.hops if daemon else 0)
    assert b"secret-" not in seen
    assert seen.count(APPLICATION_DATA) >= 2 * sum(case.on_wire for case in cases)
    if daemon is None:
        return
    for case in cases:
        spans = eventually(
            lambda path=case.path: daemon.exchanges(path=path),  # type: ignore[misc]
            lambda found, count=case.hops: len(found) >= count,  # type: ignore[misc]
            f"{case.path} is captured",
        )
        assert sorted(span["direction"] for span in spans) == sorted(case.captured)
        assert {span["status"] for span in spans} == {200}


def write_pcap(path: Path, frames: list[bytes]) -> None:
    """As tcpdump does: classic format, Ethernet."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 17, 1)
    path.write_bytes(header + b"".join(struct.pack("<IIII", 0, 0, len(each), len(each)) + each for each in frames))


def tshark(capture: Path, wanted: str) -> list[str]:
    """The numbers of the TCP conversations that have such frames. What goes to the applications' port is read as TLS."""
    command = ["tshark", "-r", str(capture), "-d", f"tcp.port=={ECHO_PORT},tls", "-Y", wanted]
    fields = ["-T", "fields", "-e", "tcp.stream"]
    done = subprocess.run([*command, *fields], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    require_daemon("curl", "nft", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")
    with ExitStack() as stack:
        directory = stack.enter_context(home())
        shop, stock = (stack.enter_context(Namespace(name)) for name in ("shop", "stock"))
        interface, _ = link(shop, stock)
        default_route(shop, via=stock)
        default_route(stock, via=shop)
        envoys = []
        for namespace, name in ((shop, "shop"), (stock, "stock")):
            namespace.run("ip", "address", "add", "::6/128", "dev", "lo")  # as istio-iptables does
            stack.enter_context(echo(namespace))
            envoys.append(Envoy(namespace, directory / name, {f"{name}.mesh": ECHO_PORT}))
        trusted = directory / "trusted.pem"
        trusted.write_bytes(b"".join(envoy.certificate.read_bytes() for envoy in envoys))
        trusted.chmod(0o644)
        for envoy in envoys:
            envoy.start(trusted)
        install_istio(stock, "iptables-nft")
        yield Mesh(shop, stock, interface, (envoys[0], envoys[1]), trusted, directory)


@contextmanager
def istio_in_shop(mesh: Mesh, writer: str) -> Iterator[None]:
    install_istio(mesh.shop, writer)
    try:
        yield
    finally:
        remove_istio(mesh.shop, writer)


@contextmanager
def our_rules(mesh: Mesh, config: Path, writer: str) -> Iterator[str]:
    """Applied, and verified by real connections."""
    said = netfilter(mesh.shop, config, "apply", "--writer", writer)
    try:
        yield said
    finally:
        netfilter(mesh.shop, config, "remove")


@pytest.mark.parametrize("istio", ISTIO_WRITERS)
def test_without_our_rules_traffic_flows_and_nothing_touches_it(mesh: Mesh, istio: str):
    with istio_in_shop(mesh, istio):
        check_all_flow(mesh, None)


@pytest.fixture(scope="class")
def daemon(mesh: Mesh) -> Iterator[Daemon]:
    with running_daemon(mesh.shop, mesh.directory, SHOP) as daemon:
        yield daemon


@pytest.fixture(scope="class")
def config(mesh: Mesh, daemon: Daemon) -> Path:
    return mesh.directory / "sp_proxy.yaml"


class TestWithTheDaemon:
    @pytest.mark.parametrize(
        "first, istio, ours",
        [
            ("istio", "nft", "nft"),
            ("istio", "iptables-nft", "nft"),
            ("istio", "iptables-nft", "iptables-nft"),
            ("istio", "iptables-legacy", "nft"),
            ("istio", "iptables-legacy", "iptables-legacy"),
            ("sp_proxy", "nft", "nft"),
            ("sp_proxy", "iptables-nft", "nft"),
            ("sp_proxy", "iptables-nft", "iptables-nft"),
            ("sp_proxy", "iptables-legacy", "iptables-legacy"),
        ],
    )
    def test_all_is_captured_in_clear_text_and_tls_is_on_the_wire(
        self, mesh: Mesh, daemon: Daemon, config: Path, first: str, istio: str, ours: str
    ):
        with ExitStack() as stack:
            if first == "istio":
                stack.enter_context(istio_in_shop(mesh, istio))
            said = stack.enter_context(our_rules(mesh, config, ours))
            if first != "istio":
                stack.enter_context(istio_in_shop(mesh, istio))
            assert f"with {ours}, mode beside-istio" in said
            check_all_flow(mesh, daemon)
            assert total(daemon.metrics(), "sp_proxy_worker_refused_total", 'reason="loop"') == 0
            if first != "istio":
                verified = netfilter(mesh.shop, config, "verify")
                assert "from Envoy (user 1337, 127.0.0.6)" in verified
                assert verified.count("redirected to port 16006") == verified.count("redirected to port 16001") == 2

    def test_tshark_sees_mutual_tls_and_nothing_else_between_the_pods(
        self, mesh: Mesh, daemon: Daemon, config: Path, tmp_path: Path
    ):
        require_root_tools("tshark")
        frames: list[bytes] = []
        with (
            istio_in_shop(mesh, "nft"),
            our_rules(mesh, config, "nft"),
            wire(mesh.shop, mesh.interface, frames),
        ):
            expected = {case.path for case in every_way(mesh) if case.on_wire}
        for path in expected:
            daemon.exchange_where(path=path)
        capture = tmp_path / "capture.pcap"
        write_pcap(capture, frames)
        # Whatever has bytes is a conversation in TLS from its beginning, in which both ends show a certificate.
        talks = set(tshark(capture, "tcp.len > 0"))
        assert len(talks) == len(expected)
        assert set(tshark(capture, "tls.handshake.type == 1")) == talks
        for side in ("tcp.srcport", "tcp.dstport"):
            assert set(tshark(capture, f"tls.handshake.type == 11 && {side} == {ECHO_PORT}")) == talks
        assert set(tshark(capture, "tls.app_data")) == talks

    @pytest.mark.parametrize("writer", ["nft", "iptables-nft"])
    def test_limited_to_what_it_needs_it_does_the_same(self, mesh: Mesh, daemon: Daemon, config: Path, writer: str):
        with istio_in_shop(mesh, writer):
            said = netfilter(mesh.shop, config, "apply", "--writer", writer, "--set", "netfilter.restrict_egress=true")
            try:
                assert "mode beside-istio" in said
                check_all_flow(mesh, daemon)
                with pytest.raises(AssertionError, match="curl"):
                    mesh.curl(mesh.shop, "192.0.2.99", "elsewhere", "/no-business", user=DAEMON_UID)
            finally:
                netfilter(mesh.shop, config, "remove")

    def test_a_call_to_the_pods_own_address_stays_in_it(self, mesh: Mesh, daemon: Daemon, config: Path):
        with istio_in_shop(mesh, "nft"), our_rules(mesh, config, "nft"):
            for address in (mesh.shop.ipv4, mesh.shop.ipv6, "127.0.0.1", "::1"):
                arrived = mesh.ask(mesh.shop, address, "shop.mesh", "/self")
                assert "x-sp-num" not in arrived
                assert "x-request-id" not in arrived
        assert daemon.exchanges(path="/self") == []

    def test_probes_reach_the_application_and_are_exempt_by_path(self, mesh: Mesh, daemon: Daemon, config: Path):
        """As pilot-agent sends what it has rewritten: as Envoy's user, from 127.0.0.6."""
        with istio_in_shop(mesh, "iptables-nft"), our_rules(mesh, config, "iptables-nft"):
            for address, source in ((mesh.shop.ipv4, "127.0.0.6"), (mesh.shop.ipv6, "::6")):
                for path in ("/healthz", "/probed"):
                    mesh.curl(mesh.shop, address, "shop", path, "--interface", source, user=ENVOY_UID)
            eventually(
                lambda: daemon.exchanges(path="/probed"), lambda found: len(found) == 2, "the other path is captured"
            )
        assert daemon.exchanges(path="/healthz") == []

    def test_what_is_not_encrypted_reaches_the_application_too(self, mesh: Mesh, daemon: Daemon, config: Path):
        """From outside the mesh, and to outside: Envoy's permissive mode and its pass-through."""
        with istio_in_shop(mesh, "nft"), our_rules(mesh, config, "nft"):
            arrived = mesh.ask(mesh.stock, mesh.shop.ipv4, "elsewhere", "/plain-in")
            assert arrived["x-sp-num"] == "1"
            arrived = mesh.ask(mesh.shop, mesh.stock.ipv4, "elsewhere", "/plain-out")
            assert arrived["x-sp-num"] == "1"
            assert daemon.exchange_where(path="/plain-in")["direction"] == "inbound"
            assert daemon.exchange_where(path="/plain-out")["direction"] == "outbound"

    def test_envoy_may_die_and_come_back(self, mesh: Mesh, daemon: Daemon, config: Path):
        with istio_in_shop(mesh, "nft"), our_rules(mesh, config, "nft"):
            mesh.envoys[0].kill()
            try:
                for near, address, host in (
                    (mesh.stock, mesh.shop.ipv4, "shop.mesh"),
                    (mesh.shop, mesh.stock.ipv4, "stock.mesh"),
                ):
                    with pytest.raises(AssertionError, match="curl"):
                        mesh.ask(near, address, host, "/lost")
            finally:
                mesh.envoys[0].start(mesh.trusted)
            check_all_flow(mesh, daemon)

    @pytest.mark.parametrize("istio, ours", [("nft", "iptables-nft"), ("iptables-nft", "iptables-legacy")])
    def test_rules_that_would_come_after_istios_are_refused(self, mesh: Mesh, config: Path, istio: str, ours: str):
        with istio_in_shop(mesh, istio):
            apply = (PROGRAM, "netfilter", "apply", "--config", str(config), "--writer", ours)
            done = mesh.shop.run(*apply, check=False)
            assert done.returncode == 1
            assert f"rules of {ours} would come after Istio's" in done.stderr
            assert "use --writer nft" in done.stderr

    def test_in_another_mode_istio_is_seen_and_the_rules_are_refused(self, mesh: Mesh, config: Path):
        with istio_in_shop(mesh, "iptables-nft"):
            for mode in ("standalone", "outbound-only"):
                apply = (PROGRAM, "netfilter", "apply", "--config", str(config), "--set", f"netfilter.mode={mode}")
                done = mesh.shop.run(*apply, check=False)
                assert done.returncode == 1
                assert "set netfilter.mode to beside-istio" in done.stderr
            check_all_flow(mesh, None)


@pytest.mark.parametrize("writer, ways", [("nft", [False, True]), ("iptables-nft", [True])])
def test_uploads_go_through_envoy_or_past_it(mesh: Mesh, writer: str, ways: list[bool]):
    """To a backend outside: what Envoy has forwarded has its header fields. The peer's own Envoy is out of the way here."""
    directory = mesh.directory / f"upload-{writer}"
    directory.mkdir()
    directory.chmod(0o777)
    settings: dict[str, Any] = {
        **SETTINGS,
        **SHOP,
        "sp_backend_url": f"http://{mesh.stock.ipv4}:{SINK_PORT}",
        "public_key": "key",
    }
    with otlp_sink(mesh.stock, SINK_PORT) as sink, istio_in_shop(mesh, writer):
        remove_istio(mesh.stock, "iptables-nft")
        try:
            for past in ways:
                networks = [f"{mesh.stock.ipv4}/32"] if past else []
                config = write_config(directory, {**settings, "netfilter": {**BESIDE, "past_istio_cidrs": networks}})
                path = f"/uploaded-{past}"
                # A daemon each, since a connection that is there keeps its way.
                with our_rules(mesh, config, writer), started(mesh, directory, config) as daemon:
                    eventually(
                        lambda: joined(json.loads(mesh.curl(mesh.stock, mesh.shop.ipv4, "elsewhere", path))["headers"]),  # noqa: B023
                        lambda arrived: "x-sp-num" in arrived,
                        "redirected",
                    )
                    arrived = eventually(
                        lambda: [each for each in sink.spans if each.span.name == path],  # noqa: B023
                        bool,
                        f"{path} is uploaded",
                    )
                    assert ("x-envoy-expected-rq-timeout-ms" in arrived[0].upload_headers) is not past
                    daemon.stop()
        finally:
            install_istio(mesh.stock, "iptables-nft")


@contextmanager
def started(mesh: Mesh, directory: Path, config: Path) -> Iterator[Daemon]:
    """One that the test may end itself."""
    daemon = launch(mesh.shop, directory, config)
    try:
        daemon.wait_ready()
        yield daemon
    except BaseException:
        print(daemon.log)
        raise
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def test_the_daemon_may_end_and_come_back_under_load(mesh: Mesh):
    """Asked to end it refuses nobody: Envoy and the application go on without it."""
    directory = mesh.directory / "restarting"
    directory.mkdir(mode=0o777)
    directory.chmod(0o777)
    config = write_config(
        directory, {**SETTINGS, **SHOP, "backend": {"enabled": True, "database": str(directory / "s")}}
    )
    daemon = launch(mesh.shop, directory, config)
    try:
        daemon.wait_ready()
        with istio_in_shop(mesh, "nft"), our_rules(mesh, config, "nft"):
            check_all_flow(mesh, daemon)
            daemon.process.send_signal(signal.SIGTERM)
            while daemon.process.poll() is None:
                for _ in every_way(mesh):
                    pass
            assert daemon.process.wait(TIMEOUT) == 0
            check_all_flow(mesh, None)
            daemon = launch(mesh.shop, directory, config)
            daemon.wait_ready()
            eventually(
                lambda: next(every_way(mesh)).arrived.get("x-sp-num"), lambda hops: hops == "1", "captured again"
            )
            check_all_flow(mesh, daemon)
    finally:
        if daemon.process.poll() is None:
            daemon.process.terminate()
            daemon.process.wait(TIMEOUT)
