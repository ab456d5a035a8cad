"""Spans of traces, for the tests of what is made of them."""

from hypothesis import strategies as st

from sp_proxy.backend.model import ExchangeSummary, TraceSpan


def span(
    name: str,
    parent: str = "",
    at: int = 0,
    took: int = 10,
    *,
    service: str = "a",
    direction: str = "",
    host: str = "b:8080",
    status: int = 200,
    error: str = "",
    partial: bool = False,
    failed: bool = False,
) -> TraceSpan:
    """A span; an exchange if it has a direction."""
    exchange = None
    if direction:
        exchange = ExchangeSummary(
            trace_id="t",
            span_id=name,
            parent_span_id=parent,
            start_unix_ns=100 + at,
            duration_ns=took,
            failed=failed,
            session_id="s",
            service=service,
            direction=direction,  # type: ignore[arg-type]
            method="GET",
            scheme="http",
            host=host,
            path="/",
            status=status,
            request_size=0,
            response_size=0,
            error=error,
            partial=partial,
        )
    return TraceSpan(
        trace_id="t",
        span_id=name,
        parent_span_id=parent,
        name=name,
        kind={"": "internal", "outbound": "client"}.get(direction, "server"),
        start_unix_ns=100 + at,
        duration_ns=took,
        failed=failed,
        service=service,
        exchange=exchange,
    )


def outbound(name: str, parent: str = "", at: int = 0, took: int = 10, **more) -> TraceSpan:
    return span(name, parent, at, took, direction="outbound", **more)


def inbound(name: str, parent: str = "", at: int = 0, took: int = 10, **more) -> TraceSpan:
    return span(name, parent, at, took, direction="inbound", **more)


@st.composite
def traces(draw: st.DrawFn) -> list[TraceSpan]:
    """Any spans with any parents: circles, unknown ones and themselves among them."""
    names = draw(st.lists(st.integers(0, 14), min_size=1, max_size=12, unique=True))
    return [
        span(
            str(name),
            str(draw(st.integers(0, 14))) if draw(st.booleans()) else "",
            draw(st.integers(0, 40)),
            draw(st.integers(0, 30)),
            service=draw(st.sampled_from(("a", "b", ""))),
            direction=draw(st.sampled_from(("", "inbound", "outbound", "unknown"))),
            status=draw(st.sampled_from((0, 200))),
            partial=draw(st.booleans()),
        )
        for name in names
    ]
