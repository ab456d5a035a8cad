"""The constants are those of RFC 7541, as the ``hpack`` package has them."""

from hpack.huffman_constants import REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from sp_proxy.taps.hpack_tables import HUFFMAN_LENGTHS, STATIC_TABLE


def test_the_static_table() -> None:
    assert [tuple(entry) for entry in STATIC_TABLE] == [tuple(entry) for entry in HeaderTable.STATIC_TABLE]


def test_the_lengths_of_the_huffman_code() -> None:
    assert list(HUFFMAN_LENGTHS) == list(REQUEST_CODES_LENGTH)
