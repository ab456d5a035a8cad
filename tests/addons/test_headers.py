"""Header fields in a hook's hands."""

import pytest

from sp_proxy.addons.headers import Headers


def test_headers_are_a_mapping_in_any_case():
    headers = Headers(b"Host: a\r\nAccept: x\r\naccept:  y\r\nno colon\r\n: z\r\n")
    assert headers["HOST"] == "a"
    assert headers["accept"] == "x, y"
    assert list(headers) == ["host", "accept"]
    assert len(headers) == 2
    assert "cookie" not in headers
    assert headers.get("cookie", "none") == "none"


def test_read_only_they_are_the_bytes_that_came():
    block = b"A:1\r\nodd line\r\nB:  2\r\n"
    assert Headers(block).block() == block


def test_setting_and_removing():
    headers = Headers(b"A: 1\r\na: 2\r\nB: 3\r\n")
    headers["a"] = "4"
    assert headers.block() == b"B: 3\r\na: 4\r\n"
    del headers["b"]
    assert headers.block() == b"a: 4\r\n"
    with pytest.raises(KeyError):
        del headers["b"]
    for name, value in (("a b", "1"), ("", "1"), ("a", "1\r\nb: 2"), ("a", "\0")):
        with pytest.raises(ValueError):
            headers[name] = value


def test_fields_can_be_added_and_changes_are_known():
    headers = Headers(b"A: 1\r\nB: 2\r\n")
    assert headers.changed == []
    headers.add("a", "3")
    headers["C"] = "4"
    del headers["b"]
    assert headers.changed == ["a", "c", "b"]
    assert (headers.lines("A"), headers.lines("b")) == ([b"1", b"3"], [])
    other = headers.copy()
    other["d"] = "5"
    assert "d" not in headers
    assert headers.changed == ["a", "c", "b"]
    with pytest.raises(ValueError):
        headers.add("a", "1\n")
