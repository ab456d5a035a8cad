import pytest

from sp_proxy.replay.recorded import joined, still_coded
from tests.replay.exchanges import api, body, recorded


def test_what_is_read():
    found = recorded(
        method="POST",
        attributes={"url.path": "/whole", "url.host": "whole.example"},
        request={"headers": [["content-type", "application/json"]], **body({"a": 1})},
        response={"headers": [["content-type", "text/plain"]], **body("ü")},
    )
    assert (found.method, found.target, found.host) == ("POST", "/whole", "whole.example")
    assert (found.request_body, found.request_flaw) == (b'{"a": 1}', "")
    assert (found.response_body, found.response_flaw) == ("ü".encode(), "")
    assert found.ttfb_ns == 4_500_000
    assert found.group == "session session-1"
    assert recorded(session_id="").group == f"trace {'a' * 32}"


def test_binary_bodies_and_charsets():
    binary = recorded(request={"headers": [], **body("AAEC", encoding="base64")})
    assert binary.request_body == b"\x00\x01\x02"
    latin = recorded(response={"headers": [["content-type", "text/plain; charset=latin-1"]], **body("ü")})
    assert latin.response_body == b"\xfc"


@pytest.mark.parametrize(
    "changes, flaw",
    [
        ({"request": {"size": 5}}, "its body of 5 bytes was not captured"),
        ({"truncated": True, "request": {**body("abc"), "size": 9}}, "its body was captured in part (3 of 9 bytes)"),
        (
            {"truncated": True, "request": {**body("abc"), "headers": [["content-encoding", "gzip"]], "size": 3}},
            "its body was captured in part (3 of 3 bytes)",
        ),
        ({"truncated": True, "request": body("abc")}, ""),  # it is the response's that is cut
        ({"request": body("?", encoding="base64")}, "its body was captured in a form that cannot be read"),
        ({"partial": True}, "it was still going on when it was recorded"),
    ],
)
def test_a_request_that_is_not_whole(changes, flaw):
    assert recorded(**changes).request_flaw == flaw


@pytest.mark.parametrize(
    "changes, missing",
    [
        ({}, ""),
        ({"status": 503, "error": "503"}, ""),
        ({"status": 0}, "no answer was recorded"),
        ({"status": 0, "error": "timeout"}, "no answer was recorded (timeout)"),
        ({"status": 101}, "the connection went on with another protocol"),
        ({"error": "aborted"}, "the recorded answer did not end as it should (aborted)"),
    ],
)
def test_answers_that_are_none(changes, missing):
    assert recorded(**changes).response_missing == missing


def test_what_has_no_body_lacks_none():
    assert recorded(method="HEAD", response={"size": 700}).response_flaw == ""
    assert recorded(response={"size": 700}).response_flaw != ""


def test_content_codings_that_are_still_there():
    assert not still_coded((("content-encoding", "gzip, br"),))
    assert still_coded((("content-encoding", "gzip, exi"),))
    assert not still_coded(())


def test_long_values_are_those_of_the_attributes():
    assert api()["path"] == recorded().target


def test_fields_are_joined_as_they_are_captured():
    assert joined([(b"A", b"1"), (b"b", b"\xc3\xbc"), (b"a", b"\xfc")]) == (("a", "1, ü"), ("b", "ü"))
