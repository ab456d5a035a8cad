"""Istio's data plane in a network namespace: a real Envoy as user 1337, configured as istiod would, and Istio's own rules.

Outbound, port 15001: hosts of the mesh (``*.mesh``) go on with mutual TLS, all others as they are, to their original
destination. Inbound, port 15006: TLS with a certificate of the mesh, or clear text (mode PERMISSIVE), handed to the
application from 127.0.0.6 or ::6.
"""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.certificates import write_certificate
from tests.e2e.harness import eventually, get
from tests.netns import Namespace

ENVOY = Path(sys.executable).with_name("envoy")
ENVOY_UID = 1337
ADMIN_PORT = 15000
ISTIO = Path(__file__).parent / "istio"
ISTIO_WRITERS = ("nft", "iptables-nft", "iptables-legacy")
_PASS_THROUGH = {4: "127.0.0.6", 6: "::6"}
_ETH_P_ALL = 3


def install_istio(namespace: Namespace, writer: str) -> None:
    """Istio's rules, as its init container writes them."""
    if writer == "nft":
        namespace.run("nft", "-f", str(ISTIO / "sidecar.nft"))
        return
    namespace.run(f"{writer}-restore", "--noflush", str(ISTIO / "sidecar.rules.v4"))
    namespace.run(f"ip6tables-{writer.removeprefix('iptables-')}-restore", "--noflush", str(ISTIO / "sidecar.rules.v6"))


def remove_istio(namespace: Namespace, writer: str) -> None:
    """All of Istio's rules, whatever else there is."""
    if writer == "nft":
        namespace.run("nft", "delete", "table", "inet", "istio-proxy-nat")
        return
    names = ("INBOUND", "REDIRECT", "IN_REDIRECT", "OUTPUT")
    lines = ["*nat", *(f":ISTIO_{name} - [0:0]" for name in names)]
    lines += ["-D PREROUTING -p tcp -j ISTIO_INBOUND", "-D OUTPUT -j ISTIO_OUTPUT"]
    text = "\n".join([*lines, *(f"-X ISTIO_{name}" for name in names), "COMMIT", ""])
    form = writer.removeprefix("iptables-")
    for tool in ("iptables", "ip6tables"):
        namespace.run(f"{tool}-{form}-restore", "--noflush", stdin=text)


class Envoy:
    """One that can be ended and begun again. ``own_services``: virtual hosts of the mesh that are this pod itself.

    ``requests_per_connection``, upstream: connections kept from before a change of the rules go on as they did.
    """

    def __init__(
        self,
        namespace: Namespace,
        directory: Path,
        own_services: Mapping[str, int],
        *,
        requests_per_connection: int = 1,
    ) -> None:
        self._namespace = namespace
        self._directory = directory
        directory.mkdir()
        certificate = write_certificate(directory / "mesh.pem", namespace.ipv4)
        certificate.chmod(0o644)
        self.certificate = certificate
        self._own_services = own_services
        self._requests_per_connection = requests_per_connection
        self._process: subprocess.Popen[Any] | None = None

    def start(self, trusted: Path) -> None:
        """With the certificates that it trusts; returns when it is ready."""
        configuration = self._directory / "envoy.json"
        configuration.write_text(json.dumps(self._configuration(trusted)), "utf-8")
        with (self._directory / "envoy.log").open("ab") as log:
            self._process = self._namespace.popen(
                *(str(ENVOY), "-c", str(configuration), "--concurrency", "1", "--disable-hot-restart"),
                *("--log-level", "warning", "--parent-shutdown-time-s", "1", "--drain-time-s", "1"),
                user=ENVOY_UID,
                stdout=log,
                stderr=log,
            )

        def look() -> tuple[int, str]:
            assert self._process is not None
            log = (self._directory / "envoy.log").read_text("utf-8", "replace")
            assert self._process.poll() is None, log
            return get(self._namespace, ADMIN_PORT, "/ready")

        eventually(look, lambda answer: answer[0] == 200, "Envoy is ready")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def requests(self, name: str) -> int:
        """How many requests the ``inbound`` or ``outbound`` listener has taken."""
        _, text = get(self._namespace, ADMIN_PORT, f"/stats?filter=http.{name}.downstream_rq_total")
        return int(text.rpartition(":")[2])

    def _configuration(self, trusted: Path) -> dict[str, Any]:
        namespace = self._namespace
        cluster = partial(_cluster, requests_per_connection=self._requests_per_connection)
        mutual_tls = {
            "common_tls_context": {
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(self.certificate)},
                        "private_key": {"filename": str(self.certificate)},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": str(trusted)}},
            }
        }
        hosts = [
            {"name": name, "domains": [name, f"{name}:{port}"], "routes": [_route(f"own-{name}")]}
            for name, port in self._own_services.items()
        ]
        hosts += [
            {"name": "mesh", "domains": ["*.mesh", "*.mesh:8081"], "routes": [_route("mesh")]},
            {"name": "others", "domains": ["*"], "routes": [_route("others")]},
        ]
        upstream_tls = _tls("UpstreamTlsContext", mutual_tls)
        chains = []
        for family, any_address in ((4, "0.0.0.0"), (6, "::")):
            for transport in ("tls", "raw_buffer"):
                server = {**mutual_tls, "require_client_certificate": True}
                tls = {"transport_socket": _tls("DownstreamTlsContext", server)} if transport == "tls" else {}
                chains.append(
                    {
                        "filter_chain_match": {
                            "prefix_ranges": [{"address_prefix": any_address, "prefix_len": 0}],
                            "transport_protocol": transport,
                        },
                        "filters": [
                            _http(
                                "inbound", [{"name": "all", "domains": ["*"], "routes": [_route(f"inbound{family}")]}]
                            )
                        ],
                        **tls,
                    }
                )
        own = [
            cluster(f"own-{name}", "STATIC", transport_socket=upstream_tls)
            | {
                "load_assignment": {
                    "cluster_name": f"own-{name}",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(namespace.ipv4, port)}}]}],
                }
            }
            for name, port in self._own_services.items()
        ]
        passing = [
            cluster(
                f"inbound{family}",
                "ORIGINAL_DST",
                upstream_bind_config={"source_address": _address(source, 0)["socket_address"]},
            )
            for family, source in _PASS_THROUGH.items()
        ]
        return {
            "admin": {"address": _address("127.0.0.1", ADMIN_PORT)},
            "static_resources": {
                "listeners": [
                    _listener("outbound", 15001, [], [{"filters": [_http("outbound", hosts)]}]),
                    _listener("inbound", 15006, ["tls_inspector"], chains),
                ],
                "clusters": [
                    cluster("mesh", "ORIGINAL_DST", transport_socket=upstream_tls),
                    cluster("others", "ORIGINAL_DST"),
                    *own,
                    *passing,
                ],
            },
        }


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{name}", **fields}


