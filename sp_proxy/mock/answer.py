"""A recorded answer as it is given again (pure): status, fields and body, without what belonged to one connection or trace."""

from msgspec import Struct

from sp_proxy.replay.prepare import OF_ONE_CONNECTION
from sp_proxy.replay.recorded import Recorded, can_be_sent, still_coded

_GONE = (OF_ONE_CONNECTION | {"date", "traceparent", "tracestate", "alt-svc"}) - {"host"}


class Given(Struct, frozen=True):
    """An answer. Its framing is whoever sends it."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    after: float = 0.0
    """Seconds after which it began, as recorded."""


def given(recorded: Recorded) -> Given:
    """The answer of a recording."""
    gone = set(_GONE)
    if not still_coded(recorded.response_fields):
        gone.add("content-encoding")
    fields = tuple(
        (name, value) for name, value in recorded.response_fields if name not in gone and can_be_sent(name, value)
    )
    return Given(recorded.status, fields, recorded.response_body, (recorded.ttfb_ns or recorded.duration_ns) / 1e9)
