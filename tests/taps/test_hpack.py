"""The decoder against the ``hpack`` package, and what an intermediary must keep."""

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sp_proxy.taps import hpack as hpack_module
from sp_proxy.taps.hpack import (
    MAX_LIST_BYTES,
    Decoder,
    HpackError,
    encode_unindexed,
    huffman_decode,
    literal,
    string,
)

NAMES = st.sampled_from([b":path", b":authority", b"grpc-timeout", b"x-a", b"cookie", b"user-agent", b"te"])
FIELDS = st.lists(
    st.tuples(NAMES, st.binary(max_size=60), st.sampled_from(["indexed", "plain", "sensitive"])), max_size=12
)


def theirs(fields, encoder: hpack.Encoder, *, huffman: bool) -> bytes:
    kinds = {"indexed": hpack.HeaderTuple, "plain": hpack.HeaderTuple, "sensitive": hpack.NeverIndexedHeaderTuple}
    return bytes(encoder.encode([kinds[kind](name, value) for name, value, kind in fields], huffman=huffman))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=8))
def test_it_decodes_what_the_hpack_package_encodes(blocks) -> None:
    encoder, decoder, reference, followed = hpack.Encoder(), Decoder(), hpack.Decoder(), hpack.Decoder()
    for fields, huffman, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        data = theirs(fields, encoder, huffman=huffman)
        block = decoder.decode(data)
        assert block.fields == [(name, value) for name, value, _ in fields]
        # the hpack package itself indexes a sensitive field which the static table has whole
        original = followed.decode(data, raw=True)
        assert block.sensitive == {
            i for i, field in enumerate(original) if isinstance(field, hpack.NeverIndexedHeaderTuple)
        }
        # what goes on without indexing means the same to a decoder that follows only that stream
        again = list(reference.decode(encode_unindexed(block), raw=True))
        assert [(bytes(name), bytes(value)) for name, value in again] == block.fields
        assert [isinstance(each, hpack.NeverIndexedHeaderTuple) for each in again] == [
            i in block.sensitive for i in range(len(again))
        ]
        assert len(reference.header_table.dynamic_entries) == 0


ADDED = st.tuples(st.sampled_from([b"a", b"date", b"x" * 40]), st.binary(max_size=30))
ADDING = st.lists(ADDED, max_size=4).map(
    lambda fields: b"".join(b"\x40" + string(name) + string(value) for name, value in fields)
)
RESIZING = st.sampled_from([b"", b"\x20", b"\x3f\x21", b"\x3f\xe1\x01", b"\x3f\xe1\x1f"])  # to 0, 64, 256, 4096


REFERRING = st.sampled_from(
    [b"", b"\xbe", b"\xbf\xbe", b"\x7e\x01v", b"\x0f\x2f\x01v"]
)  # to the newest entries, or their names


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ADDING, min_size=1, max_size=3), st.lists(st.tuples(RESIZING, st.integers(0, 2), REFERRING), max_size=20)
)
def test_what_is_known_from_another_connection_changes_this_ones_table_as_well(pool, sequence) -> None:
    """The table is what the ``hpack`` package says, whether a block was decoded or known."""
    decoder, reference = Decoder(), hpack.Decoder()
    for block in pool:
        Decoder().decode(block)
    for update, number, referring in sequence:
        for data in (update, pool[number % len(pool)], referring):
            if data is referring and len(reference.header_table.dynamic_entries) < 2:
                continue
            expected = reference.decode(data, raw=True)
            assert decoder.decode(data).fields == [(bytes(name), bytes(value)) for name, value in expected]
            assert decoder._table[::-1] == list(reference.header_table.dynamic_entries)


def test_what_is_known_to_all_connections_is_bounded() -> None:
    decoder = Decoder()
    for number in range(3 * hpack_module._INDEPENDENT_MEMO_ENTRIES):
        decoder.decode(literal(b"b", b"%d" % number))
    assert len(hpack_module._independent) <= hpack_module._INDEPENDENT_MEMO_ENTRIES
    for block in (b"\x82" * 60, literal(b"a", bytes(1100)), literal(b"authorization", b"Basic eDp5", sensitive=True)):
        decoder.decode(block)
        assert block not in hpack_module._independent, "a long list, a long block, a secret"


def test_a_reference_means_another_field_when_what_is_known_has_been_added() -> None:
    first, second = b"\x40\x01a\x01x", b"\x40\x01a\x01y"
    for block in (first, second):
        Decoder().decode(block)
    decoder = Decoder()
    for block, value in ((first, b"x"), (second, b"y"), (first, b"x")):
        decoder.decode(block)
        assert decoder.decode(b"\xbe").fields == decoder.decode(b"\xbe").fields == [(b"a", value)]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_whatever_comes_it_decodes_or_says_why_not(blocks) -> None:
    decoder, reference = Decoder(), hpack.Decoder()
    for data in blocks:
        try:
            block = decoder.decode(data)
        except HpackError as error:
            assert str(error).replace("_", "").isalpha()  # noqa: PT017
            with pytest.raises(hpack.HPACKError):
                reference.decode(data, raw=True)
            return
        expected = reference.decode(data, raw=True)
        assert block.fields == [(bytes(name), bytes(value)) for name, value in expected]


@given(st.binary(max_size=100))
def test_huffman_code(text: bytes) -> None:
    coded = hpack.huffman.HuffmanEncoder(
        hpack.huffman_constants.REQUEST_CODES, hpack.huffman_constants.REQUEST_CODES_LENGTH
    ).encode(text)
    assert huffman_decode(coded) == text


@pytest.mark.parametrize("coded", [b"\x00\xff\xff", b"\xff\xff\xff\xff", b"\x07\x00", b"\xff"])
def test_huffman_padding_and_eos_are_refused(coded: bytes) -> None:
    with pytest.raises(HpackError):
        huffman_decode(coded)


def test_a_small_block_cannot_become_a_large_list() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40" + b"\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000)  # one entry of nearly the whole table
    bomb = b"\xbe" * 16000
    with pytest.raises(HpackError, match="header_list_too_large"):
        decoder.decode(bomb)
    assert MAX_LIST_BYTES < 16000 * 4000


def test_a_table_beyond_what_the_receiver_announced_is_refused() -> None:
    decoder = Decoder()
    with pytest.raises(HpackError, match="table_too_large"):
        decoder.decode(b"\x3f\xe1\x7f")
    decoder = Decoder()
    decoder.allow(65536)
    assert decoder.decode(b"\x3f\xe1\x7f").fields == []


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300), st.booleans())
def test_a_literal_changes_no_table(name: bytes, value: bytes, sensitive: bool) -> None:
    reference = hpack.Decoder()
    [field] = reference.decode(literal(name, value, sensitive=sensitive), raw=True)
    assert (bytes(field[0]), bytes(field[1])) == (name, value)
    assert isinstance(field, hpack.NeverIndexedHeaderTuple) == sensitive
    assert not reference.header_table.dynamic_entries
