import base64

import pytest

from sp_proxy.backend.detail import BodyView, exchange_view
from sp_proxy.backend.export.har import body_bytes, entry, moment
from tests.backend.export.records import exchange
from tests.backend.requests import HOSTILE


def made(**values):
    record = exchange(**values)
    assert record.exchange is not None
    return entry(record.exchange, exchange_view(record, record.exchange))


def test_an_entry():
    har = made(
        method="POST",
        path="/api/orders?id=7&empty=",
        request_body="a=1",
        more={
            "url.full": "http://shop.local:8080/api/orders?id=7&empty=",
            "http.request.header.content-type": "application/x-www-form-urlencoded",
            "http.response.header.location": "/next",
            "network.protocol.version": "2",
        },
    )
    assert har["startedDateTime"] == "2023-11-14T22:13:20Z"
    assert har["time"] == har["timings"]["send"] + har["timings"]["wait"] + har["timings"]["receive"] == 12.0
    assert har["timings"]["wait"] == 4.5
    request, response = har["request"], har["response"]
    assert (request["method"], request["url"], request["httpVersion"]) == (
        *("POST", "http://shop.local:8080/api/orders?id=7&empty=", "HTTP/2"),
    )
    assert request["queryString"] == [{"name": "id", "value": "7"}, {"name": "empty", "value": ""}]
    assert request["postData"] == {"mimeType": "application/x-www-form-urlencoded", "text": "a=1"}
    assert (response["status"], response["statusText"], response["redirectURL"]) == (200, "OK", "/next")
    assert response["content"] == {"size": 11, "mimeType": "application/json", "text": '{"ok":true}'}
    assert {"name": "accept", "value": "*/*"} in request["headers"]
    assert har["_service"] == "orders"


def test_binary_bodies_are_base64():
    data = base64.b64encode(b"\x00\xff").decode()
    binary = {"http.response.header.content-type": "image/png"}
    content = made(response_body=data, more=binary)["response"]["content"]
    assert (content["text"], content["encoding"]) == (data, "base64")


def test_without_a_response():
    har = made(status=0, response_body=None, more={"sp.ttfb_ms": None, "error.type": "reset"})
    assert (har["response"]["status"], har["response"]["statusText"], har["_error"]) == (0, "", "reset")
    assert "text" not in har["response"]["content"]


@pytest.mark.parametrize(
    "host, path, url",
    [
        ("a:80", "/x", "http://a:80/x"),
        ("a", "http://b/x", "http://b/x"),
        ("a", HOSTILE, f"http://a{HOSTILE}"),
    ],
)
def test_the_url_is_made_where_it_is_not_told(host, path, url):
    assert made(host=host, path=path)["request"]["url"] == url


def test_moments():
    assert moment(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"
    assert moment(0) == "1970-01-01T00:00:00Z"


def test_what_claims_to_be_base64_and_is_not():
    assert body_bytes(BodyView("base64", "aGk=", "")) == b"hi"
    assert body_bytes(BodyView("base64", "a b", "")) == b"a b"
    assert body_bytes(BodyView("text", "é", "")) == "é".encode()