def _tls(kind: str, context: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": _typed(f"envoy.extensions.transport_sockets.tls.v3.{kind}", **context),
    }


def _route(cluster: str) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "20s"}}


def _cluster(name: str, kind: str, *, requests_per_connection: int, **fields: Any) -> dict[str, Any]:
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "common_http_protocol_options": {"max_requests_per_connection": requests_per_connection},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    fields = {**fields, "typed_extension_protocol_options": {protocol: _typed(protocol, **options)}}
    policy = "CLUSTER_PROVIDED" if kind == "ORIGINAL_DST" else "ROUND_ROBIN"
    return {"name": name, "type": kind, "lb_policy": policy, "connect_timeout": "5s", **fields}


def _http(prefix: str, hosts: list[dict[str, Any]]) -> dict[str, Any]:
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = {"name": "router", "typed_config": _typed("envoy.extensions.filters.http.router.v3.Router")}
    configuration = {"name": prefix, "virtual_hosts": hosts}
    fields = {"stat_prefix": prefix, "route_config": configuration, "http_filters": [router]}
    return {"name": "http", "typed_config": _typed(manager, **fields)}


def _listener(name: str, port: int, filters: list[str], chains: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {"original_dst": "OriginalDst", "tls_inspector": "TlsInspector"}
    return {
        "name": name,
        "address": _address("0.0.0.0", port),
        "additional_addresses": [{"address": _address("::", port)}],
        "listener_filters": [
            {
                "name": f"envoy.filters.listener.{each}",
                "typed_config": _typed(f"envoy.extensions.filters.listener.{each}.v3.{kinds[each]}"),
            }
            for each in ("original_dst", *filters)
        ],
        "filter_chains": chains,
    }


@contextmanager
def wire(namespace: Namespace, interface: str, frames: list[bytes] | None = None) -> Iterator[bytearray]:
    """Every byte that passes an interface while the block runs, and a moment longer. ``frames`` gets them one by one."""
    seen = bytearray()
    sniffer = namespace.call(partial(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)))
    sniffer.bind((interface, 0))
    sniffer.settimeout(0.2)
    ended = threading.Event()

    def listen() -> None:
        while True:
            try:
                frame = sniffer.recv(1 << 17)
                seen.extend(frame)
                if frames is not None:
                    frames.append(frame)
            except TimeoutError:
                if ended.is_set():
                    return

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            sniffer.close()
