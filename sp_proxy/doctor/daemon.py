"""What the daemon says of itself: ready, serving, delivering, and whether the books balance. Judged from plain data."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.settings.model import Admin
from sp_proxy.settings.types import Address

AREA = Area("daemon")
TIMEOUT_SECONDS = 5.0
_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_LOSSES = "docs/delivery.md has a table of the reasons, and what to do about each"


class NoAnswerError(Exception):
    """Nobody there, or somebody else. One line for a person."""


def ask(admin: Admin, path: str) -> Any:
    """The JSON of an endpoint. Raises NoAnswerError."""
    host, port = _HERE.get(admin.listen.host, admin.listen.host), admin.listen.port
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read())
    except (OSError, http.client.HTTPException) as error:
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
        raise NoAnswerError(f"{Address(host, port)}: {reason}") from error
    except ValueError as error:
        raise NoAnswerError(f"what answers on {Address(host, port)} is not sp-proxy") from error
    finally:
        connection.close()


def judge(ready: dict[str, Any], status: dict[str, Any]) -> Iterator[Finding]:
    """From ``GET /healthz/ready`` and ``GET /status``."""
    workers = f"{status['workers_ready']} of {status['workers']} workers are ready"
    if status["failing_open"]:
        yield AREA.fail(
            f"failing open: {workers}, traffic passes raw and nothing is captured",
            "its log says why workers die (worker_died); if it was a reload, put the settings back",
        )
    elif not ready["ready"]:
        yield AREA.warn(f"not ready: {', '.join(ready['reasons'])}", "wait for it: sp-proxy ready --timeout 30s")
    elif status["workers_ready"] < status["workers"]:
        yield AREA.warn(f"{workers}", "its log says why the others die (worker_died)")
    else:
        yield AREA.ok(f"version {status['version']}, {workers}")
    if status["reload_refused"]:
        problems = "; ".join(status["reload_refused"])
        yield AREA.warn(
            f"its last reload was refused: {problems}", "correct the settings and reload (SIGHUP, POST /reload)"
        )
    if not status["exporter_running"]:
        yield AREA.fail(
            "the exporter has failed: nothing is delivered", "its log has the fault (exporter_failed); restart it"
        )
    if not status["balanced"]:
        yield AREA.fail(
            "records are missing in its books", "this is a fault of sp-proxy: report it with sp-proxy status"
        )
    if lost := status["lost_before_the_exporter"]:
        yield AREA.warn(f"records were lost in the workers: {_reasons(lost)}", _LOSSES)
    for each in status["exporters"]:
        yield from _exporter(each)


def _exporter(each: dict[str, Any]) -> Iterator[Finding]:
    name, spool = each["name"], each["spool"]
    if each["dropped"]:
        yield AREA.warn(f"{name}: records were dropped: {_reasons(each['dropped'])}", _LOSSES)
    if spool["state"] == "degraded":
        yield AREA.fail(
            f"{name}: the spool cannot be used: {spool['problem']}", "free or repair the disk; see spool.directory"
        )
    if each["breaker"] != "closed":
        yield AREA.fail(f"{name}: keeps failing: {each['last_error']}", "see what is said about the backend below")
    elif not each["missing"]:
        yield AREA.ok(
            f"{name}: {each['accepted']} records accepted, {each['waiting']} waiting, {each['spooled']} on disk; all accounted for"
        )


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
