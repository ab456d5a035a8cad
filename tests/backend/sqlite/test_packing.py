import os

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.sqlite.packing import pack, pack_batch, unpack, unpack_json
from tests.backend.requests import batch_of, exchange_span, sdk_span

COMPRESSOR = zstandard.ZstdCompressor(level=1)


@given(st.binary(max_size=2000))
def test_round_trip(data):
    assert unpack(pack(data, COMPRESSOR)) == data


def test_what_does_not_shrink_stays_as_it_is():
    data = os.urandom(1000)
    assert pack(data, COMPRESSOR) == b"\x00" + data
    assert len(pack(bytes(1000), COMPRESSOR)) < 50


def test_equal_resources_have_equal_digests():
    batch = batch_of(exchange_span(response_body=None), sdk_span())
    packed = pack_batch(batch)
    assert packed.resources[0][0] == pack_batch(batch_of(sdk_span())).resources[0][0]
    assert unpack_json(packed.resources[0][1]) == {"service.name": "orders"}
    assert [unpack_json(span.details) for span in packed.spans] == [span.details for span in batch.spans]
    assert packed.spans[0].response_body is None
