"""JSON paths: what they mean, and that a document stays what it was."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.redact.json_paths import Place, Step, decode, encode, needed_key, parse, places

DOCUMENT = b'{"user":{"password":"p1","keys":[{"token":"t1"},{"token":"t2"}]},"token":"t0","odd key":[1,2]}'


def found(path: str, document: bytes = DOCUMENT):
    return [place.value for place in places(Place([decode(document)], 0), parse(path))]


@pytest.mark.parametrize(
    "path,values",
    [
        ("$.user.password", ["p1"]),
        ("user.password", ["p1"]),
        ("user.keys[*].token", ["t1", "t2"]),
        ("user.keys[0].token", ["t1"]),
        ("user.keys[-1].token", ["t2"]),
        ("user.keys[2].token", []),
        ("user.*[*].token", ["t1", "t2"]),
        ("$..token", ["t0", "t1", "t2"]),
        ("..token", ["t0", "t1", "t2"]),
        ("$.user..token", ["t1", "t2"]),
        ("$..keys..token", ["t1", "t2"]),
        ("$['odd key'][1]", [2]),
        ('$["odd key"][*]', [1, 2]),
        ("Token", []),
        ("token.more", []),
        ("user[0]", []),
    ],
)
def test_where_a_path_leads(path, values):
    assert found(path) == values


def test_what_holds_others_comes_first_and_each_place_once():
    assert found("$..a", b'{"a":{"a":[{"a":1}]}}') == [{"a": [{"a": 1}]}, [{"a": 1}], 1]
    assert len(found("$..*..*", b"[[1]]")) == 1


@pytest.mark.parametrize("text", ["", "$", "$.", "a..", "a[", "a b", "a[b]", "$$", "a[]", ".", "..", "a.[0]x", "a[1"])
def test_what_is_no_path(text):
    with pytest.raises(ValueError, match="a JSON path"):
        parse(text)


def test_a_path_needs_its_longest_key():
    assert needed_key(parse("$.a.password[*].b")) == "password"
    assert needed_key(parse("$[0].*")) == ""
    assert parse("a..b") == (Step("a", deep=False), Step("b", deep=True))


def test_numbers_keep_their_digits():
    text = b"[1.10,123456789012345678901234567890,-0.0,1E400,18446744073709551616,0.1000000000000000055511151231257827]"
    assert encode(decode(text)) == text.replace(b"1E400", b"1E+400")
    assert decode(b"1.5") == Decimal("1.5")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    )
)
def test_a_document_is_the_same_after_decoding_and_encoding(document):
    assert json.loads(encode(decode(json.dumps(document).encode()))) == document


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1,]", b"NaN", b"{'a':1}", b'{"a":1} x', b'"\xff"', b"[" * 50_000 + b"]" * 50_000]
)
def test_what_is_no_document(text):
    with pytest.raises(ValueError):
        decode(text)


def test_a_byte_order_mark_is_no_part_of_it():
    assert decode(b"\xef\xbb\xbf{}") == {}


def test_a_path_takes_time_in_proportion_to_the_document():
    document = b"[" * 200 + b"1," * 5000 + b"1" + b"]" * 200
    assert len(found("$..*..*..*..*", document)) > 1000
