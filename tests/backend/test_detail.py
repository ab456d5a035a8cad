import pytest
from msgspec import structs

from sp_proxy.backend.detail import exchange_view, span_view
from sp_proxy.backend.model import SpanRecord
from tests.backend.test_model import SUMMARY

RECORD = SpanRecord(
    trace_id="ab" * 16,
    span_id="cd" * 8,
    parent_span_id="",
    name="/x",
    kind="server",
    start_unix_ns=1,
    duration_ns=2,
    failed=False,
    service="orders",
    tenant="key",
    received_unix_ns=3,
    resource={"service.name": "orders"},
    details={
        "scope": {"name": "sp_proxy"},
        "status": {"code": 2, "message": "broken"},
        "attributes": {
            "http.request.header.:method": "GET",
            "http.request.header.accept": "*/*",
            "http.response.header.content-type": "application/json",
            "http.response.header.x-list": ["a", 1],
            "sp.ttfb_ms": 4.5,
            "sp.body.truncated": True,
        },
    },
    exchange=SUMMARY,
    request_body=b"AAEC",
    response_body=b'{"a":1}',
)


def test_request_and_response_apart():
    view = exchange_view(RECORD, structs.replace(SUMMARY, request_size=9))
    assert view.request.headers == [("accept", "*/*")]
    assert view.request.size == 9
    assert view.request.body is not None
    assert (view.request.body.encoding, view.request.body.data) == ("base64", "AAEC")
    assert view.response.headers == [("content-type", "application/json"), ("x-list", "['a', 1]")]
    assert view.response.body is not None
    assert (view.response.body.encoding, view.response.body.content_type) == ("text", "application/json")
    assert (view.span_status, view.span_status_message, view.ttfb_ms, view.truncated) == ("error", "broken", 4.5, True)
    assert view.details == {"scope": {"name": "sp_proxy"}}
    assert "sp.ttfb_ms" in view.attributes


def test_nothing_known_is_nothing_shown():
    record = structs.replace(RECORD, details={"status": {"code": 9}}, request_body=None, response_body=None)
    view = exchange_view(record, SUMMARY)
    assert (view.request.headers, view.request.body, view.ttfb_ms, view.truncated) == ([], None, None, False)
    assert view.span_status == "unset"


def test_a_plain_span():
    view = span_view(RECORD)
    assert (view.span_id, view.kind, view.span_status, view.tenant) == ("cd" * 8, "server", "error", "key")
    assert view.resource == {"service.name": "orders"}


@pytest.mark.parametrize(
    "content_type, encoding",
    [
        ("text/html; charset=utf-8", "text"),
        ("application/problem+json", "text"),
        ("image/png", "base64"),
        ("", "base64"),
    ],
)
def test_the_body_is_what_its_content_type_says(content_type, encoding):
    attributes = {"http.request.header.content-type": content_type}
    view = exchange_view(structs.replace(RECORD, details={"attributes": attributes}), SUMMARY)
    assert view.request.body is not None
    assert view.request.body.encoding == encoding


@pytest.mark.parametrize(
    "body, encoding", [(b"H4sIAAAAAAAC/w==", "base64"), (b'{"a":1}', "text"), (b"YWJj", "text"), (b"", "text")]
)
def test_a_text_whose_coding_could_not_be_undone_is_base64(body, encoding):
    attributes = {
        "http.request.header.content-type": "application/json",
        "http.request.header.content-encoding": "gzip",
    }
    record = structs.replace(RECORD, details={"attributes": attributes}, request_body=body)
    view = exchange_view(record, SUMMARY)
    assert view.request.body is not None
    assert view.request.body.encoding == encoding
