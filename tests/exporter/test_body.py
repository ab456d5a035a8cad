"""Content codings: whole, cut off, corrupt, and made to explode."""

import gzip
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.body import Content
from sp_proxy.exporter.body import decode_body

LIMIT = 65536


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


CODERS = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"Deflate": raw_deflate,
    b"br": brotli.compress,
    b"zstd": zstandard.ZstdCompressor().compress,
}
CODED = pytest.mark.parametrize("coding", CODERS)
# Hardly compressible, so a part of the coded bytes is about the same part of the content.
NOISE = b"".join(zlib.crc32(b"%d" % number).to_bytes(4) for number in range(10_000))


@CODED
@pytest.mark.parametrize("data", [b"", b"x", b'{"ok":true}', NOISE, b"a" * LIMIT])
def test_whole(coding, data):
    assert decode_body(CODERS[coding](data), coding, LIMIT) == Content(data, complete=True)


@CODED
@given(data=st.binary(max_size=500))
def test_any_content(coding, data):
    assert decode_body(CODERS[coding](data), coding.upper(), LIMIT) == Content(data, complete=True)


@CODED
def test_the_limit_holds_against_bombs(coding):
    coded = CODERS[coding](bytes(50 << 20))
    tracemalloc.start()
    try:
        content = decode_body(coded, coding, LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert content == Content(bytes(LIMIT), complete=False)
    assert peak < 4 << 20


@CODED
def test_one_byte_over_the_limit(coding):
    assert decode_body(CODERS[coding](b"a" * (LIMIT + 1)), coding, LIMIT) == Content(b"a" * LIMIT, complete=False)


@CODED
def test_what_is_there_of_a_body_that_breaks_off(coding):
    coded = CODERS[coding](NOISE)
    content = decode_body(coded[: len(coded) // 2], coding, LIMIT)
    assert content is not None
    assert NOISE.startswith(content.data)
    # Zstandard and brotli decode in blocks, so the last one may be missing whole.
    assert coding == b"zstd" or len(content.data) > len(NOISE) // 4
    assert coding == b"zstd" or not content.complete


def test_zstd_that_breaks_off_behind_a_block():
    encoder = zstandard.ZstdCompressor().compressobj()
    coded = encoder.compress(NOISE) + encoder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert decode_body(coded, b"zstd", LIMIT) == Content(NOISE, complete=True)


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br"])
def test_what_came_before_an_error_is_kept(coding):
    coded = bytearray(CODERS[coding](NOISE))
    coded[20_000:] = b"\xff" * 5_000
    content = decode_body(bytes(coded), coding, LIMIT)
    assert content is not None
    assert not content.complete
    assert len(content.data) > 10_000
    assert NOISE.startswith(content.data[:10_000])


def test_gzip_members_in_a_row_and_padding():
    members = gzip.compress(b"one,") + gzip.compress(b"") + gzip.compress(b"two")
    assert decode_body(members, b"gzip", LIMIT) == Content(b"one,two", complete=True)
    assert decode_body(members + bytes(100), b"gzip", LIMIT) == Content(b"one,two", complete=True)
    many = decode_body(gzip.compress(b"x") * 3000, b"gzip", LIMIT)
    assert many == Content(b"x" * 64, complete=False)


def test_zstd_frames_in_a_row():
    coded = CODERS[b"zstd"](b"one,") + CODERS[b"zstd"](b"two")
    assert decode_body(coded, b"zstd", LIMIT) == Content(b"one,two", complete=True)


def test_zstd_with_an_immense_window_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    encoder = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    coded = encoder.compress(NOISE) + encoder.flush()
    assert decode_body(coded, b"zstd", LIMIT) is None


def test_codings_one_inside_another():
    coded = gzip.compress(brotli.compress(b"x" * 1000))
    assert decode_body(coded, b"br, gzip", LIMIT) == Content(b"x" * 1000, complete=True)
    assert decode_body(coded, b"gzip, br", LIMIT) is None
    assert decode_body(b"x", b"gzip, gzip, gzip, gzip, gzip", LIMIT) is None


def test_identity_and_nothing():
    assert decode_body(b"x", b"identity", LIMIT) == Content(b"x", complete=True)
    assert decode_body(b"x", b" , ", LIMIT) == Content(b"x", complete=True)


@pytest.mark.parametrize("coding", [b"compress", b"aws-chunked", b"gzipped", b"\xff", b"gzip;q=1", b"x" * 5000])
def test_unknown_codings(coding):
    assert decode_body(gzip.compress(b"x"), coding, LIMIT) is None


@given(st.binary(), st.sampled_from([*CODERS, b"br,gzip", b"zstd,deflate"]), st.integers(0, 100))
def test_any_bytes_never_fail_nor_pass_the_limit(data, coding, limit):
    content = decode_body(data, coding, limit)
    assert content is None or len(content.data) <= limit
