"""Where messages end, by example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.taps.http1_framing import (
    ABSENT,
    AMBIGUOUS,
    CHUNKED,
    MAX_CHUNK_LINE,
    REQUEST_HEAD,
    REQUEST_LINE_PREFIX,
    RESPONSE_HEAD,
    RESPONSE_LINE_PREFIX,
    ChunkError,
    ChunkReader,
    body_length,
    strict_request_fault,
    strict_response_fault,
)
from tests.taps.rig import cut, each_byte


def length(*lines: bytes, http10: bool = False) -> int:
    return body_length(b"\r\n" + b"".join(line.lower() + b"\r\n" for line in lines), http10)


# ---- announced lengths (RFC 9112 section 6.3)


@pytest.mark.parametrize(
    "lines, expected",
    [
        ([], ABSENT),
        ([b"accept: content-length: 5"], ABSENT),
        ([b"x-content-length: 5", b"content-length2: 5"], ABSENT),
        ([b"Content-Length: 0"], 0),
        ([b"content-length:5"], 5),
        ([b"content-length: \t 0042 \t"], 42),
        ([b"content-length: 999999999999999999"], 999999999999999999),
        ([b"Transfer-Encoding: Chunked"], CHUNKED),
        ([b"transfer-encoding:chunked\t "], CHUNKED),
        ([b"transfer-encoding: gzip, chunked"], CHUNKED),
        ([b"transfer-encoding: x-gzip ,deflate,\tcompress, chunked"], CHUNKED),
    ],
)
def test_lengths_that_everybody_reads_alike(lines, expected):
    assert length(*lines) == expected


@pytest.mark.parametrize(
    "lines",
    [
        [b"content-length: 5", b"transfer-encoding: chunked"],
        [b"transfer-encoding: chunked", b"accept: */*", b"content-length: 5"],
        [b"content-length: 5", b"content-length: 5"],
        [b"content-length: 5", b"content-length: 6"],
        [b"content-length: 5, 5"],
        [b"content-length: +5"],
        [b"content-length: -5"],
        [b"content-length: 0x5"],
        [b"content-length: 5."],
        [b"content-length: 5e1"],
        [b"content-length: 1_0"],
        [b"content-length: 1 0"],
        [b"content-length: \x0b5"],
        [b"content-length: \xb2"],
        [b"content-length: five"],
        [b"content-length:"],
        [b"content-length: 1000000000000000000"],
        [b"content-length: 0000000000000000005"],
        [b"transfer-encoding: chunked", b"transfer-encoding: chunked"],
        [b"transfer-encoding: chunked, chunked"],
        [b"transfer-encoding: chunked, gzip"],
        [b"transfer-encoding: gzip"],
        [b"transfer-encoding: identity"],
        [b"transfer-encoding: identity, chunked"],
        [b"transfer-encoding: xchunked"],
        [b"transfer-encoding: chunkedx"],
        [b"transfer-encoding: chunked;q=1"],
        [b"transfer-encoding: ,chunked"],
        [b"transfer-encoding: chunked,"],
        [b"transfer-encoding: \x0bchunked"],
        [b'transfer-encoding: "chunked"'],
        [b"transfer-encoding: gzip\x00, chunked"],
        [b"transfer-encoding:"],
    ],
)
def test_lengths_that_somebody_might_read_otherwise(lines):
    assert length(*lines) == AMBIGUOUS


def test_a_transfer_coding_in_http10_is_ambiguous():
    assert length(b"transfer-encoding: chunked", http10=True) == AMBIGUOUS
    assert length(b"content-length: 5", http10=True) == 5


# ---- heads


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"GET http://a/b?c#d HTTP/1.1\r\nHost: a\r\n\r\n",
        b"get /\xff\xfe HTTP/1.1\r\nX: \xe9\x01\t\x7f\r\n\r\n",
        b"!#$%&'*+-.^_`|~09 / HTTP/1.1\r\n!#$%&'*+-.^_`|~09:\r\n\r\n",
        b"M" * 64 + b" / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 30000 + b"\r\n",
    ],
)
def test_request_heads(head):
    match = REQUEST_HEAD(head + b"rest")
    assert match is not None
    assert match[0] == head
    assert b" ".join((match[1], match[2], b"HTTP/1." + match[3])) + match[4] + b"\r\n" == head


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\n\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\n: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost a\r\n\r\n",
        b"GET / HTTP/1.1\r\nH\xf6st: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\x00: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\n\r\n",
        b"GET\t/\tHTTP/1.1\r\n\r\n",
        b"G\xcbT / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"GET / HTTP/1.10\r\n\r\n",
        b"GET /\r\n\r\n",
        b" GET / HTTP/1.1\r\n\r\n",
        b"M" * 65 + b" / HTTP/1.1\r\n\r\n",
    ],
)
def test_request_heads_that_somebody_might_read_otherwise(head):
    assert REQUEST_HEAD(head) is None


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n",
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 999 \xe4\x01 :\r\nA: \xff\r\n\r\n",
    ],
)
def test_response_heads(head):
    match = RESPONSE_HEAD(head + b"rest")
    assert match is not None
    assert match[0] == head


@pytest.mark.parametrize(
    "head",
    [
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
    ],
)
def test_response_heads_that_somebody_might_read_otherwise(head):
    assert RESPONSE_HEAD(head) is None


def test_every_beginning_of_a_line_may_become_one():
    request = b"DELETE /a/b?c=d HTTP/1.1\r"
    response = b"HTTP/1.1 404 Not Found\r"
    assert all(REQUEST_LINE_PREFIX(request[:at]) for at in range(1, len(request) + 1))
    assert all(RESPONSE_LINE_PREFIX(response[:at]) for at in range(1, len(response) + 1))


@pytest.mark.parametrize(
    "line", [b"\x16\x03", b" GET", b"GET /  ", b"GET / FTP", b"GET / HTTP/2", b"GET / HTTP/1.1x", b"G\x00"]
)
def test_what_cannot_become_a_request_line_is_noticed(line):
    assert REQUEST_LINE_PREFIX(line) is None


# ---- strict


def strict(
    method: bytes, target: bytes, authority: bytes | None = b"a", version: bytes = b"1.1", more: bytes = b""
) -> str:
    host = b"" if authority is None else b"Host: " + authority + b"\r\n"
    head = b"%b %b HTTP/%b\r\n%b%b\r\n" % (method, target, version, host, more)
    assert REQUEST_HEAD(head), "only what the relay's reading accepts is asked for"
    return strict_request_fault(method, target, head, authority is not None, authority or b"", version == b"1.0")


@pytest.mark.parametrize(
    "method, target",
    [
        (b"GET", b"/"),
        (b"GET", b"/a?b[]=c|d"),
        (b"GET", b"http://a/"),
        (b"GET", b"urn:a"),
        (b"OPTIONS", b"*"),
        (b"OPTIONS", b"/"),
        (b"CONNECT", b"a:443"),
        (b"CONNECT", b"[::1]:443"),
    ],
)
def test_strict_accepts_the_four_forms_of_a_target(method, target):
    assert strict(method, target) == ""


@pytest.mark.parametrize(
    "method, target",
    [
        (b"GET", b"*"),
        (b"GET", b"a"),
        (b"GET", b"?a"),
        (b"GET", b"#"),
        (b"GET", b"://a"),
        (b"CONNECT", b"/"),
        (b"CONNECT", b"a"),
        (b"CONNECT", b"a:"),
        (b"CONNECT", b"u@a:443"),
        (b"CONNECT", b"http://a:443/"),
        (b"connect", b"*"),
    ],
)
def test_strict_refuses_other_targets(method, target):
    assert strict(method, target) == "invalid_target"


@pytest.mark.parametrize(
    "authority", [b"a", b"", b"a:", b"a:80", b"[::1]", b"[::1]:80", b"127.0.0.1:1", b"a_b.c-d~%41!$&'()*+,;="]
)
def test_strict_accepts_hosts(authority):
    assert strict(b"GET", b"/", authority) == ""


@pytest.mark.parametrize(
    "authority", [b"a b", b"a/b", b"a,b/", b"u@a", b"a:b", b"[::1", b"::1", b"a?b", b"a#", b"a\\b", b"\xe4"]
)
def test_strict_refuses_other_hosts(authority):
    assert strict(b"GET", b"/", authority) == "invalid_host"


def test_strict_wants_a_host_in_http11_only():
    assert strict(b"GET", b"/", None) == "missing_host"
    assert strict(b"GET", b"/", None, b"1.0") == ""


@pytest.mark.parametrize("more", [b"X: a\x01\r\n", b"X: \x7f\r\n", b"X: \x0b\r\n"])
def test_strict_refuses_control_characters(more):
    assert strict(b"GET", b"/", more=more) == "control_character"
    assert strict_response_fault(b"HTTP/1.1 200 OK\r\n" + more + b"\r\n") == "malformed_response_head"


def test_strict_wants_the_space_behind_a_status_and_a_status_that_exists():
    assert strict_response_fault(b"HTTP/1.1 200 \r\nA: \xe4\tb\r\n\r\n") == ""
    assert strict_response_fault(b"HTTP/1.1 200\r\n\r\n") == "malformed_response_head"
    assert strict_response_fault(b"HTTP/1.1 600 X\r\n\r\n") == "malformed_response_head"


# ---- the chunked coding


class Reading:
    def __init__(self, limit: int = 65536, *, strictly: bool = False) -> None:
        self.body = bytearray()
        self.reader = ChunkReader(lambda data, start, end: self.body.extend(data[start:end]), limit, strictly)

    def feed(self, *pieces: bytes) -> int:
        """How many bytes belong to the coding, or -1 if it has not ended."""
        before = 0
        for data in pieces:
            end = self.reader.feed(data, 0)
            if end >= 0:
                return before + end
            before += len(data)
        return -1


SOUND = [
    (b"0\r\n\r\n", b"", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
    (b"00a;x\r\n0123456789\r\n000\r\n\r\n", b"0123456789", b""),
    (b'5;a=1;b="c;d"\r\nhello\r\n0;last\r\n\r\n', b"hello", b""),
    (b'2 ; a = "\\"\x80" ;b\r\nhi\r\n0\r\n\r\n', b"hi", b""),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b""),
    (b"1\r\nz\r\n0\r\nDigest: x\r\nExpires:\t\xe4\r\n\r\n", b"z", b"Digest: x\r\nExpires:\t\xe4\r\n"),
]


@pytest.mark.parametrize("coded, body, trailers", SOUND)
@pytest.mark.parametrize("strictly", [False, True])
def test_chunks_extensions_and_trailers(coded, body, trailers, strictly):
    for pieces in ([coded + b"next"], each_byte(coded + b"next"), cut(coded + b"next", [3, 7, 11])):
        reading = Reading(strictly=strictly)
        assert reading.feed(*pieces) == len(coded)
        assert (bytes(reading.body), reading.reader.trailers) == (body, trailers)


@pytest.mark.parametrize(
    "coded",
    [
        b"2 \r\nhi\r\n0\r\n\r\n",
        b"2;\r\nhi\r\n0\r\n\r\n",
        b"2;a=\x01\r\nhi\r\n0\r\n\r\n",
        b'2;a="b\r\nhi\r\n0\r\n\r\n',
        b"0\r\nA: \x01\r\n\r\n",
    ],
)
def test_strict_wants_the_grammar_of_extensions_and_trailers(coded):
    assert Reading().feed(coded) == len(coded)
    with pytest.raises(ChunkError):
        Reading(strictly=True).feed(coded)


@pytest.mark.parametrize(
    "coded, reason",
    [
        (b"\r\n", "chunk_size"),
        (b"x\r\n", "chunk_size"),
        (b"0x5\r\nhello", "chunk_size"),
        (b"+5\r\nhello", "chunk_size"),
        (b"-5\r\nhello", "chunk_size"),
        (b" 5\r\nhello", "chunk_size"),
        (b"5 5\r\nhello", "chunk_size"),
        (b"5_0\r\nhello", "chunk_size"),
        (b"5\x00\r\nhello", "chunk_size"),
        (b"5;a\x00\r\nhello", "chunk_size"),
        (b"5;a\rb\r\nhello", "chunk_size"),
        (b"1000000000000000\r\nhello", "chunk_size"),
        (b"0000000000000005\r\nhello", "chunk_size"),
        (b"5;" + b"x" * MAX_CHUNK_LINE + b"\r\nhello", "chunk_size"),
        (b"5\nhello\r\n", "bare_lf"),
        (b"5\r\nhello\n0\r\n\r\n", "bare_lf"),
        (b"5\r\nhello0\r\n\r\n", "chunk_end"),
        (b"5\r\nhello\rX\r\n", "chunk_end"),
        (b"5\r\nhelloo\r\n0\r\n\r\n", "chunk_end"),
        (b"0\r\nA : b\r\n\r\n", "malformed_trailer"),
        (b"0\r\n a: b\r\n\r\n", "malformed_trailer"),
        (b"0\r\nA: b\rc\r\n\r\n", "malformed_trailer"),
        (b"0\r\nnonsense\r\n\r\n", "malformed_trailer"),
        (b"0\r\nA: b\n\r\n", "bare_lf"),
        (b"0\r\n\n", "bare_lf"),
    ],
)
def test_broken_chunks(coded, reason):
    for pieces in ([coded], each_byte(coded)):
        with pytest.raises(ChunkError) as caught:
            Reading().feed(*pieces)
        assert caught.value.reason == reason
        assert 0 <= caught.value.position < len(coded)


def test_what_stands_before_a_fault_is_sound():
    reading = Reading()
    with pytest.raises(ChunkError) as caught:
        reading.feed(b"2\r\nhi\r\nzz\r\n")
    assert caught.value.position == 7
    assert reading.body == b"hi"


def test_an_endless_chunk_line_is_refused_when_it_is_too_long():
    reading = Reading()
    assert reading.feed(b"5;" + b"x" * (MAX_CHUNK_LINE - 2)) == -1
    assert reading.reader.held == MAX_CHUNK_LINE
    with pytest.raises(ChunkError):
        reading.feed(b"x")
    assert reading.reader.held == MAX_CHUNK_LINE


@pytest.mark.parametrize("line", [b"a: b\r\n", b"x"])
def test_endless_trailers_are_refused_when_they_are_too_long(line):
    reading = Reading(1000)
    reading.feed(b"0\r\n")
    with pytest.raises(ChunkError) as caught:
        reading.feed(*[line] * 2000)
    assert caught.value.reason == "trailers_too_long"
    assert reading.reader.held <= 1000


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_any_bytes_are_read_alike_however_they_are_cut(data, places):
    def outcome(pieces):
        reading = Reading(50)
        try:
            return reading.feed(*pieces), bytes(reading.body), reading.reader.trailers
        except ChunkError as error:
            return error.reason, bytes(reading.body)

    assert outcome([data]) == outcome(cut(data, places))
