"""What is asked for: everything about the sidecar that is not the same in every pod."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sp_proxy import __version__

PREFIX = "sp-proxy/"
"""Of our annotations and labels."""
INJECT = f"{PREFIX}inject"
"""Annotation of a workload or its pods: ``"false"`` keeps the sidecar out."""
INJECTED = f"{PREFIX}injected"
"""Label of pods that have the sidecar, for selectors."""
IMAGE = f"sp-proxy:{__version__}"
NAME = "sp-proxy"
"""Of the sidecar, and, where nobody says otherwise, of its ConfigMap and Secret."""

ADMIN_PORT = 16021
MODE = "SP_PROXY_NETFILTER__MODE"


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One form of the sidecar."""

    image: str = IMAGE
    native: bool = True
    """An init container with ``restartPolicy: Always`` (Kubernetes 1.29): it starts before the application and ends after
    it. Else one of the pod's containers, as before that."""
    istio: bool = False
    """Istio's Envoy is in the pod, or will be put there."""
    config_map: str = NAME
    """Its key ``sp-proxy.yaml`` is the configuration."""
    secret: str = NAME
    """Its key ``public_key``, where it is."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Settings for this workload alone, as environment variables; they win over the ConfigMap's."""
