"""The sidecar as plain data: the containers and volumes that come into a pod. The one source for ``sp-proxy inject`` and for
``deploy/kubernetes``.

No privilege in the daemon: the init container writes the redirect rules with two capabilities, and is gone. Rules that do not
work are taken away again, and the application starts without them (``--go-on``).
"""

from typing import Any

from sp_proxy.sidecar.deadline import Deadline
from sp_proxy.sidecar.plan import ADMIN_PORT, MODE, NAME, Sidecar

INIT_NAME = f"{NAME}-init"
DAEMON_USER = 1338
"""``netfilter.user``: whom the rules leave alone."""
CONFIG_DIRECTORY, CONFIG_KEY, SECRET_KEY = "/etc/sp-proxy", "sp-proxy.yaml", "public_key"
STATE_DIRECTORY = "/var/lib/sp-proxy"
VOLUMES = (f"{NAME}-config", f"{NAME}-state")
ADMIN_PORT_NAME = f"{NAME}-admin"

_CONFIG = f"{CONFIG_DIRECTORY}/{CONFIG_KEY}"
_REQUESTS = {"cpu": "100m", "memory": "128Mi"}
_LIMITS = {"memory": "512Mi"}
"""No limit of processor time: it would be the application's requests that wait."""
_SPOOL = {"SP_PROXY_SPOOL__MAX_SIZE": "256MiB"}
"""Of each exporter. A pod whose volume outgrows its ``sizeLimit`` is evicted, so the spool must stay well below."""
_STATE_LIMIT = "1Gi"
_HOLD = "sp-proxy ready --timeout 10s || true"
"""The kubelet begins nothing behind a native sidecar before this hook has ended: a connection that the application opens
earlier goes on without the sidecar for as long as it lives. Ten seconds at most; a startup probe would hold it for ever.
"""
_LINGER = "30s"
"""Above that: a sidecar that cannot start must outlive its hook, or the kubelet would begin again with the sidecar, and never
with the application.
"""


def init_container(sidecar: Sidecar) -> dict[str, Any]:
    """Writes the redirect rules, and ends."""
    return {
        "name": INIT_NAME,
        "image": sidecar.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sp-proxy-init", "--go-on", _CONFIG],
        "env": [
            *_settings(sidecar),
            # In a pod on its node's own network these are the same, and the rules would be the node's.
            _from_field("POD_IP", "status.podIP"),
            _from_field("HOST_IP", "status.hostIP"),
            # The root file system is read-only; only the legacy form of iptables has a lock.
            {"name": "XTABLES_LOCKFILE", "value": "/dev/shm/xtables.lock"},  # noqa: S108 (the container's own)
        ],
        "resources": {"requests": dict(_REQUESTS), "limits": dict(_LIMITS)},
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": VOLUMES[0], "mountPath": CONFIG_DIRECTORY, "readOnly": True}],
    }


def proxy_container(sidecar: Sidecar, deadline: Deadline) -> dict[str, Any]:
    """The daemon."""
    container: dict[str, Any] = {
        "name": NAME,
        "image": sidecar.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["run", "--config", _CONFIG, "--linger", _LINGER],
        "env": [
            *_settings(sidecar),
            *_values(_SPOOL),
            *_values(
                {
                    "SP_PROXY_SHUTDOWN__GRACE_PERIOD": f"{deadline.grace_period}s",
                    "SP_PROXY_SHUTDOWN__FLUSH_TIMEOUT": f"{deadline.flush_timeout}s",
                }
            ),
            {
                "name": "SP_PROXY_PUBLIC_KEY",
                "valueFrom": {"secretKeyRef": {"name": sidecar.secret, "key": SECRET_KEY, "optional": True}},
            },
            # Who this workload is, the first that is not empty (core/service_name.py).
            _from_field("APP_NAME", "metadata.labels['app.kubernetes.io/name']"),
            _from_field("SERVICE_NAME", "metadata.labels['app']"),
            _from_field("POD_NAME", "metadata.name"),
            _from_field("POD_UID", "metadata.uid"),
            _from_field("POD_NAMESPACE", "metadata.namespace"),
            _from_field("NODE_NAME", "spec.nodeName"),
            _from_field("KUBERNETES_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ],
        "ports": [{"name": ADMIN_PORT_NAME, "containerPort": ADMIN_PORT, "protocol": "TCP"}],
        "livenessProbe": _probe("/healthz/live", initialDelaySeconds=10, periodSeconds=10, failureThreshold=3),
        "readinessProbe": _probe("/healthz/ready", periodSeconds=5, failureThreshold=3),
        "resources": {"requests": dict(_REQUESTS), "limits": dict(_LIMITS)},
        "securityContext": {
            "runAsUser": DAEMON_USER,
            "runAsGroup": DAEMON_USER,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": VOLUMES[0], "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": VOLUMES[1], "mountPath": STATE_DIRECTORY},
        ],
    }
    if sidecar.native:
        container["restartPolicy"] = "Always"
        container["lifecycle"] = {"postStart": {"exec": {"command": ["sh", "-c", _HOLD]}}}
    elif deadline.pre_stop:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(deadline.pre_stop)]}}}
    return container


def volumes(sidecar: Sidecar) -> list[dict[str, Any]]:
    """The configuration; and a place for the spool, which lives as long as the pod."""
    return [
        {"name": VOLUMES[0], "configMap": {"name": sidecar.config_map}},
        {"name": VOLUMES[1], "emptyDir": {"sizeLimit": _STATE_LIMIT}},
    ]


def _settings(sidecar: Sidecar) -> list[dict[str, Any]]:
    """What the rules and the daemon must agree on."""
    mode = {MODE: "beside-istio"} if sidecar.istio else {}
    # On all addresses, for the kubelet's probes and Prometheus; others than this pod may only look (admin/app.py).
    return _values({"SP_PROXY_ADMIN__LISTEN": str(ADMIN_PORT), **mode, **sidecar.variables})


def _values(variables: dict[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def _from_field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probe(path: str, **times: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": ADMIN_PORT_NAME}, "timeoutSeconds": 3, **times}
