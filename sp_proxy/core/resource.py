"""The resource of a batch: who sends it (contract section 4)."""

from collections.abc import Mapping
from typing import Final

from sp_proxy.core.otlp import encode_scope

LIBRARY: Final = "sp_proxy"
"""``telemetry.sdk.name``, and the name of the instrumentation scope."""

_KUBERNETES: Final = (
    ("k8s.pod.name", ("POD_NAME",)),
    ("k8s.pod.uid", ("POD_UID",)),
    ("k8s.pod.ip", ("POD_IP",)),
    ("k8s.namespace.name", ("POD_NAMESPACE", "KUBERNETES_NAMESPACE")),
    ("k8s.node.name", ("NODE_NAME",)),
    ("k8s.deployment.name", ("DEPLOYMENT_NAME",)),
    ("k8s.container.name", ("CONTAINER_NAME",)),
)
"""Attribute and the environment names that tell it, the first one set. Only what the environment says is sent: a name
guessed from another would be wrong in the cases in which somebody needs it.
"""


def kubernetes_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """The ``k8s.*`` resource attributes that the environment (the downward API) knows."""
    found = {}
    for attribute, names in _KUBERNETES:
        value = next((environ[name] for name in names if environ.get(name)), "")
        if value:
            found[attribute] = value
    return found


def resource_attributes(
    service_name: str,
    *,
    version: str,
    resource_type: str,
    public_key: str = "",
    host_name: str = "",
    kubernetes: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Attributes of one service's resource. Tags come first, so that none can replace an attribute of the contract."""
    attributes = {
        **(tags or {}),
        **(kubernetes or {}),
        "service.name": service_name,
        "sp.resource.type": resource_type,
        "telemetry.sdk.name": LIBRARY,
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": version,
    }
    if public_key:
        attributes["sp.public.key"] = public_key
    if host_name:
        attributes["host.name"] = host_name
    return attributes


def scope(version: str) -> bytes:
    """The instrumentation scope of all our spans, laid."""
    return encode_scope(LIBRARY, version)
