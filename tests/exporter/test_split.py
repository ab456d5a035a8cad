"""Halves of a request hold what the whole one held."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.spans import SpanEncoder
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form, Payload
from sp_proxy.exporter.split import decoded, first_trace_id, split
from tests.exporter.rig import make_exchange

encode_span = SpanEncoder(decode_body).encode_span


def payload(services: list[bytes], compression="gzip") -> Payload:
    exchanges = [make_exchange(number, service_name=name) for number, name in enumerate(services, 1)]
    (made,) = Encoder(encode_span, [Form({"host.name": "h"}, compression)]).encode(exchanges).payloads
    return made


def content(some: Payload) -> list[tuple[bytes, bytes, bytes]]:
    """Resource, scope and span of each span, in order."""
    return [
        (resource.resource.SerializeToString(), scope.scope.SerializeToString(), span.SerializeToString())
        for resource in decoded(some).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@given(st.lists(st.sampled_from([b"orders", b"payment", b"users"]), min_size=2, max_size=12))
def test_halves(services):
    whole = payload(services)
    halves = split(whole)
    assert halves is not None
    first, second = halves
    assert content(first) + content(second) == content(whole)
    assert (first.records, second.records) == (len(services) // 2, len(services) - len(services) // 2)
    assert [half.raw_size for half in halves] == [len(gzip.decompress(half.body)) for half in halves]


@pytest.mark.parametrize("compression,encoding", [("gzip", "gzip"), ("none", "")])
def test_halves_are_compressed_as_the_whole_was(compression, encoding):
    halves = split(payload([b"orders"] * 3, compression))
    assert halves is not None
    assert {half.encoding for half in halves} == {encoding}


def test_one_record_cannot_be_split():
    assert split(payload([b"orders"])) is None


def test_the_first_trace_id_as_a_sample():
    assert first_trace_id(payload([b"orders", b"payment"])) == (1).to_bytes(16).hex()
    assert first_trace_id(Payload(b"", 0, "", 0)) == ""
    assert first_trace_id(Payload(b"\xff", 1, "", 1)) == ""
    assert first_trace_id(Payload(b"\xff", 1, "gzip", 1)) == ""
