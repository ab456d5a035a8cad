"""The mock within a daemon, for tools that start one (``sp-proxy dev``): settings by dotted key (pure but for the clock).

With them the daemon looks outbound requests up in the embedded backend that it sends to; what is not there goes to its destination.
"""

import time
from collections.abc import Sequence
from typing import Any

from sp_proxy.backend.query.parse import QueryError, parse
from sp_proxy.replay.problems import ReplayError

TIMEOUT = "5s"
"""A developer's machine is a busy one, and a real call in the place of a stored one is no good there."""


def daemon_settings(query: str, hosts: Sequence[str] = ()) -> dict[str, Any]:
    """Answer from the exchanges that ``query`` asks for; ``hosts`` are patterns of the authorities that are looked up, all without
    any. Raises ReplayError for a query that is none.
    """
    try:
        parse(query, now_unix_ns=time.time_ns())
    except QueryError as error:
        raise ReplayError(str(error)) from None
    return {
        "inject.enabled": True,
        "inject.query": query,
        "inject.hosts": list(hosts),
        "inject.timeout": TIMEOUT,
    }
