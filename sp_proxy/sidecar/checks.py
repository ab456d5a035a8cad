"""Whether the sidecar may go into a workload (pure)."""

from collections.abc import Iterator, Mapping
from typing import Any

from sp_proxy.sidecar.containers import DAEMON_USER, INIT_NAME
from sp_proxy.sidecar.documents import ManifestError
from sp_proxy.sidecar.plan import INJECT, NAME
from sp_proxy.sidecar.workloads import Plain, Workload


def why_left_alone(workload: Workload) -> str:
    """Why there is to be no sidecar; empty if there may be."""
    spec = workload.template["spec"]
    marks = {**workload.annotations, **((workload.template.get("metadata") or {}).get("annotations") or {})}
    if str(marks.get(INJECT, "")).lower() == "false":
        return f'annotation {INJECT} is "false"'
    if spec.get("hostNetwork") is True:
        return "hostNetwork: the rules would be the node's"
    system = spec.get("os")
    if isinstance(system, dict) and system.get("name", "linux") != "linux":
        return f"its pods are for {system['name']}"
    return ""


def check(workload: Workload, ports: Mapping[int, str], *, native: bool) -> None:
    """Raises ManifestError where the sidecar would not work, or would do harm. ``ports`` are its own, with their settings."""
    spec = workload.template["spec"]
    if not native and (workload.kind in {"Job", "CronJob"} or spec.get("restartPolicy", "Always") != "Always"):
        raise ManifestError(
            f"{workload}: a classic sidecar does not end, so this would never be complete; use the native form"
        )
    for container in _others(workload):
        name = container.get("name")
        if taken := next((port for port in _ports(container) if port in ports), None):
            setting = ports[taken]
            raise ManifestError(
                f"{workload}: container {name} has port {taken}, which is the sidecar's {setting}; change one"
            )
        if _user(container) == DAEMON_USER or (_user(container) is None and _user(spec) == DAEMON_USER):
            raise ManifestError(
                f"{workload}: container {name} runs as user {DAEMON_USER}, whose connections are never redirected, as the "
                "sidecar's must not be; give it another user"
            )


def _others(workload: Workload) -> Iterator[Plain]:
    """The containers that are not ours."""
    spec = workload.template["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        if container.get("name") not in {INIT_NAME, NAME}:
            yield container


def _ports(container: Plain) -> list[Any]:
    ports = container.get("ports")
    return [port.get("containerPort") for port in ports if isinstance(port, dict)] if isinstance(ports, list) else []


def _user(holder: Plain) -> object:
    context = holder.get("securityContext")
    return context.get("runAsUser") if isinstance(context, dict) else None
