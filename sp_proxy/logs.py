"""Logs: one event a line on standard error, JSON for machines or plain text for people, timestamps in UTC.

Events are dictionaries: a short snake_case name and fields. Secrets never reach a log call: settings hold them as
``SecretStr``, which prints as asterisks. What a library says may quote a URL: its user name and password are masked.

A log that is not read or cannot be written harms nothing (``log_stream.py``). Of what comes very often, only some lines are
written (``core/log_limit.py``); the next one says how many were not.
"""

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, TextIO, cast

import structlog

from sp_proxy.core.log_limit import LogLimit
from sp_proxy.log_stream import LogStream

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

_USERINFO = re.compile(r"(?<=://)[^\s/@]+@")


def configure(level: Level = "info", style: Format = "auto", stream: TextIO | None = None, **context: Any) -> None:
    """Set up logging for this process; ``context`` is added to every event (for example ``process="worker"``).

    ``auto`` is console on a terminal, JSON otherwise. Everything that uses the standard library's logging goes the same
    way, warnings and worse only.
    """
    out = sys.stderr if stream is None else stream
    console = style == "console" or (style == "auto" and out.isatty())
    renderer: structlog.typing.Processor
    if console:
        renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    else:
        renderer = structlog.processors.JSONRenderer()
    limit = LogLimit()
    lines = LogStream(out, console=console, context=context)
    shared: list[structlog.typing.Processor] = [
        _with_context(context),
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    shared.append(_without_credentials)
    structlog.configure(
        processors=[_sparing(limit), *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", lines)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    handler.addFilter(_foreign(limit))
    logging.basicConfig(handlers=[handler], level=max(logging.WARNING, getattr(logging, level.upper())), force=True)


def _with_context(context: dict[str, Any]) -> structlog.typing.Processor:
    def add(
        _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {**context, **event}

    return add


def _sparing(limit: LogLimit) -> structlog.typing.Processor:
    def look(
        _logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        suppressed = limit.count(f"{method} {event.get('event')}", time.monotonic_ns())
        if suppressed is None:
            raise structlog.DropEvent
        return {**event, "suppressed": suppressed} if suppressed else event

    return look


def _foreign(limit: LogLimit) -> Callable[[logging.LogRecord], bool]:
    """The same for the standard library's logging, by the text before values are put in."""

    def look(record: logging.LogRecord) -> bool:
        suppressed = limit.count(f"{record.name} {record.msg}", time.monotonic_ns())
        if suppressed:
            record.msg = f"{record.msg} ({suppressed} more like it were left out)"
        return suppressed is not None

    return look


def _without_credentials(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {name: _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    """Texts, also within lists and mappings, without user names and passwords of URLs."""
    if isinstance(value, str):
        return _USERINFO.sub("***@", value) if "@" in value else value
    if isinstance(value, (list, tuple)):
        return [_masked(each) for each in value]
    if isinstance(value, dict):
        return {name: _masked(each) for name, each in value.items()}
    return value
