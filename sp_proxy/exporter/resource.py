"""The resource attributes that all spans of this daemon share (contract section 4); pure.

``service.name`` is not among them: it may differ from record to record.
"""

from collections.abc import Mapping

from sp_proxy import __version__
from sp_proxy.settings.model import SettingsModel

PUBLIC_KEY = "sp.public.key"
"""The tenant's identity: for the Softprobe backend only."""
KUBERNETES = (
    ("k8s.pod.name", ("POD_NAME",)),
    ("k8s.pod.uid", ("POD_UID",)),
    ("k8s.namespace.name", ("POD_NAMESPACE", "KUBERNETES_NAMESPACE")),
    ("k8s.node.name", ("NODE_NAME",)),
    ("k8s.deployment.name", ("DEPLOYMENT_NAME",)),
    ("k8s.container.name", ("CONTAINER_NAME",)),
)
"""Attribute, and the variables it is from, the first that is set: those which the downward API is used with."""


def resource_attributes(settings: SettingsModel, environ: Mapping[str, str]) -> dict[str, str]:
    """Attributes in order. What is known about ourselves wins over a custom tag of the same name."""
    attributes = {
        "sp.resource.type": settings.resource_type,
        PUBLIC_KEY: settings.public_key.get_secret_value(),
        "telemetry.sdk.name": "sp-proxy",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
        "host.name": environ.get("HOSTNAME", "").strip(),
    }
    for attribute, variables in KUBERNETES:
        attributes[attribute] = next((value for name in variables if (value := environ.get(name, "").strip())), "")
    return settings.tags | {name: value for name, value in attributes.items() if value}
