"""Manifests in, manifests with the sidecar out (pure): what ``sp-proxy inject`` does with a text."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sp_proxy.sidecar.checks import check, why_left_alone
from sp_proxy.sidecar.documents import read
from sp_proxy.sidecar.plan import Sidecar
from sp_proxy.sidecar.rewrite import rewrite
from sp_proxy.sidecar.template import istio_is_meant, with_sidecar, without_sidecar
from sp_proxy.sidecar.workloads import Plain, Workload, change


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one workload."""

    workload: str
    happened: str

    def __str__(self) -> str:
        """A line for a person."""
        return f"{self.workload}: {self.happened}"


def inject(text: str, sidecar: Sidecar, ports: Mapping[int, str], *, istio: bool | None) -> tuple[str, list[Outcome]]:
    """The text with the sidecar in every workload that may have it. Raises ManifestError.

    ``ports`` are the sidecar's own, with their settings. ``istio``: whether Envoy is there; None: as each workload says.
    """
    outcomes: list[Outcome] = []

    def make(workload: Workload) -> Plain:
        before = workload.template
        if reason := why_left_alone(workload):
            after, happened = without_sidecar(before), f"left alone ({reason})"
        else:
            beside = istio_is_meant(before) if istio is None else istio
            check(workload, ports, native=sidecar.native)
            after = with_sidecar(before, replace(sidecar, istio=beside))
            form = f"{'native' if sidecar.native else 'classic'}{', beside Istio' if beside else ''}"
            happened = "unchanged" if after == before else f"sidecar added ({form})"
            if without_sidecar(before) is not before and after != before:
                happened = f"sidecar replaced ({form})"
        outcomes.append(Outcome(str(workload), happened))
        return after if after != before else before

    return _changed(text, make), outcomes


def uninject(text: str) -> tuple[str, list[Outcome]]:
    """The text without the sidecar. Raises ManifestError."""
    outcomes: list[Outcome] = []

    def make(workload: Workload) -> Plain:
        after = without_sidecar(workload.template)
        happened = "has no sidecar" if after is workload.template else "sidecar removed"
        outcomes.append(Outcome(str(workload), happened))
        return after

    return _changed(text, make), outcomes


def _changed(text: str, make: Callable[[Workload], Plain]) -> str:
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    text = text.removeprefix(mark)
    if (document := _json(text)) is not None:
        changed = change(document, make)
        return mark + (text if changed is document else _laid_out_like(text, changed))
    old = read(text)
    new = [change(document, make) for document in old]
    unchanged = all(one is other for one, other in zip(old, new, strict=True))
    return mark + (text if unchanged else rewrite(text, old, new))


def _json(text: str) -> Any:
    """The object, where the text is JSON: it has no comments to keep, and is to stay JSON."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _laid_out_like(text: str, value: Any) -> str:
    indent = re.match(r"\{\s*?\n( +|\t+)", text.lstrip())
    return json.dumps(value, indent=indent[1] if indent else None, ensure_ascii=False) + text[len(text.rstrip()) :]
