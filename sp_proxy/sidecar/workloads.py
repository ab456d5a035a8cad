"""Which objects have pods, where in them the pod template stands (pure)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sp_proxy.sidecar.documents import ManifestError

type Plain = dict[str, Any]
type Path = tuple[str, ...]

TEMPLATES: dict[str, Path] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Pod": (),
}
"""Kubernetes' own kinds that have pods, and the way to the template."""
_GROUPS = {"", "apps", "batch", "extensions"}
_MOST_LISTS = 3
"""Lists in lists in lists."""


@dataclass(frozen=True, slots=True)
class Workload:
    """An object with pods."""

    kind: str
    name: str
    template: Plain
    """With ``spec`` and perhaps ``metadata``."""
    annotations: Plain = field(default_factory=dict)
    """The object's own."""

    def __str__(self) -> str:
        """As people call it."""
        return f"{self.kind} {self.name}"

    def place(self, *more: str) -> str:
        """Where something of its template stands, for a message."""
        return f"{self}: {'.'.join((*TEMPLATES[self.kind], *more))}"


def change(document: Any, make: Callable[[Workload], Plain], depth: int = 0) -> Any:
    """The document with what ``make`` gives for each pod template in it; the very same one if none is another.

    Raises ManifestError for an object whose pod template is not one.
    """
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        return document
    items = document.get("items")
    if document["kind"].endswith("List") and isinstance(items, list) and depth < _MOST_LISTS:
        changed = [change(item, make, depth + 1) for item in items]
        return document if all(map(_is, items, changed)) else {**document, "items": changed}
    group, slash, _ = str(document.get("apiVersion", "")).partition("/")
    if document["kind"] not in TEMPLATES or (group if slash else "") not in _GROUPS:
        return document
    workload = _workload(document)
    return _with_template(document, TEMPLATES[workload.kind], workload.template, make(workload))


def _workload(document: Plain) -> Workload:
    kind = document["kind"]
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name = metadata.get("name") or f"{metadata.get('generateName') or 'without a name'}"
    annotations = metadata.get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    here: Any = document
    workload = Workload(kind, str(name), {}, annotations)
    way: Path = ()
    for key in TEMPLATES[kind]:
        way = (*way, key)
        here = here.get(key)
        if not isinstance(here, dict):
            raise ManifestError(f"{workload}: {'.'.join(way)}: {_found(here)}; allowed: a mapping")
    workload = Workload(kind, str(name), here, annotations)
    _check_shape(workload)
    return workload


def _check_shape(workload: Workload) -> None:
    """Only what is looked at: the rest is for Kubernetes to judge."""
    template = workload.template
    spec = template.get("spec")
    if not isinstance(spec, dict):
        raise ManifestError(f"{workload.place('spec')}: {_found(spec)}; allowed: a mapping")
    for key in ("containers", "initContainers", "volumes"):
        value = spec.get(key)
        if value is None and key != "containers":
            continue
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ManifestError(f"{workload.place('spec', key)}: {_found(value)}; allowed: a list of mappings")
    if not spec["containers"]:
        raise ManifestError(f"{workload.place('spec', 'containers')}: found an empty list; allowed: containers")
    metadata = template.get("metadata")
    for way, value in [
        (("metadata",), metadata),
        *((("metadata", key), (metadata or {}).get(key)) for key in ("labels", "annotations") if _maps(metadata)),
    ]:
        if value is not None and not isinstance(value, dict):
            raise ManifestError(f"{workload.place(*way)}: {_found(value)}; allowed: a mapping")


def _with_template(here: Plain, way: Path, before: Plain, after: Plain) -> Plain:
    if after is before:
        return here
    if not way:
        return after
    return {**here, way[0]: _with_template(here[way[0]], way[1:], before, after)}


def _is(one: Any, other: Any) -> bool:
    return one is other


def _maps(value: Any) -> bool:
    return isinstance(value, dict)


def _found(value: Any) -> str:
    match value:
        case None:
            return "found nothing"
        case list():
            return "found a list"
        case dict():
            return "found a mapping"
    return "found a single value"
