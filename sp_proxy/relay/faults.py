"""Faults of our own: counted, logged, and kept from the traffic.

A fault in the tap costs the record: the connection goes on without it, with the bytes that it had not given back. Any other fault in
the relay costs the one connection in which it happens (``Connection.failed``), never the worker.
"""

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps.context import Tap
from sp_proxy.taps.http2 import Http2Tap

if TYPE_CHECKING:
    from sp_proxy.relay.connection import Connection
    from sp_proxy.relay.stream import Stream

log = logging.getLogger(__name__)

_LOGGED_FAULTS = 10
"""Faults of one life that are logged with their traceback; all are counted."""


def count_connection_fault(counters: defaultdict[str, int], error: Exception) -> None:
    """A connection is given up."""
    counters["connection_faults"] += 1
    if counters["connection_faults"] <= _LOGGED_FAULTS:
        log.error("fault in the relay: a connection is given up", exc_info=error)


def tap_failed(connection: "Connection", side: "Stream", data: bytes, error: Exception) -> None:
    """A fault in the tap at this data from this end: go on without it."""
    tap, connection.tap = connection.tap, None
    assert tap is not None
    counters = connection.worker.counters
    _count_tap_fault(counters, error)
    downstream, upstream = connection.downstream, connection.upstream
    held, kept = tap.take_held(), b"" if side is downstream else data
    if isinstance(tap, Http2Tap):  # has kept the data
        kept = tap.take_kept()
    elif side is downstream and not held.endswith(data):
        held += data
    end_tap(counters, tap, "protocol_error")
    if isinstance(tap, Http2Tap) and tap.encodes_anew:  # nobody but the tap can forward what follows
        connection.abort()
        return
    if held:
        upstream.write(held)
    if kept:
        downstream.write(kept)


def end_tap(counters: defaultdict[str, int], tap: Tap, error: ErrorType) -> None:
    """Its connection is over: what it was still watching ends with this error."""
    try:
        tap.close(error)
    except Exception as fault:  # noqa: BLE001  # a fault of ours must not keep the connection from ending
        _count_tap_fault(counters, fault)


def _count_tap_fault(counters: defaultdict[str, int], error: Exception) -> None:
    counters["tap_faults"] += 1
    if counters["tap_faults"] <= _LOGGED_FAULTS:
        log.error("fault in a tap: the connection goes on uncaptured", exc_info=error)
