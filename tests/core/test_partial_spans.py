"""The two spans of an exchange that went on for long, as a backend gets them."""

from typing import Any

import pytest
from msgspec import structs
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from sp_proxy.core.exchange import Exchange, Partial
from sp_proxy.core.partial_spans import WHOLE, marked
from sp_proxy.core.redaction import NeverSent
from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from tests.core.test_spans import attributes, exchange, span_of

OWN = b"\x0a" * 8
PARENT = b"\x0b" * 8
STREAM = b"content-type: text/event-stream\r\n"


def ongoing(**changes: Any) -> Exchange:
    facts = {"response_fields": STREAM, "response_body": b"data: 1\n\n", "response_body_size": 9}
    partial = Partial(OWN, ongoing=True, response_open=True)
    return exchange(**{**facts, "partial": partial, "parent_span_id": PARENT, **changes})


def test_the_one_before_the_end_is_a_child_of_the_whole_and_of_another_type():
    record = ongoing()
    span, read = span_of(record), attributes(span_of(record))
    assert (span.span_id, span.parent_span_id, span.trace_id) == (OWN, record.span_id, record.trace_id)
    assert (read["sp.span.type"], read["sp.partial"]) == ("partial", True)
    assert read["sp.partial.parent_span_id"] == PARENT.hex()
    assert read["http.response.body"] == "data: 1\n\n"
    assert "sp.body.truncated" not in read
    assert span.status == Status()


def test_the_one_of_a_root_names_no_parent():
    assert "sp.partial.parent_span_id" not in attributes(span_of(ongoing(parent_span_id=b"")))


def test_the_whole_one_is_as_always_and_names_the_other():
    record = ongoing(partial=None)
    whole = span_of(structs.replace(record, partial=Partial(OWN)))
    read = attributes(whole)
    assert read.pop("sp.partial.span_id") == OWN.hex()
    assert read == attributes(span_of(record))
    assert (whole.span_id, whole.parent_span_id) == (record.span_id, PARENT)


def test_all_other_attributes_are_those_of_the_exchange():
    record = ongoing()
    read = attributes(span_of(record))
    for name in ("sp.partial", "sp.partial.parent_span_id", "sp.span.type"):
        del read[name]
    known = attributes(span_of(structs.replace(record, partial=None)))
    assert known.pop("sp.span.type") == "extract"
    assert read == known


def test_no_answer_yet_is_no_failure():
    waiting = ongoing(status=0, ttfb_ns=-1, response_fields=b"", response_body=b"", response_body_size=0)
    span = span_of(waiting)
    assert span.status == Status()
    assert "error.type" not in attributes(span)
    assert "http.response.status_code" not in attributes(span)


def test_an_answer_that_failed_is_one():
    assert span_of(ongoing(status=503)).status.code == Status.STATUS_CODE_ERROR


@pytest.mark.parametrize("is_open", [True, False])
def test_redaction_is_told_whether_more_may_follow(is_open: bool):
    told = []

    class Listening(NeverSent):
        def body(self, content: bytes, content_type: bytes, *, complete: bool) -> bytes | None:
            told.append(complete)
            return super().body(content, content_type, complete=complete)

    partial = Partial(OWN, ongoing=True, request_open=is_open, response_open=not is_open)
    record = ongoing(request_body=b"x", request_body_size=1, partial=partial)
    SpanEncoder(decode_body, redaction=Listening()).encode_span(record)
    assert told == [not is_open, is_open]


def test_marked_changes_nothing_but_ids():
    record = ongoing()
    assert record.partial is not None
    changed, _ = marked(record, record.partial, WHOLE)
    assert structs.replace(changed, span_id=record.span_id, parent_span_id=record.parent_span_id) == record
