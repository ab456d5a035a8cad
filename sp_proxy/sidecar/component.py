"""``deploy/kubernetes/components``, written from the same source as ``sp-proxy inject``: a test keeps the files equal to it.

``python -m sp_proxy.sidecar.component deploy/kubernetes/components``. For each form of the sidecar there is one kustomize
component, with a strategic merge patch for every depth at which pod templates stand, and a JSON patch for the classic
sidecar: a merge would put it before the application's containers, and ``kubectl logs`` takes the first.

The ConfigMap and the Secret are the overlay's: whether an overlay's generators run before or after its components differs
between versions of kustomize, so a component's own could not be laid over.
"""

import sys
from pathlib import Path
from typing import Any

from sp_proxy.sidecar.layout import block
from sp_proxy.sidecar.plan import INJECT, Sidecar
from sp_proxy.sidecar.template import with_sidecar
from sp_proxy.sidecar.workloads import TEMPLATES
from sp_proxy.sidecar.workloads import Path as Way

FORMS = {
    "standalone": Sidecar(),
    "istio": Sidecar(istio=True),
    "standalone-classic": Sidecar(native=False),
    "istio-classic": Sidecar(native=False, istio=True),
}
_HEAD = "# Written by python -m sp_proxy.sidecar.component, the same source as sp-proxy inject: change it there.\n"
_PLACEHOLDER = "application"
_NEVER_COMPLETE = {"Job", "CronJob"}
"""Would not be, with a classic sidecar."""


def files() -> dict[str, str]:
    """Text by path, below ``components``."""
    return {f"{name}/{path}": text for name, sidecar in FORMS.items() for path, text in _component(sidecar).items()}


def _component(sidecar: Sidecar) -> dict[str, str]:
    application = {"name": _PLACEHOLDER}
    template = with_sidecar({"spec": {"containers": [application]}}, sidecar)
    spec = template["spec"]
    appended = [container for container in spec["containers"] if container is not application]
    merged = {**template, "spec": {key: value for key, value in spec.items() if key != "containers"}}
    patches: list[dict[str, Any]] = []
    found: dict[str, str] = {}
    for way, kinds in _by_way().items():
        names = [kind for kind in kinds if sidecar.native or kind not in _NEVER_COMPLETE]
        if not names:
            continue
        target = {"kind": "|".join(names), "annotationSelector": f"{INJECT}!=false"}
        stem = "-".join(["pod", *(key.lower() for key in way if key != "spec")])
        patch = {"apiVersion": "v1", "kind": names[0], "metadata": {}, **_nested(way, merged)}
        patch["metadata"] = {"name": _PLACEHOLDER, **patch["metadata"]}  # the target's own counts
        found[f"{stem}.yaml"] = _HEAD + _lines(patch)
        patches.append({"path": f"{stem}.yaml", "target": target})
        if appended:
            pointer = "/".join(["", *way, "spec", "containers", "-"])
            operations = [{"op": "add", "path": pointer, "value": container} for container in appended]
            found[f"{stem}-container.yaml"] = _HEAD + _lines(operations)
            patches.append({"path": f"{stem}-container.yaml", "target": target})
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": patches,
    }
    return {"kustomization.yaml": _HEAD + _lines(kustomization), **found}


def _by_way() -> dict[Way, list[str]]:
    kinds: dict[Way, list[str]] = {}
    for kind, way in TEMPLATES.items():
        kinds.setdefault(way, []).append(kind)
    return kinds


def _nested(way: Way, value: dict[str, Any]) -> dict[str, Any]:
    for key in reversed(way):
        value = {key: value}
    return value


def _lines(value: Any) -> str:
    return "\n".join(block(value, 2)) + "\n"


def main(directory: Path) -> None:
    """Write them all."""
    for name, text in files().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
