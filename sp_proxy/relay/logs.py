"""Logs of a relay worker: the lines that ``sp_proxy.logs`` writes elsewhere, by the standard library alone.

What a worker has to say is rare, and structlog would cost each of them 3 MB. A fault that ends the worker is a line too.
"""

import logging
import sys
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

from msgspec import json

from sp_proxy.core.log_limit import LogLimit
from sp_proxy.log_stream import LogStream


class _Json(logging.Formatter):
    def __init__(self, **context: Any) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """One object on one line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line = {**self._context, "event": record.getMessage(), "level": record.levelname.lower(), "timestamp": at}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if suppressed := getattr(record, "suppressed", 0):
            line["suppressed"] = suppressed
        return json.encode(line).decode()


class LimitFilter(logging.Filter):
    """Leaves out what comes too often, by its text before values are put in."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = LogLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; it says then how many were not."""
        suppressed = self._limit.count(f"{record.name} {record.msg}", time.monotonic_ns())
        if suppressed:
            record.suppressed = suppressed
        return suppressed is not None


def configure(worker_id: int, style: Literal["auto", "json", "console"], stream: TextIO | None = None) -> None:
    """Warnings and worse, uncaught exceptions included, go to standard error."""
    out = sys.stderr if stream is None else stream
    console = style == "console" or (style == "auto" and out.isatty())
    context = {"process": "relay", "worker": worker_id}
    handler = logging.StreamHandler(LogStream(out, console=console, context=context))
    if console:
        handler.setFormatter(logging.Formatter(f"%(asctime)s [%(levelname)s] relay worker {worker_id}: %(message)s"))
    else:
        handler.setFormatter(_Json(**context))
    handler.addFilter(LimitFilter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    sys.excepthook = _last_words


def _last_words(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(__name__).critical("worker_failed", exc_info=(kind, value, trace))
