"""The sections ``limits`` and ``sampling``: how much is captured at most, and which part of it."""

from pydantic import Field

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Duration, Integer, Number, Size


class RateLimit(Section):
    """A token bucket each for exchanges and for bytes of captured content. What is over it is shed at capture."""

    exchanges_per_second: Number = Field(0.0, ge=0, le=1e9, description="Exchanges captured a second; 0: no limit.")
    exchange_burst: Integer = Field(
        0, ge=0, le=10**9, description="Exchanges captured at once after a quiet time; 0: those of one second."
    )
    bytes_per_second: Size = Field(0, description="Bytes captured a second, heads and bodies; 0: no limit.")
    byte_burst: Size = Field(0, description="Bytes captured at once after a quiet time; 0: those of one second.")


class Limits(RateLimit):
    """Limits of the whole daemon; its workers share them evenly. Traffic is never delayed."""


class Sampling(Section):
    """Captures a part of all traces, whole: every hop that samples decides by the trace id alone."""

    ratio: Number = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Part of the traces that is captured. A higher one captures all of a lower one.",
    )
    keep_errors: bool = Field(True, description="Capture what failed (5xx, outbound 4xx, aborted, gRPC) in any case.")
    keep_slower_than: Duration = Field(0.0, description="Capture what took longer in any case; 0: no such limit.")
