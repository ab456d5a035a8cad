"""Warnings that a long outage cannot turn into a flood: the first of a kind, then at most one line in
``INTERVAL_SECONDS`` for it, which says how many it stands for. Never pass it a body, a header or the public key.
"""

import structlog
import trio

from sp_proxy.core.rate_limit import Sparing

INTERVAL_SECONDS = 30.0


class SparingLog:
    """Rate limits by event name; needs trio's clock."""

    def __init__(self, **context: object) -> None:
        """``context`` is added to every line."""
        self._log = structlog.get_logger(**context)
        self._kinds: dict[str, Sparing] = {}

    def warning(self, event: str, **values: object) -> None:
        """Something was lost or delayed, for a reason outside of us. A function among the values is called only when
        there is a line.
        """
        times = self._due(event)
        if times is not None:
            told = {name: value() if callable(value) else value for name, value in values.items()}
            self._log.warning(event, times=times, **told)

    def fault(self, event: str, error: BaseException, **values: object) -> None:
        """A fault of our own, with its traceback."""
        times = self._due(event)
        if times is not None:
            self._log.error(event, times=times, exc_info=error, **values)

    def _due(self, event: str) -> int | None:
        return self._kinds.setdefault(event, Sparing(INTERVAL_SECONDS)).count(trio.current_time())
