"""The name of this workload, from configuration and environment (contract section 3).

The request's own ``x-sp-service-name`` and the last resort ``unknown-service`` belong to injection, which sees the
request.
"""

from collections.abc import Iterator, Mapping
from typing import Final

DETECT: Final = "default-service"
"""The configured value which, like an empty one, means: detect."""

_NAMED: Final = ("OTEL_SERVICE_NAME", "APP_NAME", "SERVICE_NAME")
_PODS: Final = ("POD_NAME", "HOSTNAME")
_LABELS: Final = (
    "APP_LABEL",
    "SERVICE_LABEL",
    "CONTAINER_NAME",
    "DEPLOYMENT_NAME",
    "K8S_APP",
    "KUBERNETES_APP",
)
_NAMESPACES: Final = ("POD_NAMESPACE", "KUBERNETES_NAMESPACE")


def without_pod_suffix(name: str) -> str:
    """A pod's name without the last two dash-separated parts (``cart-7d9f-x2x4z`` is a pod of ``cart``).

    Empty when there are no three parts.
    """
    return "-".join(name.split("-")[:-2])


def _candidates(configured: str, environ: Mapping[str, str]) -> Iterator[str]:
    if configured.strip() != DETECT:
        yield configured
    for key in _NAMED:
        yield environ.get(key, "")
    for key in _PODS:
        yield without_pod_suffix(environ.get(key, "").strip())
    for key in _LABELS:
        yield environ.get(key, "")
    for key in _NAMESPACES:
        namespace = environ.get(key, "")
        if namespace.strip() != "default":
            yield namespace


def detect(configured: str, environ: Mapping[str, str]) -> str:
    """The first name that is not empty; ``""`` when nothing names this workload.

    The name becomes a header value, so surrounding white space is dropped, and a candidate with control characters
    in it is passed over: it would end the field early and forge another.
    """
    for candidate in _candidates(configured, environ):
        name = candidate.strip()
        if name and name.isprintable():
            return name
    return ""
