"""Operators' request hooks in the taps: what the server sees, what the record says, and what is remembered."""

import random
from collections import defaultdict

import pytest

from sp_proxy.addons.heads import RequestAddon, RequestHooks
from sp_proxy.core.rules import PolicyConfig, RuleConfig
from tests.taps.http2_rig import REQUEST, Watched
from tests.taps.rig import INJECTED, Wire, each_byte

EVERYTHING = """
def request(head):
    head.headers["x-tenant"] = head.headers.get("x-key", "none")
    if "x-key" in head.headers:
        del head.headers["x-key"]
    head.host = "other:81"
    head.tag("tenant", head.headers["x-tenant"])
"""
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def hooks(text: str, *, pure: bool = False) -> RequestHooks:
    return RequestHooks([RequestAddon("hook", "/x/hook.py", text, pure)], 10.0, defaultdict(int))


@pytest.mark.parametrize("pure", [False, True])
def test_http1_heads_are_edited_and_recorded_as_forwarded(pure):
    wire = Wire(hooks=hooks(EVERYTHING, pure=pure))
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Key: k1\r\nAccept: x\r\n\r\n"
    wire.client(request, request).server(OK, OK)
    forwarded = b"Accept: x\r\n" + INJECTED + b"host: other:81\r\nx-tenant: k1\r\n"
    assert wire.up == 2 * (b"GET / HTTP/1.1\r\n" + forwarded + b"\r\n")
    for record in wire.records:
        assert record.request_fields == forwarded
        assert record.authority == b"other:81"
        assert record.tags == (("tenant", "k1"),)
    assert len(wire.records) == 2


def test_pure_answers_are_remembered_with_the_head_and_others_are_not():
    text = "number = 0\ndef request(head):\n    global number\n    number += 1\n    head.headers['y-number'] = str(number)\n"
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for pure, numbers in ((False, (b"1", b"2")), (True, (b"1", b"1"))):
        wire = Wire(hooks=hooks(text, pure=pure)).client(request).server(OK).client(request).server(OK)
        assert [record.request_fields[-3:-2] for record in wire.records] == list(numbers)


def test_an_answer_that_lacks_a_hook_is_not_remembered():
    text = "number = 0\ndef request(head):\n    global number\n    number += 1\n    1 / (number - 1)\n    head.tag('number', number)\n"
    wire = Wire(hooks=hooks(text, pure=True))
    for _ in range(3):
        wire.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").server(OK)
    assert [record.tags for record in wire.records] == [(), (("number", "2"),), (("number", "2"),)]


def test_a_head_that_has_passed_in_part_is_left_alone():
    wire = Wire(hooks=hooks(EVERYTHING))
    wire.client(b"GET / HTTP/1.1\r\nHost: a\r\n").timeout().client(b"X-Key: k\r\n\r\n").server(OK)
    assert wire.up == b"GET / HTTP/1.1\r\nHost: a\r\nX-Key: k\r\n" + INJECTED + b"\r\n"
    assert wire.counters["addon_heads_passed"] == 1
    assert wire.records[0].tags == ()


def test_cut_anywhere_it_is_the_same():
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Key: k1\r\n\r\n"
    whole = Wire(hooks=hooks(EVERYTHING)).client(request).up
    assert Wire(hooks=hooks(EVERYTHING)).client(*each_byte(request)).up == whole


def test_capture_is_decided():
    text = "def request(head):\n    head.capture = head.path != '/no'\n"
    policy = PolicyConfig(server_rules=(RuleConfig(paths=("^/yes",)),), skip_static=False)
    wire = Wire(hooks=hooks(text), policy=policy)
    for path in (b"/yes", b"/no", b"/other"):
        wire.client(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path).server(OK)
    assert [record.target for record in wire.records] == [b"/yes", b"/other"]


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_http2_heads_are_edited_likewise(seed):
    both = Watched(random.Random(seed) if seed else None, hooks=hooks(EVERYTHING))
    for key in ("k1", "k2"):
        both.answer(both.request([("x-key", key)]))
    seen = both.requests_seen()
    assert [each[b"x-tenant"] for each in seen] == [b"k1", b"k2"]
    assert [each[b":authority"] for each in seen] == [b"other:81"] * 2
    assert all(b"x-key" not in each and b"host" not in each for each in seen)
    assert all(each[b"x-sp-service-name"] == b"shop" for each in seen)
    for record, tenant in zip(both.records, ("k1", "k2"), strict=True):
        assert record.tags == (("tenant", tenant),)
        assert record.authority == b"other:81"
        assert f"x-tenant: {tenant}\r\n".encode() in record.request_fields
        assert b"x-key" not in record.request_fields


def test_http2_fields_that_are_only_added_leave_the_block_as_it_is():
    both = Watched(hooks=hooks("def request(head):\n    head.headers['y-one'] = '1'\n"))
    both.answer(both.request())
    assert both.requests_seen()[0][b"y-one"] == b"1"
    assert not both.tap._streams.anew
    assert dict(REQUEST)["te"] == "trailers"


def test_a_hook_that_raises_changes_nothing():
    wire = Wire(hooks=hooks("def request(head):\n    head.headers['a'] = 'b'\n    1 / 0\n"))
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert wire.client(request).up == request[:-2] + INJECTED + b"\r\n"
