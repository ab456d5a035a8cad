"""The sidecar in a pod's life: the end in order and in time, its own death, and what is wrong with its configuration."""

import threading
from typing import Any

import pytest

from sp_proxy.sidecar.plan import Sidecar
from sp_proxy.sidecar.template import with_sidecar
from tests.deploy.image import Image
from tests.deploy.kubelet import Pod
from tests.deploy.site import Site, config_map, secret, site
from tests.e2e.harness import eventually
from tests.e2e.otlp_sink import Sink, otlp_sink

pytestmark = pytest.mark.timeout(1500)  # the first of them builds the image

SINK_PORT = 4318
FINISHING_SECONDS = 2.0

APPLICATION = f"""
import http.client, http.server, signal, sys, threading, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            print("slow", flush=True)
            time.sleep(1)
        body = str(self.headers["x-sp-service-name"]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass

def finish(*_):
    threading.Thread(target=last).start()

def last():
    time.sleep({FINISHING_SECONDS})
    connection = http.client.HTTPConnection("peer", 8080, timeout=10)
    connection.request("GET", "/last")
    print("last", connection.getresponse().status, flush=True)
    server.shutdown()

signal.signal(signal.SIGTERM, finish)
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
server.daemon_threads = False
server.serve_forever()
"""
"""Asked to end, it finishes what it does, and calls somebody once more."""

PEER = APPLICATION.replace("signal.signal(signal.SIGTERM, finish)", "")


def application(code: str, name: str = "app", **spec: Any) -> dict[str, Any]:
    """A pod template."""
    container = {
        "name": name,
        "image": "sp-proxy:0.1.0",
        "command": ["python", "-c", code],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "readOnlyRootFilesystem": True},
    }
    return {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **spec}}


SETTINGS = {"sp_backend_url": f"http://sink:{SINK_PORT}", "exemptionRules": [{"pathPatterns": ["^/healthz"]}]}


def started(place: Site, sidecar: Sidecar, settings: dict[str, Any] = SETTINGS, **spec: Any) -> Pod:
    """The application with this sidecar, ready."""
    template = with_sidecar(application(APPLICATION, **spec), sidecar)
    pod = place.pod("app", template, [config_map(settings), secret()], sink=place.places["peer"].ipv4)
    pod.start()
    return pod


def captured(sink: Sink, path: str) -> list[Any]:
    return [each for each in list(sink.spans) if each.span.name == path]


def get(place: Site, path: str) -> str:
    """From outside, on a connection of its own; which service name the application saw."""
    return place.node.run("curl", "-sSf", "--max-time", "20", f"http://{place.places['app'].ipv4}:8080{path}").stdout


def seen(place: Site) -> str:
    """The same, or nothing where nobody answers."""
    return place.node.run("curl", "-sf", f"http://{place.places['app'].ipv4}:8080/", check=False).stdout


def redirected(place: Site) -> bool:
    return seen(place) == "app"


@pytest.mark.parametrize("sidecar", [Sidecar(), Sidecar(native=False)], ids=["native", "classic"])
def test_the_last_call_of_an_ending_application_is_captured_and_delivered(image: Image, sidecar: Sidecar):
    with site(image, "app", "peer") as place, otlp_sink(place.places["peer"], SINK_PORT) as sink:
        peer = place.pod("peer", application(PEER, "peer"))
        peer.start()
        pod = started(place, sidecar)
        pod.wait_ready()
        eventually(lambda: redirected(place), bool, "redirected")
        slow: list[str] = []
        asking = threading.Thread(target=lambda: slow.append(get(place, "/slow")))
        asking.start()
        eventually(lambda: pod.containers["app"].log, lambda log: "slow" in log, "in flight")
        took = pod.stop()
        asking.join()
        assert slow == ["app"], "what was in flight was answered, through the sidecar"
        assert pod.containers["app"].exit_code == 0
        assert "last 200" in pod.containers["app"].log
        proxy = pod.containers["sp-proxy"]
        assert proxy.exit_code == 0, proxy.log
        assert FINISHING_SECONDS < took < 25, pod.events
        exit_of_app = pod.when("app", "exit 0")
        if sidecar.native:
            assert pod.when("sp-proxy", "TERM") >= exit_of_app, "its turn comes when the application has ended"
        else:
            assert pod.when("sp-proxy", "preStop") < exit_of_app
        assert len(captured(sink, "/slow")) == len(captured(sink, "/last")) == 1
        assert captured(sink, "/last")[0].resource["service.name"] == "app"


