"""Calls our addons, and catches what they raise: a fault of ours costs a record and never the flow.

mitmproxy's own manager looks the hooks of every addon up at each event, which was a tenth of a request's cost.
"""

import inspect
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

log = logging.getLogger(__name__)

LOGGED_FAULTS = 10
"""Faults of one life that are logged with their traceback; all are counted."""
NAMES = (
    *("requestheaders", "request", "responseheaders", "response", "error"),
    *("websocket_start", "websocket_message", "websocket_end"),
    *("tcp_start", "tcp_message", "tcp_end", "tcp_error"),
    *("client_connected", "client_disconnected", "server_connect", "server_connected", "server_disconnected"),
    *("tls_clienthello", "tls_start_client", "tls_start_server", "tls_failed_client", "tls_failed_server"),
    *("tls_established_client", "next_layer"),
)

Hook = Callable[[Any], Awaitable[None] | None]


class Hooks:
    """The table. ``counters``: the worker's, for ``hook_faults``."""

    def __init__(self, counters: defaultdict[str, int]) -> None:
        self._counters = counters
        self._table: dict[str, tuple[Hook, ...]] = {}

    def add(self, addon: object, names: Sequence[str] = NAMES) -> None:
        """Call these methods of the addon, where it has them, behind those of earlier addons."""
        for name in names:
            hook = getattr(addon, name, None)
            if hook is not None:
                self._table[name] = (*self._table.get(name, ()), hook)

    async def call(self, name: str, data: Any) -> None:
        """Call them in their order."""
        for hook in self._table.get(name, ()):
            try:
                awaitable = hook(data)
                if inspect.isawaitable(awaitable):
                    await awaitable
            except Exception:
                self._counters["hook_faults"] += 1
                if self._counters["hook_faults"] <= LOGGED_FAULTS:
                    log.exception("fault in the hook %s", name)
