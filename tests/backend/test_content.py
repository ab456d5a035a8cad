import contextlib
import gzip
import os
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.backend.content import CorruptError, TooLargeError, decoder_for

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
    "": bytes,
}
LIMIT = 1 << 20


def decode(coding: str, data: bytes, *, limit: int = LIMIT, step: int = 1 << 16) -> bytes:
    decoder = decoder_for(coding, limit)
    assert decoder is not None
    out = b"".join(decoder.feed(data[start : start + step]) for start in range(0, len(data), step))
    decoder.finish()
    return out


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_round_trip_in_pieces(coding, step):
    data = os.urandom(500) * 4
    assert decode(coding, ENCODERS[coding](data), step=step) == data


@pytest.mark.parametrize("coding", ["identity", "GZIP", "x-gzip", " zstd "])
def test_names_are_not_case_sensitive(coding):
    assert decoder_for(coding, 1) is not None


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "compress", "x"])
def test_unknown_codings(coding):
    assert decoder_for(coding, 1) is None


@pytest.mark.parametrize("coding", ENCODERS)
def test_the_limit_is_exact(coding):
    data = ENCODERS[coding](b"x" * LIMIT)
    assert len(decode(coding, data)) == LIMIT
    with pytest.raises(TooLargeError):
        decode(coding, data, limit=LIMIT - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_bomb_costs_no_more_than_the_limit(coding):
    bomb = ENCODERS[coding](bytes(64 << 20))
    assert len(bomb) < 1 << 17
    with pytest.raises(TooLargeError):
        decode(coding, bomb)


def test_gzip_of_several_members():
    assert decode("gzip", gzip.compress(b"one") + gzip.compress(b"two"), step=5) == b"onetwo"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_data_that_ends_early(coding):
    with pytest.raises(CorruptError):
        decode(coding, ENCODERS[coding](b"x" * 1000)[:-3])


def test_zstd_with_a_giant_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(bytes(1 << 16)) + compressor.flush()
    with pytest.raises(CorruptError):
        decode("zstd", data)


@given(coding=st.sampled_from(["gzip", "deflate", "zstd"]), data=st.binary(max_size=200))
def test_any_bytes_decode_or_are_corrupt(coding, data):
    with contextlib.suppress(CorruptError, TooLargeError):
        assert len(decode(coding, data)) <= LIMIT
