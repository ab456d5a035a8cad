"""A node with pods on it: a namespace that routes, and one for each pod, wired to it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.image import Image
from tests.deploy.kubelet import Cluster, Pod
from tests.e2e.harness import home
from tests.netns import Namespace, default_route, link

Plain = dict[str, Any]


class Site:
    """Pods by name; their names are known to all of them, as services are."""

    def __init__(self, stack: ExitStack, directory: Path, images: Mapping[str, Image], names: Sequence[str]) -> None:
        self.directory = directory
        self.node = stack.enter_context(Namespace("node"))
        self.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self._stack = stack
        self._images = images
        self.places: dict[str, Namespace] = {}
        self.interfaces: dict[str, str] = {}
        self._node_addresses: dict[str, str] = {}
        for name in names:
            place = stack.enter_context(Namespace(name))
            _, self.interfaces[name] = link(self.node, place)
            default_route(place, via=self.node)
            self.places[name], self._node_addresses[name] = place, self.node.ipv4
        self.hosts = {f"{name}{end}": place.ipv4 for name, place in self.places.items() for end in ("", ".shop")}

    def pod(self, name: str, template: Plain, objects: Sequence[Plain] = (), **hosts: str) -> Pod:
        """One of a template, not started."""
        volumes = self.directory / f"{name}-{len(list(self.directory.iterdir()))}"
        volumes.mkdir(mode=0o755)
        cluster = Cluster(objects, self._images, volumes, {**self.hosts, **hosts}, self.node)
        pod = Pod(cluster, name, template, self.places[name], self._node_addresses[name])
        self._stack.callback(pod.delete)
        return pod


@contextmanager
def site(image: Image, *names: str) -> Iterator[Site]:
    """One with places for these pods. The image goes by the name that it has in the manifests."""
    with home() as directory, ExitStack() as stack:
        (directory / "pods").mkdir(mode=0o755)
        yield Site(stack, directory / "pods", {"sp-proxy:0.1.0": image}, names)


def config_map(settings: Plain, name: str = "sp-proxy") -> Plain:
    """The sidecar's configuration."""
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"sp-proxy.yaml": yaml.safe_dump(settings)}}


def secret(key: str = "demo", name: str = "sp-proxy") -> Plain:
    """The sidecar's key."""
    return {"kind": "Secret", "metadata": {"name": name}, "stringData": {"public_key": key}}
