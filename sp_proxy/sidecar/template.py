"""Puts the sidecar into a pod template, and takes it out (pure). Templates are plain data and are not changed: a new one has
the untouched parts of the old one.

What is ours is known by its name, so a second time is the same as once, and taking out needs no record of what was there.
"""

from typing import Any

from sp_proxy.sidecar.containers import INIT_NAME, VOLUMES, init_container, proxy_container, volumes
from sp_proxy.sidecar.deadline import DEFAULT_SECONDS, divide
from sp_proxy.sidecar.plan import ADMIN_PORT, INJECTED, NAME, Sidecar

ISTIO_PORTS = "traffic.sidecar.istio.io/excludeInboundPorts"
"""Inbound ports that Istio's rules leave alone, with commas: probes and Prometheus then reach the admin server itself."""
_ISTIO_FIRST = ("istio-init", "istio-validation", "istio-proxy")
"""Among the init containers: what must have run before ours. Istio's webhook, which comes later, puts them first itself."""
_OURS = (INIT_NAME, NAME)

type Plain = dict[str, Any]


def with_sidecar(template: Plain, sidecar: Sidecar) -> Plain:
    """The template with the sidecar, in place of one that is there."""
    bare = without_sidecar(template)
    spec: Plain = bare["spec"]
    seconds = spec.get("terminationGracePeriodSeconds")
    deadline = divide(seconds if isinstance(seconds, int) else DEFAULT_SECONDS, pre_stop=not sidecar.native)
    proxy = proxy_container(sidecar, deadline)
    first = [init_container(sidecar), *([proxy] if sidecar.native else [])]
    before: list[Plain] = spec.get("initContainers") or []
    place = max((index + 1 for index, one in enumerate(before) if one.get("name") in _ISTIO_FIRST), default=0)
    spec = {**spec, "initContainers": [*before[:place], *first, *before[place:]]}
    if not sidecar.native:
        spec["containers"] = [*spec["containers"], proxy]
    spec["volumes"] = [*(spec.get("volumes") or []), *volumes(sidecar)]
    metadata = dict(bare.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), INJECTED: "true"}
    if sidecar.istio:
        annotations = metadata.get("annotations") or {}
        before_ours = f"{annotations[ISTIO_PORTS]}," if annotations.get(ISTIO_PORTS) else ""
        metadata["annotations"] = {**annotations, ISTIO_PORTS: f"{before_ours}{ADMIN_PORT}"}
    return {**bare, "metadata": metadata, "spec": spec}


def without_sidecar(template: Plain) -> Plain:
    """The template without the sidecar; the very same one if there is none."""
    spec: Plain = template["spec"]
    lists = {"initContainers": _OURS, "containers": _OURS, "volumes": VOLUMES}
    for key, names in lists.items():
        items = spec.get(key) or []
        left = [item for item in items if item.get("name") not in names]
        if len(left) != len(items):
            spec = _replaced(spec, key, left)
    metadata: Plain = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    if INJECTED in labels:
        metadata = _replaced(metadata, "labels", {key: value for key, value in labels.items() if key != INJECTED})
    annotations = metadata.get("annotations") or {}
    ports = str(annotations.get(ISTIO_PORTS, "")).split(",")
    if ports[-1] == str(ADMIN_PORT):
        metadata = _replaced(metadata, "annotations", _replaced(annotations, ISTIO_PORTS, ",".join(ports[:-1])))
    if spec is template["spec"] and metadata == (template.get("metadata") or {}):
        return template
    return _replaced({**template, "spec": spec}, "metadata", metadata)


def istio_is_meant(template: Plain) -> bool:
    """Whether the template says that Istio's Envoy is in its pods. A label of the namespace may say so too, unseen here."""
    spec: Plain = template["spec"]
    names = {one.get("name") for key in ("initContainers", "containers") for one in spec.get(key) or []}
    metadata: Plain = template.get("metadata") or {}
    labels = metadata.get("labels") or {}
    marks = {**(metadata.get("annotations") or {}), **labels}
    asked = str(marks.get("sidecar.istio.io/inject", "")).lower()
    return "istio-proxy" in names or asked == "true" or ("istio.io/rev" in labels and asked != "false")


def _replaced(mapping: Plain, key: str, value: Any) -> Plain:
    """The mapping with this value; without the key if the value holds nothing."""
    if value:
        return {**mapping, key: value}
    return {name: other for name, other in mapping.items() if name != key}
