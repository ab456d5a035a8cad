"""Captured exchanges as the backend exports them, for the tests of trials."""

from typing import Any

from sp_proxy import regex
from sp_proxy.core.admission import AdmissionConfig
from sp_proxy.core.redact.config import REPLACEMENT, RedactionConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.patterns import compile_pattern
from sp_proxy.trial.trial import Trial


def line(**changes: Any) -> dict[str, Any]:
    """One line of the export; ``path`` and ``host`` stand in the attributes as well."""
    made = {
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "direction": "inbound",
        "method": "GET",
        "host": "shop:8080",
        "path": "/orders/7",
        "status": 200,
        "failed": False,
        "start_unix_ns": 1_700_000_000_000_000_000,
        "duration_ns": 5_000_000,
        "service": "shop",
        "truncated": False,
        "request": {"headers": [["accept", "*/*"]], "body": None},
        "response": {"headers": [["content-type", "application/json"]], "body": None},
        **changes,
    }
    made["attributes"] = {
        "http.request.header.:path": made["path"],
        "url.host": made["host"],
        **changes.get("attributes", {}),
    }
    return made


def body(data: str, content_type: str = "application/json", encoding: str = "text") -> dict[str, Any]:
    return {"encoding": encoding, "data": data, "content_type": content_type}


def redactor(**parts: Any) -> Redactor:
    return Redactor(RedactionConfig(**parts), regex)


def trial(
    policy: PolicyConfig | None = None, admission: AdmissionConfig | None = None, redaction: Redactor | None = None
) -> Trial:
    return Trial(
        policy or PolicyConfig(), admission or AdmissionConfig(), redaction or redactor(), compile_pattern, REPLACEMENT
    )
