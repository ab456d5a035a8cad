import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sp_proxy.backend.parts import kinds_of, messages, too_many, too_many_in_json
from tests.backend.requests import exchange_span, request_of, sdk_span
from tests.backend.test_logs import logs_request, record

TRACES = kinds_of(ExportTraceServiceRequest.DESCRIPTOR)


def counted(message) -> int:
    """By what the decoder has made."""
    found = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            held = value if field.is_repeated else [value]
            found += len(held) + sum(map(counted, held))
    return found


@pytest.mark.parametrize(
    "request_",
    [
        request_of(*(exchange_span(request_body="x" * 300) for _ in range(3)), sdk_span()),
        logs_request(*(record("text") for _ in range(4))),
    ],
)
def test_it_counts_what_the_decoder_makes(request_):
    body, expected = request_.SerializeToString(), counted(request_)
    assert expected > 10
    assert messages(body, kinds_of(request_.DESCRIPTOR), 10_000) == expected
    assert messages(body, kinds_of(request_.DESCRIPTOR), 5) == 6


def within(number: int, content: bytes) -> bytes:
    """A field that holds this."""
    length, head = len(content), bytearray([number << 3 | 2])
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(head) + bytes([length]) + content


EMPTY = 50
SPAN = {"attributes": 9, "events": 11, "links": 13}


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * EMPTY,
        within(1, within(2, b"\x12\x00" * EMPTY)),
        *(within(1, within(2, within(2, bytes([number << 3 | 2, 0]) * EMPTY))) for number in SPAN.values()),
        within(1, within(1, within(1, within(2, within(5, b"\x0a\x00" * EMPTY))))),
        # Behind what no message of OTLP has: a group's beginning and end, numbers of every width.
        b"\xfb\x07\xfc\x07\x38\xff\x01" + b"\x39" + bytes(8) + b"\x3d" + bytes(4) + b"\x0a\x00" * EMPTY,
    ],
)
def test_empty_messages_are_found_wherever_they_stand(body):
    assert not too_many(body, TRACES, EMPTY + 10)
    assert too_many(body, TRACES, EMPTY - 1)
    ExportTraceServiceRequest.FromString(body)


@given(st.binary(max_size=300))
def test_any_bytes_are_counted(body):
    assert messages(body, TRACES, 1000) <= len(body)


def test_a_message_is_as_long_as_it_says():
    """A text is not looked into, whatever stands in it."""
    body = within(1, within(3, b"\x0a\x00" * 100))
    assert messages(body, TRACES, 1000) == 1


def test_brackets_in_json():
    assert not too_many_in_json(b'{"a": [{}, {}]}', 4)
    assert too_many_in_json(b'{"a": [{}, {}]}', 3)


def test_log_records_have_their_own():
    assert kinds_of(ExportLogsServiceRequest.DESCRIPTOR).keys() == TRACES.keys()
