"""The sidecar in a pod with Istio's Envoy, from its start to its end: what was captured last is delivered before Envoy goes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sp_proxy.sidecar.plan import Sidecar
from sp_proxy.sidecar.template import with_sidecar
from tests.deploy.image import Image
from tests.deploy.kubelet import Pod
from tests.deploy.site import Site, config_map, secret, site
from tests.deploy.test_pod_life import APPLICATION, PEER, SETTINGS, SINK_PORT, application, captured, get, redirected
from tests.e2e.envoy import Envoy, install_istio
from tests.e2e.harness import eventually
from tests.e2e.otlp_sink import Sink, otlp_sink

pytestmark = pytest.mark.timeout(1500)  # the first of them builds the image


@contextmanager
def mesh(image: Image, sidecar: Sidecar, writer: str) -> Iterator[tuple[Site, Pod, Envoy, Sink]]:
    """The pod beside Envoy, ready; and outside the mesh a peer and the backend.

    Istio's init container runs first where Envoy is a native sidecar, and last where it is a classic one.
    """
    with site(image, "app", "peer") as place, otlp_sink(place.places["peer"], SINK_PORT) as sink:
        place.pod("peer", application(PEER, "peer")).start()
        inside = place.places["app"]
        inside.run("ip", "address", "add", "::6/128", "dev", "lo")  # as istio-init does
        envoy = Envoy(inside, place.directory / "envoy", {})
        template = with_sidecar(application(APPLICATION), sidecar)
        pod = place.pod("app", template, [config_map(SETTINGS), secret()], sink=place.places["peer"].ipv4)
        try:
            if sidecar.native:
                install_istio(inside, writer)
                envoy.start(envoy.certificate)
            pod.start()
            if not sidecar.native:
                install_istio(inside, writer)
                envoy.start(envoy.certificate)
            eventually(lambda: redirected(place), bool, "redirected")
            yield place, pod, envoy, sink
        finally:
            envoy.kill()


@pytest.mark.parametrize(
    "sidecar, writer",
    [
        (Sidecar(istio=True), "nft"),
        (Sidecar(istio=True), "iptables-legacy"),
        (Sidecar(native=False, istio=True), "iptables-nft"),
    ],
    ids=["native-nft", "native-iptables", "classic"],
)
def test_clear_text_is_captured_and_all_is_delivered_through_envoy(image: Image, sidecar: Sidecar, writer: str):
    with mesh(image, sidecar, writer) as (place, pod, envoy, sink):
        said = pod.containers["sp-proxy-init"].log
        assert "mode beside-istio" in said
        assert "FAIL" not in said
        before = envoy.requests("inbound")
        get(place, "/in")
        assert envoy.requests("inbound") == before + 1, "through Envoy"
        slow = threading.Thread(target=get, args=(place, "/slow"))
        slow.start()
        eventually(lambda: pod.containers["app"].log, lambda log: "slow" in log, "in flight")
        took = pod.stop()
        slow.join()
        assert took < 25
        assert pod.containers["app"].exit_code == 0
        assert "last 200" in pod.containers["app"].log
        proxy = pod.containers["sp-proxy"]
        assert proxy.exit_code == 0, proxy.log
        for path, direction in (("/in", "inbound"), ("/slow", "inbound"), ("/last", "outbound")):
            (one,) = captured(sink, path)
            assert "x-envoy-expected-rq-timeout-ms" in one.upload_headers, f"{path}: uploaded through Envoy"
            kind = {"inbound": 2, "outbound": 3}[direction]
            assert one.span.kind == kind


def test_the_kubelet_and_prometheus_reach_the_admin_server_itself(image: Image):
    """As Istio's rules leave the port alone that the annotation names; here they are told so as istio-init would be."""
    with mesh(image, Sidecar(istio=True), "iptables-nft") as (place, pod, envoy, _sink):
        inside = place.places["app"]
        inside.run(
            "iptables-nft", "-t", "nat", "-I", "ISTIO_INBOUND", "1", "-p", "tcp", "--dport", "16021", "-j", "RETURN"
        )
        before = envoy.requests("inbound")
        pod.wait_ready()
        assert pod.is_alive("sp-proxy")
        url = f"http://{inside.ipv4}:16021"
        assert "sp_proxy_build_info" in place.node.run("curl", "-sSf", f"{url}/metrics").stdout
        assert envoy.requests("inbound") - before <= 2, "only the application's own probe"


def test_from_envoy_nobody_may_drain_it(image: Image):
    """Without the annotation what comes from the network comes from 127.0.0.6, which is loopback, and still not this host."""
    with mesh(image, Sidecar(istio=True), "nft") as (place, pod, _envoy, _sink):
        address = place.places["app"].ipv4
        asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", f"http://{address}:16021/drain")
        assert place.node.run(*asked).stdout == "403"
        pod.wait_ready()
