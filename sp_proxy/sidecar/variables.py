"""Settings for one workload (``--set``) as environment variables of its sidecar."""

import json
from collections.abc import Iterable
from typing import Any

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.flags import SET, flag_layer, parse_assignments
from sp_proxy.settings.keys import dotted, resolve, variable
from sp_proxy.settings.layers import scalars

_THE_MANIFEST_SAYS = {
    "admin.enabled": "the probes need it",
    "admin.listen": "the probes and the PodMonitor name its port",
    "netfilter.mode": "use --istio or --no-istio",
    "netfilter.user": "the manifest says which user runs the sidecar",
    "public_key": "put it into the Secret",
    "shutdown.flush_timeout": "it follows from the pod's terminationGracePeriodSeconds",
    "shutdown.grace_period": "it follows from the pod's terminationGracePeriodSeconds",
    "spool.directory": "the manifest says where the volume is",
    "spool.max_size": "the manifest says how large the volume is",
}


def as_variables(assignments: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` arguments as variables. Raises SettingsError, also for what the manifest says by itself."""
    layer = flag_layer(parse_assignments(assignments))
    found: dict[str, str] = {}
    mappings: dict[str, dict[str, Any]] = {}
    problems = []
    for path, value in scalars(layer.values):
        key = dotted(path)
        if reason := _THE_MANIFEST_SAYS.get(key):
            problems.append(f"{SET}: {key}: not for a single workload: {reason}")
        above = resolve(path[:-1])
        if above is not None and above.kind == "mapping":  # whose keys are case-sensitive
            mappings.setdefault(variable(path[:-1]), {})[str(path[-1])] = value
        else:
            found[variable(path)] = _text(path, value)
    if problems:
        raise SettingsError(problems)
    return found | {name: json.dumps(values, ensure_ascii=False) for name, values in mappings.items()}


def _text(path: tuple[str | int, ...], value: Any) -> str:
    here = resolve(path)
    if here is None or here.kind == "value":
        return str(value).lower() if isinstance(value, bool) else str(value)
    return json.dumps(value, ensure_ascii=False)