def test_an_application_that_takes_all_the_time_leaves_enough(image: Image):
    """It is killed at the deadline; the sidecar has two seconds then, whatever the deadline was."""
    with site(image, "app", "peer") as place, otlp_sink(place.places["peer"], SINK_PORT) as sink:
        deaf = APPLICATION.replace(
            "signal.signal(signal.SIGTERM, finish)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        )
        template = with_sidecar(application(deaf, terminationGracePeriodSeconds=6), Sidecar())
        pod = place.pod("app", template, [config_map(SETTINGS), secret()], sink=place.places["peer"].ipv4)
        pod.start()
        pod.wait_ready()
        eventually(lambda: redirected(place), bool, "redirected")
        get(place, "/before-the-end")
        pod.stop()
        assert pod.containers["app"].exit_code == 137
        assert pod.containers["sp-proxy"].exit_code == 0, pod.containers["sp-proxy"].log
        assert captured(sink, "/before-the-end")


def test_the_application_goes_on_without_its_sidecar_and_with_the_next_one(image: Image):
    with site(image, "app", "peer") as place, otlp_sink(place.places["peer"], SINK_PORT):
        pod = started(place, Sidecar())
        pod.wait_ready()
        eventually(lambda: redirected(place), bool, "redirected")
        pod.containers["sp-proxy"].kill("KILL")
        assert pod.containers["sp-proxy"].wait(30) == 137

        eventually(
            lambda: seen(place),
            lambda name: name == "None",
            "straight to the application, within the heartbeat's timeout",
        )
        pod.restart("sp-proxy")
        eventually(lambda: redirected(place), bool, "redirected again")


@pytest.mark.parametrize("sidecar", [Sidecar(), Sidecar(native=False)], ids=["native", "classic"])
@pytest.mark.parametrize(
    "settings, said",
    [
        ({"listen": {"inbund": 1}}, "listen.inbund: unknown key"),
        (
            {"listen": {"inbound": "127.0.0.1:16006"}, **SETTINGS},
            "redirected connections do not arrive at 127.0.0.1:16006",
        ),
    ],
    ids=["wrong", "impossible"],
)
def test_a_configuration_that_is_wrong_is_told_and_the_application_goes_on(
    image: Image, settings: dict[str, Any], said: str, sidecar: Sidecar
):
    with site(image, "app", "peer") as place:
        pod = started(place, sidecar, settings)
        assert said in pod.containers["sp-proxy-init"].log
        assert "nothing is captured" in pod.termination_message("sp-proxy-init")
        eventually(lambda: seen(place), lambda name: name == "None", "the application answers")
        assert "sp_proxy" not in place.places["app"].run("nft", "list", "ruleset").stdout
        proxy = pod.containers["sp-proxy"]
        if "unknown key" in said:
            eventually(lambda: proxy.log, lambda log: said in log, "it says so too")

            def ended() -> int | None:
                proxy.kill("TERM")  # not only once: the line is written a moment before it waits for signals
                return proxy.exit_code

            assert eventually(ended, lambda code: code is not None, "asked to end, it does not linger", timeout=15) == 2


def test_the_containers_have_what_the_manifest_gives_them_and_no_more(image: Image):
    with site(image, "app", "peer") as place, otlp_sink(place.places["peer"], SINK_PORT):
        pod = started(place, Sidecar())
        pod.wait_ready()
        status = pod.containers["sp-proxy"].status()
        assert status["Uid"].split()[0] == "1338"
        assert {status[key] for key in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        said = pod.containers["sp-proxy-init"].log
        assert "mode standalone" in said
        assert "FAIL" not in said
        # From the node, where the kubelet and Prometheus are: health and numbers, nothing else.
        address = place.places["app"].ipv4

        def code(method: str, path: str) -> str:
            command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method)
            return place.node.run(*command, f"http://{address}:16021{path}").stdout

        assert [code("GET", path) for path in ("/healthz/ready", "/metrics", "/config")] == ["200", "200", "403"]
        assert code("POST", "/drain") == "403"
        assert code("GET", "/healthz/ready") == "200"
