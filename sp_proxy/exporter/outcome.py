"""What an upload attempt led to, as values, and how an OTLP/HTTP answer becomes one (contract section 5).

``Accepted``: delivered, perhaps but for some rejected spans (partial success), which are not sent again.
``Retryable``: the same payload may be accepted later. ``TooLarge``: parts of it may be accepted.
``Permanent``: the same payload gets the same answer. A caller matches all four.
"""

from google.protobuf.message import DecodeError
from msgspec import DecodeError as JsonDecodeError
from msgspec import Struct, ValidationError, json
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from sp_proxy.core.retry import parse_retry_after

RETRYABLE_STATUS = frozenset({429, 502, 503, 504})
"""OTLP/HTTP, "Retryable Response Codes". 500 is not among them."""
MAX_MESSAGE_CHARACTERS = 300
"""Of a server's message in our log: it is foreign text of any length."""


class Partial(Struct, frozen=True):
    """A populated ``partial_success``."""

    rejected: int
    message: str


class Accepted(Struct, frozen=True):
    """The backend has it."""

    partial: Partial | None = None
    unreadable: str = ""
    """Why the answer could not be read; its status was 2xx all the same, and decides."""


class Retryable(Struct, frozen=True):
    """Not now."""

    reason: str
    """One token, for example ``http_503`` or ``connect_error``."""
    after: float | None = None
    """Seconds that the server asks us to wait."""
    detail: str = ""
    """For a person."""


class TooLarge(Struct, frozen=True):
    """Not in one piece (413)."""

    detail: str = ""
    """For a person."""


class Permanent(Struct, frozen=True):
    """Not ever."""

    reason: str
    """One token, for example ``http_400``."""
    detail: str = ""
    """For a person."""


Outcome = Accepted | Retryable | TooLarge | Permanent


class Answer(Struct, frozen=True):
    """An HTTP answer, as far as it was read."""

    status: int
    content_type: str
    retry_after: str
    """``Retry-After`` as received; empty without."""
    location: str
    """``Location`` as received; empty without."""
    body: bytes | None
    """None when it was not readable whole: too long, cut off, late, or encoded although we asked for identity."""
    unreadable: str = ""
    """Why it was not."""


class _JsonPartial(Struct, rename="camel"):
    rejected_spans: int | str = 0
    error_message: str = ""


class _JsonResponse(Struct, rename="camel"):
    partial_success: _JsonPartial | None = None


def interpret(answer: Answer, sent_records: int, now_unix: float) -> Outcome:
    """The outcome that an answer means."""
    status = answer.status
    if 200 <= status < 300:
        return _accepted(answer, sent_records)
    reason = f"http_{status}"
    if status in RETRYABLE_STATUS:
        return Retryable(reason, parse_retry_after(answer.retry_after, now_unix), f"the backend answered {status}")
    if status == 413:
        return TooLarge(f"the backend answered {status}")
    if 300 <= status < 400:
        where = f" to {_printable(answer.location)}" if answer.location else ""
        return Permanent(reason, f"the backend redirects{where} ({status}); redirects are not followed")
    return Permanent(reason, f"the backend answered {status}")


def _accepted(answer: Answer, sent_records: int) -> Accepted:
    if answer.body is None:
        return Accepted(unreadable=answer.unreadable)
    if not answer.body:
        return Accepted()
    try:
        partial = _partial_success(answer.content_type, answer.body)
    except (DecodeError, ValidationError, JsonDecodeError, ValueError, RecursionError) as error:
        return Accepted(unreadable=f"the answer is not an ExportTraceServiceResponse: {_printable(str(error))}")
    if not partial.rejected and not partial.message:
        return Accepted()
    # A count outside of what was sent is the backend's mistake; the books must balance all the same.
    return Accepted(Partial(min(max(partial.rejected, 0), sent_records), _printable(partial.message)))


def _partial_success(content_type: str, body: bytes) -> Partial:
    if content_type.partition(";")[0].strip().lower() == "application/json":
        partial = json.decode(body, type=_JsonResponse).partial_success or _JsonPartial()
        # int64 is a string in protobuf's JSON mapping; some servers write a number.
        return Partial(int(partial.rejected_spans), partial.error_message)
    response = ExportTraceServiceResponse.FromString(body)
    return Partial(response.partial_success.rejected_spans, response.partial_success.error_message)


def _printable(text: str) -> str:
    """One line of foreign text, cut."""
    line = "".join(character if character.isprintable() else " " for character in text[: MAX_MESSAGE_CHARACTERS + 1])
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else line[:MAX_MESSAGE_CHARACTERS] + "…"
