"""What an answer means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from sp_proxy.exporter.outcome import (
    MAX_MESSAGE_CHARACTERS,
    Accepted,
    Answer,
    Partial,
    Permanent,
    Retryable,
    TooLarge,
    interpret,
)

NOW_UNIX = 1_700_000_000.0


def answer(status: int = 200, body: bytes | None = b"", **values: str) -> Answer:
    fields = {"content_type": "application/x-protobuf", "retry_after": "", "location": ""} | values
    return Answer(status=status, body=body, **fields)


def response(rejected: int, message: str) -> bytes:
    made = ExportTraceServiceResponse()
    made.partial_success.rejected_spans = rejected
    made.partial_success.error_message = message
    return made.SerializeToString()


def outcome(given: Answer, sent: int = 10):
    return interpret(given, sent, NOW_UNIX)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_accepted(status):
    assert outcome(answer(status)) == Accepted()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_the_four_statuses_of_otlp_are_retryable(status):
    result = outcome(answer(status))
    assert isinstance(result, Retryable)
    assert (result.reason, result.after) == (f"http_{status}", None)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 418, 499, 500, 501, 505, 507, 599, 600, 999])
def test_other_errors_are_permanent(status):
    result = outcome(answer(status))
    assert isinstance(result, Permanent)
    assert result.reason == f"http_{status}"


def test_413_asks_for_parts():
    assert outcome(answer(413)) == TooLarge("the backend answered 413")


@pytest.mark.parametrize("value,after", [("7", 7.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0), ("later", None)])
def test_retry_after_in_both_forms(value, after):
    result = outcome(answer(503, retry_after=value))
    assert isinstance(result, Retryable)
    assert result.after == after


def test_a_redirect_is_permanent_and_says_where_to():
    result = outcome(answer(307, location="https://elsewhere.example/\n"))
    assert isinstance(result, Permanent)
    assert "https://elsewhere.example/ " in result.detail
    assert "\n" not in result.detail


def test_partial_success_is_counted():
    assert outcome(answer(body=response(3, "bad ids"))) == Accepted(Partial(3, "bad ids"))


def test_an_empty_partial_success_is_none():
    assert outcome(answer(body=response(0, ""))) == Accepted()


def test_a_message_without_rejected_spans_is_a_warning():
    assert outcome(answer(body=response(0, "slow down"))) == Accepted(Partial(0, "slow down"))


@pytest.mark.parametrize("claimed,counted", [(11, 10), (2**62, 10), (-5, 0)])
def test_a_count_outside_of_what_was_sent_is_cut(claimed, counted):
    assert outcome(answer(body=response(claimed, "x"))) == Accepted(Partial(counted, "x"))


@pytest.mark.parametrize("count", ["4", '"4"'])
def test_json_answers_are_understood(count):
    body = b'{"partialSuccess":{"rejectedSpans":%s,"errorMessage":"no"},"more":1}' % count.encode()
    assert outcome(answer(body=body, content_type="Application/JSON; charset=utf-8")) == Accepted(Partial(4, "no"))


@pytest.mark.parametrize("body", [b"{}", b'{"partialSuccess":{}}', b'{"partialSuccess":null}'])
def test_json_without_partial_success(body):
    assert outcome(answer(body=body, content_type="application/json")) == Accepted()


@pytest.mark.parametrize(
    "content_type,body",
    [
        ("application/x-protobuf", b"\xff\xff\xff"),
        ("text/html", b"<html>welcome</html>"),
        ("application/json", b"{"),
        ("application/json", b"[]"),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"many"}}'),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"%s"}}' % (b"9" * 5000)),
        ("application/json", b'{"partialSuccess":{"more":' + b"[" * 100_000),
        ("application/json", b'{"more":' * 50_000),
    ],
)
def test_an_unreadable_answer_is_accepted_and_marked(content_type, body):
    result = outcome(answer(body=body, content_type=content_type))
    assert isinstance(result, Accepted)
    assert result.partial is None
    assert result.unreadable


def test_an_answer_which_was_not_read_whole_is_accepted_and_marked():
    assert outcome(answer(body=None, unreadable="cut off")) == Accepted(unreadable="cut off")


def test_a_long_foreign_message_is_cut():
    result = outcome(answer(body=response(1, "x" * 10_000)))
    assert isinstance(result, Accepted)
    assert result.partial is not None
    assert len(result.partial.message) == MAX_MESSAGE_CHARACTERS + 1


@given(st.integers(200, 299), st.binary(max_size=200), st.sampled_from(["application/json", "application/x-protobuf"]))
def test_any_body_of_a_2xx_is_accepted(status, body, content_type):
    result = outcome(answer(status, body, content_type=content_type))
    assert isinstance(result, Accepted)
    assert result.partial is None or 0 <= result.partial.rejected <= 10
