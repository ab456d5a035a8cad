"""``docs/kubernetes.md``, followed: the example as ``kubectl apply -k`` sends it, its pods run as a node runs them."""

import base64
import http.client
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from sp_proxy.cli.main import main
from tests.deploy.image import Image
from tests.deploy.kubelet import Pod
from tests.deploy.site import Site, site
from tests.deploy.test_manifests import KUBERNETES, kustomize, template
from tests.e2e.harness import eventually
from tests.netns import Namespace

pytestmark = pytest.mark.timeout(1500)  # the first of them builds the image

SERVICES = ("inventory", "payment", "orders")
REQUESTS = 40
"""Of the customers, as the example says."""


def ask(place: Namespace, path: str, /, *, password: str = "change-me", **parameters: str) -> Any:
    """The backend's API, with the example's token, from inside its pod as ``kubectl port-forward`` does."""

    def inside() -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", 4318, timeout=30)
        token = base64.b64encode(f"any:{password}".encode()).decode()
        connection.request("GET", f"{path}?{urlencode(parameters)}", headers={"authorization": f"Basic {token}"})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert response.status == 200, body
        return json.loads(body)

    return place.call(inside)


@contextmanager
def shop(image: Image, overlay: str) -> Iterator[tuple[Site, dict[str, Pod]]]:
    objects = kustomize(KUBERNETES / "overlays" / overlay)
    templates = {one["metadata"]["name"]: template(one) for one in objects if one["kind"] in {"Deployment", "Job"}}
    with site(image, "backend", *SERVICES, "customers") as place:
        pods = {name: place.pod(name, templates[name], objects) for name in ("backend", *SERVICES, "customers")}
        yield place, pods


def test_the_shop_is_captured_from_end_to_end(image: Image):
    with shop(image, "standalone") as (place, pods):
        for name in ("backend", *SERVICES):
            pods[name].start()
        for name in ("backend", *SERVICES):
            pods[name].wait_ready()
            assert name == "backend" or pods[name].is_alive("sp-proxy")
        customers = pods["customers"]
        customers.start()
        customers.wait_ready()
        job = customers.containers["customers"]
        assert job.wait(120) == 0, job.log
        took = customers.stop()  # a job's pod ends when its application has
        assert took < 15, "nothing is in flight any more"
        assert customers.containers["sp-proxy"].exit_code == 0, customers.containers["sp-proxy"].log

        look = partial(ask, place.places["backend"], "/api/v1/exchanges", limit="1000")
        made = job.log.count("\n")  # a line for each call
        assert made == REQUESTS

        def complete() -> Counter[tuple[str, str]]:
            return Counter((one["service"], one["direction"]) for one in look()["exchanges"])

        def all_is_there(counts: Counter[tuple[str, str]]) -> bool:
            inner = counts["orders", "outbound"]
            return (
                counts["customers", "outbound"] == counts["orders", "inbound"] == REQUESTS
                and inner > 0
                and counts["inventory", "inbound"] + counts["payment", "inbound"] == inner
            )

        eventually(complete, all_is_there, "both ends of every call have arrived")
        for name in SERVICES:
            assert pods[name].stop() < 30
            sidecar = pods[name].containers["sp-proxy"]
            assert sidecar.exit_code == 0, sidecar.log
            assert "Traceback" not in sidecar.log
        exchange = next(one for one in look(service="orders", direction="inbound")["exchanges"])
        full = ask(place.places["backend"], f"/api/v1/exchanges/{exchange['span_id']}", trace=exchange["trace_id"])
        resource = full["resource"]
        assert resource["k8s.pod.name"] == "orders"
        assert resource["k8s.namespace.name"] == "shop"
        assert resource["k8s.node.name"] == "node-1"


def test_what_inject_prints_runs_as_the_component_does(image: Image, tmp_path: Path):
    """The same example, with ``sp-proxy inject`` in the place of kustomize: classic, so with a hook at the end."""
    example = KUBERNETES / "example" / "shop.yaml"
    services = [one for one in example.read_text("utf-8").split("---\n") if "kind: Job" not in one]
    (tmp_path / "services.yaml").write_text("---\n".join(services), "utf-8")
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["inject", "-f", str(tmp_path / "services.yaml"), "--classic"]) == 0
    deployments = {
        one["metadata"]["name"]: template(one)
        for one in yaml.safe_load_all(printed.getvalue())
        if one["kind"] == "Deployment"
    }
    objects = kustomize(KUBERNETES / "overlays" / "standalone")
    for one in objects:
        if one["kind"] in {"ConfigMap", "Secret"} and one["metadata"]["name"].startswith("sp-proxy-"):
            one["metadata"]["name"] = "sp-proxy"
    backend = next(
        template(one) for one in objects if one["kind"] == "Deployment" and one["metadata"]["name"] == "backend"
    )
    with site(image, "backend", "inventory") as place:
        pods = {
            "backend": place.pod("backend", backend, objects),
            "inventory": place.pod("inventory", deployments["inventory"], objects),
        }
        for pod in pods.values():
            pod.start()
            pod.wait_ready()
        address = place.places["inventory"].ipv4
        place.node.run("curl", "-sSf", f"http://{address}:8080/catalog")
        look = partial(ask, place.places["backend"], "/api/v1/exchanges", path="/catalog")
        (one,) = eventually(lambda: look()["exchanges"], bool, "the call is captured")
        assert (one["service"], one["direction"]) == ("inventory", "inbound")
        inventory = pods["inventory"]
        assert 4 < inventory.stop() < 30
        hook, term = inventory.when("sp-proxy", "preStop"), inventory.when("sp-proxy", "TERM")
        assert inventory.when("inventory", "TERM") < hook + 1, "the application is asked to end at once"
        assert term - hook > 4
        assert inventory.containers["sp-proxy"].exit_code == 0, inventory.containers["sp-proxy"].log
