"""Records an exchange that goes on for long, before its end: an event stream, a long poll, a slow call.

Nothing of this is done while bytes pass: a timer of the worker looks for open exchanges which are old. The record has an
id of its own and says whose beginning it is; the one of the whole exchange, when it has ended, says which went before
(contract section 4). One that sampling or a limit has no room for is not made, and not lost: the whole one is asked for
anew.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import replace

from sp_proxy.core.admission import has_failed
from sp_proxy.core.exchange import Partial
from sp_proxy.taps.open_exchange import OpenExchange


def record_open(exchanges: Iterable[OpenExchange], before_ns: int) -> None:
    """Record those that began before this (wall clock) and have no record yet. They are in the order of their begin."""
    for exchange in exchanges:
        if exchange.start_ns >= before_ns:
            break
        if exchange.partial is None and exchange.capture and not exchange.finished:
            _record(exchange)


def _record(exchange: OpenExchange) -> None:
    context, plan = exchange.context, exchange.plan
    if plan is None:
        return
    now_ns = context.unix_ns()
    refused = context.admission is not None and context.admission.refuse(
        plan.trace_id,
        exchange.rule,
        # No answer is no failure yet.
        failed=exchange.status > 0
        and has_failed(context.direction, exchange.status, exchange.response_fields, exchange.response_trailers),
        duration_ns=now_ns - exchange.start_ns,
        size=len(exchange.request_fields)
        + len(exchange.request_body)
        + len(exchange.response_fields)
        + len(exchange.response_body),
        now_ns=now_ns,
    )
    if refused:
        return
    span_id = (context.random_bits(64) or 1).to_bytes(8)
    known = copy(exchange)
    known.context = replace(context, admission=None)  # it has been asked
    known.end_ns = now_ns
    # Copies: the record waits to be sent while the exchange goes on.
    known.request_body, known.response_body = bytes(exchange.request_body), bytes(exchange.response_body)
    known.partial = Partial(
        span_id,
        ongoing=True,
        request_open=not exchange.request_ended,
        response_open=not exchange.response_ended,
    )
    known.finish("")
    context.counters["partial_records"] += 1
    exchange.partial = Partial(span_id)
