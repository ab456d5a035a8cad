import gzip
import json

import pytest

from sp_proxy.demo.shop.messages import Answer, Request, decode, encode, problem


def test_only_tracing_headers_are_handed_on():
    headers = {"traceparent": "00-a", "tracestate": "b=c", "x-sp-session-id": "s", "authorization": "x", "host": "h"}
    assert Request("GET", "/", headers).propagated == {
        "traceparent": "00-a",
        "tracestate": "b=c",
        "x-sp-session-id": "s",
    }
    assert Request("GET", "/", {"cookie": "a"}).propagated == {}


@pytest.mark.parametrize("body, value", [(b'{"a": 1}', {"a": 1}), (b"[1]", None), (b"", None), (b"{", None)])
def test_a_body_is_a_json_object_or_none(body, value):
    assert Request("POST", "/", {}, body).json() == value


def test_a_long_answer_is_compressed_where_the_peer_takes_it():
    answer = Answer(200, {"text": "ä" * 200})
    headers, body = encode(answer, "gzip, br")
    assert headers["content-encoding"] == "gzip"
    assert headers["content-length"] == str(len(body))
    assert json.loads(gzip.decompress(body)) == answer.value
    assert decode(body, "gzip") == answer.value


@pytest.mark.parametrize("answer, accepted", [(Answer(200, "x" * 300), ""), (Answer(200, "short"), "gzip")])
def test_other_answers_are_not(answer, accepted):
    headers, body = encode(answer, accepted)
    assert "content-encoding" not in headers
    assert decode(body, "") == answer.value


@pytest.mark.parametrize("body, coding", [(b"\x1f\x8b", "gzip"), (b"not gzip", "gzip"), (b"<html>", "")])
def test_what_cannot_be_decoded_is_none(body, coding):
    assert decode(body, coding) is None


def test_problems_say_what_they_are():
    answer = problem(404, "unknown product", sku="X")
    headers, body = encode(answer, "")
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body) == {"title": "unknown product", "status": 404, "sku": "X"}
