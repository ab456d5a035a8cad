"""How watching ends: raw, with the reason and unchanged bytes; or, read strictly, refused in the right order."""

import pytest

from sp_proxy.taps.context import Signal
from sp_proxy.taps.http1_state import BAD_GATEWAY, BAD_REQUEST
from tests.taps.rig import Wire, each_byte, without_injected

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
FIXED = b"POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


def post(*lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"".join((b"POST / HTTP/", version, b"\r\nHost: a\r\n", *(line + b"\r\n" for line in lines), b"\r\nhello"))


# What a head may be, as a first one, and why it goes raw.
BAD_HEADS = {
    "te and cl": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), "ambiguous_framing"),
    "cl and te": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), "ambiguous_framing"),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), "ambiguous_framing"),
    "two equal lengths": (post(b"Content-Length: 5", b"content-length: 5"), "ambiguous_framing"),
    "a list of lengths": (post(b"Content-Length: 5, 5"), "ambiguous_framing"),
    "plus": (post(b"Content-Length: +5"), "ambiguous_framing"),
    "minus": (post(b"Content-Length: -5"), "ambiguous_framing"),
    "hexadecimal": (post(b"Content-Length: 0x5"), "ambiguous_framing"),
    "too many digits": (post(b"Content-Length: " + b"9" * 19), "ambiguous_framing"),
    "no length": (post(b"Content-Length:"), "ambiguous_framing"),
    "xchunked": (post(b"Transfer-Encoding: xchunked"), "ambiguous_framing"),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked"), "ambiguous_framing"),
    "two transfer encodings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), "ambiguous_framing"),
    "chunked not last": (post(b"Transfer-Encoding: chunked, gzip"), "ambiguous_framing"),
    "identity": (post(b"Transfer-Encoding: identity"), "ambiguous_framing"),
    "te in http/1.0": (post(b"Transfer-Encoding: chunked", version=b"1.0"), "ambiguous_framing"),
    "connect with a body": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n", "ambiguous_framing"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", "repeated_host"),
    "obs-fold": (post(b"X: a", b" b"), "malformed_head"),
    "fold at first": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "malformed_head"),
    "space before colon": (post(b"Content-Length : 5"), "malformed_head"),
    "no colon": (post(b"nonsense"), "malformed_head"),
    "no name": (post(b": x"), "malformed_head"),
    "nul": (post(b"X: a\x00b"), "malformed_head"),
    "nul in a name": (post(b"X\x00: a"), "malformed_head"),
    "bare cr": (post(b"X: a\rb"), "malformed_head"),
    "bare lf": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "malformed_head|bare_lf"),
    "bare lf at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\nmore", "bare_lf"),
    "only lf": (b"GET / HTTP/1.1\nHost: a\n\n", "malformed_request_line"),
    "two spaces": (b"GET  / HTTP/1.1\r\n\r\n", "malformed_request_line"),
    "space in the target": (b"GET /a b HTTP/1.1\r\n\r\n", "malformed_request_line"),
    "http/0.9": (b"GET /\r\n", "malformed_request_line"),
    "http/1.2": (b"GET / HTTP/1.2\r\n\r\n", "malformed_request_line"),
    "a method of 65 letters": (b"M" * 65 + b" / HTTP/1.1\r\n\r\n", "malformed_request_line|not_http"),
    "nul in the target": (b"GET /\x00 HTTP/1.1\r\n\r\n", "malformed_request_line"),
    "an over-long head": (b"GET / HTTP/1.1\r\nX: " + b"x" * 8192 + b"\r\n\r\n", "head_too_long"),
}
NOT_HTTP = {
    "zeros": (b"\x00\x00\x00\x01", "not_http"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "not_http"),
    "redis": (b"*1\r\n$4\r\nPING\r\n", "not_http"),
    "text": (b"hello world\n", "not_http"),
    "memcached": (b"get key\r\n", "not_http"),
    "tls": (b"\x16\x03\x01\x02\x00\x01", "tls"),
}


@pytest.mark.parametrize("data, reason", (BAD_HEADS | NOT_HTTP).values(), ids=(BAD_HEADS | NOT_HTTP).keys())
def test_what_is_not_read_in_one_way_goes_raw_unchanged_and_counted(data, reason):
    wire = Wire(max_head_size=8192).client(data)
    assert (wire.up, wire.records, wire.ended) == (data, [], Signal.RAW)
    assert wire.reasons <= {"raw:" + each for each in reason.split("|")}
    assert sum(wire.counters[each] for each in wire.reasons) == 1
    bytewise = Wire(max_head_size=8192).client(*each_byte(data)).timeout()
    assert (bytewise.up, bytewise.records, bytewise.ended) == (data, [], Signal.RAW)
    for place in (1, 3, 17, 20, len(data) - 1):
        timed = Wire(max_head_size=8192).client(data[:place]).timeout().client(data[place:])
        assert (timed.up, timed.records, timed.ended) == (data, [], Signal.RAW)


@pytest.mark.parametrize("data, reason", BAD_HEADS.values(), ids=BAD_HEADS.keys())
def test_a_bad_head_behind_good_requests_goes_raw_from_there(data, reason):
    wire = Wire(max_head_size=8192).client(GET).server(OK).client(FIXED + b"body" + data).server(OK).server(OK)
    assert without_injected(wire.up) == GET + FIXED + b"body" + data
    assert wire.down == OK * 3
    assert [each.method for each in wire.records] == [b"GET", b"POST"]
    assert wire.counters["abandoned"] == 0
    assert (len(wire.reasons), wire.ended) == (1, Signal.RAW)


@pytest.mark.parametrize("cut", [False, True])
def test_what_was_asked_before_the_fault_is_recorded_with_its_answer(cut):
    answers = (
        b"HTTP/1.1 103 E\r\n\r\n" + OK + b"HTTP/1.1 404 N\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
    )
    for fault, lost in ((b"GET  / HTTP/1.1\r\n\r\n", 0), (CHUNKED + b"zz\r\n", 1)):
        asked = GET + FIXED + b"body" + fault
        wire = Wire().client(*(each_byte(asked) if cut else [asked]))
        assert wire.ended is not Signal.RAW
        wire = wire.client(b"more").server(*(each_byte(answers) if cut else [answers]))
        assert wire.ended is Signal.RAW
        wire.client(GET).server(OK, b"and what not")
        assert without_injected(wire.up) == asked + b"more" + GET
        assert wire.down == answers + OK + b"and what not"
        assert [(each.status, each.request_body, each.response_body) for each in wire.records] == [
            (200, b"", b"hi"),
            (404, b"body", b"no"),
        ]
        assert wire.counters["abandoned"] == lost
        assert sum(wire.counters[each] for each in wire.reasons) == 1


def test_answers_that_are_still_read_behind_a_fault_may_be_faulty_themselves_and_are_not_the_last():
    wire = Wire().client(GET * 2 + b"GET  / HTTP/1.1\r\n\r\n").server(OK + b"nonsense")
    assert (wire.down, len(wire.records), wire.ended) == (OK + b"nonsense", 1, Signal.RAW)
    assert (wire.reasons, wire.counters["abandoned"]) == ({"raw:malformed_request_line"}, 1)
    wire = Wire().client(GET + b"GET  / HTTP/1.1\r\n\r\n")
    wire.http1.drain(patient=True)
    assert wire.server(OK).down == OK  # another answer follows: the connection is not to end behind this one


@pytest.mark.parametrize("data, _reason", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_other_protocols_behind_a_request_are_malformed_requests(data, _reason):
    assert Wire().client(GET + data).reasons == {"raw:malformed_request_line"}


def test_non_http_goes_at_its_first_byte_and_an_undecided_letter_is_held():
    assert Wire().client(b"\x00").up == b"\x00"
    assert Wire().client(b"\x16").up == b"\x16"
    assert Wire().client(b"S").up == b"S"
    assert Wire().client(b"G").up == b""
    assert Wire().client(b"S", b"SH-2.0-x\r\n").up == b"SSH-2.0-x\r\n"


@pytest.mark.parametrize(
    "chunks, reason",
    [
        (b"zz\r\n", "chunk_size"),
        (b"5 5\r\nhello", "chunk_size"),
        (b"2\r\nhi!\r\n0\r\n\r\n", "chunk_end"),
        (b"2\nhi\r\n", "bare_lf"),
        (b"0\r\nA : b\r\n\r\n", "malformed_trailer"),
        (b"0\r\nA: " + b"x" * 9000, "trailers_too_long"),
    ],
)
def test_broken_chunks_go_raw_in_both_directions(chunks, reason):
    for pieces in ([CHUNKED + chunks + GET], [CHUNKED, *each_byte(chunks + GET)]):
        wire = Wire(max_head_size=8192).client(*pieces)
        assert without_injected(wire.up) == CHUNKED + chunks + GET
        assert (wire.reasons, wire.records, wire.counters["abandoned"]) == ({"raw:" + reason}, [], 1)
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + OK
    for pieces in ([answer], each_byte(answer)):
        wire = Wire(max_head_size=8192).client(GET).server(*pieces)
        assert (wire.down, wire.reasons, wire.records) == (answer, {"raw:" + reason}, [])


BAD_ANSWERS = {
    "te and cl": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
        "ambiguous_response_framing",
    ),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n", "ambiguous_response_framing"),
    "te in http/1.0": (b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "ambiguous_response_framing"),
    "gzip": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "ambiguous_response_framing"),
    "obs-fold": (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "malformed_response_head"),
    "space before colon": (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "malformed_response_head"),
    "bare lf": (b"HTTP/1.1 200 OK\r\nA: b\n\r\nxx\r\n\r\n", "malformed_response_head"),
    "only lf": (b"HTTP/1.1 200 OK\n\n", "malformed_status_line"),
    "bare cr": (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "malformed_response_head"),
    "nul": (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "malformed_response_head"),
    "not http": (b"220 smtp ready\r\n", "malformed_status_line"),
    "icy": (b"ICY 200 OK\r\n\r\n", "malformed_status_line"),
    "empty line": (b"\r\nHTTP/1.1 200 OK\r\n\r\n", "malformed_status_line"),
    "two digits": (b"HTTP/1.1 20 OK\r\n\r\n", "malformed_status_line"),
    "http/2": (b"HTTP/2 200\r\n\r\n", "malformed_status_line"),
    "an unasked upgrade": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "unasked_upgrade"),
    "an over-long head": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 8192 + b"\r\n\r\n", "response_head_too_long"),
}


@pytest.mark.parametrize("answer, reason", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_answers_that_are_not_read_in_one_way_go_raw_unchanged_and_counted(answer, reason):
    for begin in (b"", b"HTTP/1.1 100 Continue\r\n\r\n", OK):
        number = 1 + (begin == OK)
        for pieces in ([begin + answer], each_byte(begin + answer)):
            wire = Wire(max_head_size=8192).client(GET * number).server(*pieces)
            assert (wire.down, wire.reasons, wire.ended) == (begin + answer, {"raw:" + reason}, Signal.RAW)
            assert (len(wire.records), wire.counters["abandoned"]) == (number - 1, 1)


def test_a_server_that_speaks_first_goes_raw_and_what_is_held_is_forwarded():
    wire = Wire().server(b"220 smtp ready\r\n").client(b"EHLO a\r\n")
    assert (wire.down, wire.up, wire.reasons) == (b"220 smtp ready\r\n", b"EHLO a\r\n", {"raw:server_first"})
    wire = Wire().client(b"EH").server(b"220 smtp ready\r\n")
    assert (wire.down, wire.up, wire.reasons) == (b"220 smtp ready\r\n", b"EH", {"raw:server_first"})


def test_an_answer_that_nobody_asked_for_goes_raw():
    wire = Wire().client(GET).server(OK + b"HTTP/1.1 408 Request Timeout\r\n\r\n").client(GET)
    assert wire.down == OK + b"HTTP/1.1 408 Request Timeout\r\n\r\n"
    assert wire.reasons == {"raw:unsolicited_response"}
    assert len(wire.records) == 1
    assert wire.up.endswith(GET)


def test_an_answered_request_whose_body_then_breaks_is_counted():
    wire = Wire().client(CHUNKED).server(OK).client(b"zz\r\n")
    assert (wire.records, wire.counters["abandoned"]) == ([], 1)


# ---- HTTP/2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize("strict", [False, True])
def test_the_http2_preface_belongs_to_another_tap(strict):
    for place in range(1, len(PREFACE)):
        wire = Wire(strict=strict).client(PREFACE[:place])
        if place < 18:
            assert (wire.up, wire.http1.signal) == (b"", Signal.HOLDING)
        wire.client(PREFACE[place:] if place < 18 else b"")
        assert wire.ended is Signal.HTTP2
        assert wire.up == PREFACE[: len(PREFACE) if place < 18 else place]
        assert wire.reasons == set()


@pytest.mark.parametrize("strict", [False, True])
def test_a_preface_of_which_a_part_has_gone_belongs_to_another_tap_all_the_same(strict):
    for place in range(1, 18):
        wire = Wire(strict=strict).client(PREFACE[:place]).timeout().client(PREFACE[place:])
        assert (wire.up, wire.ended, wire.reasons) == (PREFACE, Signal.HTTP2, set())
        assert wire.http1.preface_passed == min(place, 16)  # a CR that may end a head is kept


def test_a_preface_elsewhere_is_a_malformed_request():
    assert Wire().client(GET + PREFACE).reasons == {"raw:malformed_request_line"}
    assert Wire().client(b"\r\n" + PREFACE).reasons == {"raw:malformed_request_line"}
    assert Wire().client(b"\r\n", PREFACE).reasons == {"raw:malformed_request_line"}


def test_settings_of_a_server_that_does_not_wait_pass_and_are_remembered():
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    wire = Wire().server(*each_byte(settings))
    assert (wire.down, bytes(wire.http1.server_said), wire.ended) == (settings, settings, None)
    wire.client(PREFACE)
    assert wire.ended is Signal.HTTP2
    wire = Wire().server(settings).client(GET)
    assert (wire.up, wire.reasons) == (GET, {"raw:server_first"})
    wire = Wire().server(settings + b"x" * 66000)
    assert wire.reasons == {"raw:server_first"}


# ---- strict


@pytest.mark.parametrize("data, reason", BAD_HEADS.values(), ids=BAD_HEADS.keys())
def test_strict_answers_400_and_forwards_nothing(data, reason):
    for pieces in ([data + GET], each_byte(data + GET)):
        wire = Wire(strict=True, max_head_size=8192).client(*pieces)
        if wire.reasons == {"raw:not_http"}:
            assert "not_http" in reason
            continue
        assert (wire.up, wire.down, wire.ended, wire.records) == (b"", BAD_REQUEST, Signal.ANSWER, [])
        assert all(each.startswith("rejected:") for each in wire.reasons)
        assert len(wire.reasons) == 1


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"GET / HTTP/1.1\r\n\r\n", "missing_host"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "invalid_host"),
        (b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n", "invalid_target"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", "control_character"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", "control_character"),
    ],
)
def test_strict_refuses_more_than_what_goes_raw(data, reason):
    wire = Wire(strict=True).client(data)
    assert (wire.up, wire.down, wire.reasons) == (b"", BAD_REQUEST, {"rejected:" + reason})
    assert Wire().client(data).reasons == set()


@pytest.mark.parametrize("data, reason", NOT_HTTP.values(), ids=NOT_HTTP.keys())
def test_strict_has_nothing_to_say_about_other_protocols(data, reason):
    wire = Wire(strict=True).client(data)
    assert (wire.up, wire.reasons) == (data, {"raw:" + reason})


def test_strict_answers_behind_the_answers_that_are_still_to_come():
    wire = Wire(strict=True).client(GET * 2 + b"GET / HTTP/9\r\n\r\n" + GET)
    assert without_injected(wire.up) == GET * 2
    assert (wire.down, wire.http1.signal) == (b"", Signal.REJECTING)
    wire.client(GET)
    assert without_injected(wire.up) == GET * 2
    wire.server(OK)
    assert (wire.down, wire.http1.signal) == (OK, Signal.REJECTING)
    wire.server(OK)
    assert (wire.down, wire.ended) == (OK + OK + BAD_REQUEST, Signal.ANSWER)
    assert wire.errors == ["", ""]


def test_strict_refuses_broken_chunks_and_ends_the_request_where_it_was_sound():
    wire = Wire(strict=True).client(CHUNKED + b"2\r\nhi\r\nzz\r\n" + GET)
    assert without_injected(wire.up) == CHUNKED + b"2\r\nhi\r\n"
    assert (wire.down, wire.ended) == (BAD_REQUEST, Signal.ANSWER)
    assert [(record.error, record.request_body) for record in wire.records] == [("protocol_error", b"hi")]
    assert wire.reasons == {"rejected:chunk_size"}


def test_strict_refuses_extensions_and_trailers_outside_their_grammar():
    for chunks in (b"2 \r\nhi\r\n", b"0\r\nA: \x01\r\n\r\n"):
        assert Wire(strict=True).client(CHUNKED + chunks).ended is Signal.ANSWER
        answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
        assert Wire(strict=True).client(GET).server(answer).ended is Signal.ABORT


def test_strict_refuses_a_body_behind_earlier_answers():
    wire = Wire(strict=True).client(GET + CHUNKED + b"zz\r\n")
    assert wire.http1.signal is Signal.REJECTING
    wire.server(OK)
    assert wire.down == OK + BAD_REQUEST
    assert wire.errors == ["", "protocol_error"]


def test_strict_resets_when_the_answer_of_the_broken_request_has_begun():
    for begin in (b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"):
        wire = Wire(strict=True).client(CHUNKED).server(begin).client(b"zz\r\n")
        assert (wire.down, wire.ended) == (begin, Signal.ABORT)
        assert wire.errors == ["protocol_error"]


def test_strict_only_closes_when_the_broken_request_has_been_answered():
    wire = Wire(strict=True).client(CHUNKED).server(OK).client(b"zz\r\n")
    assert (wire.down, wire.ended) == (OK, Signal.ANSWER)
    assert wire.errors == ["protocol_error"]


def test_strict_only_closes_behind_an_answer_that_ends_with_the_connection():
    wire = Wire(strict=True).client(GET + b"\x00").server(b"HTTP/1.1 200 OK\r\n\r\nuntil close")
    assert wire.http1.signal is Signal.REJECTING
    wire.server_eof()
    assert (wire.down, wire.ended) == (b"HTTP/1.1 200 OK\r\n\r\nuntil close", Signal.ANSWER)
    assert wire.errors == [""]


def test_strict_only_closes_when_an_earlier_answer_never_comes():
    wire = Wire(strict=True).client(GET + b"\x00").server_eof()
    assert (wire.down, wire.ended, wire.errors) == (b"", Signal.ANSWER, ["upstream_aborted"])


@pytest.mark.parametrize("answer, reason", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_strict_answers_502_for_a_bad_answer(answer, reason):
    wire = Wire(strict=True, max_head_size=8192).client(GET * 2).server(OK + answer + OK)
    assert (wire.down, wire.ended) == (OK + BAD_GATEWAY, Signal.ANSWER)
    assert wire.reasons == {"rejected:" + reason}
    assert wire.errors == ["", "protocol_error"]
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert Wire(strict=True, max_head_size=8192).client(GET).server(interim + answer).down == interim + BAD_GATEWAY


@pytest.mark.parametrize("answer, reason", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_strict_resets_when_a_part_of_the_bad_answer_has_gone(answer, reason):
    wire = Wire(strict=True, max_head_size=8192).client(GET).server(*each_byte(answer))
    if not wire.down or wire.down == BAD_GATEWAY:
        assert not answer.startswith(b"H")
        return
    assert answer.startswith(wire.down)
    assert (wire.ended, wire.errors) == (Signal.ABORT, ["protocol_error"])
    assert wire.reasons == {"rejected:" + reason}


def test_strict_resets_in_the_middle_of_an_answer():
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n"
    wire = Wire(strict=True).client(GET * 2).server(answer + b"zz\r\n")
    assert (wire.down, wire.ended) == (answer, Signal.ABORT)
    assert wire.errors == ["protocol_error", "protocol_error"]


def test_strict_resets_for_an_answer_that_nobody_asked_for():
    wire = Wire(strict=True).client(GET).server(OK + OK)
    assert (wire.down, wire.ended, wire.reasons) == (OK, Signal.ABORT, {"rejected:unsolicited_response"})


def test_strict_lets_a_server_speak_first():
    wire = Wire(strict=True).server(b"220 smtp\r\n")
    assert (wire.down, wire.reasons) == (b"220 smtp\r\n", {"raw:server_first"})


def test_strict_refuses_bytes_behind_an_upgrade_that_is_not_decided():
    wire = Wire(strict=True).client(UPGRADE + GET)
    assert without_injected(wire.up) == UPGRADE
    assert wire.reasons == {"rejected:behind_upgrade"}
    wire.server(OK)
    assert (wire.down, wire.ended, wire.errors) == (OK + BAD_REQUEST, Signal.ANSWER, [""])
    wire = Wire(strict=True).client(UPGRADE, b"\x81").server(b"HTTP/1.1 101 S\r\n\r\n")
    assert (wire.ended, wire.errors) == (Signal.ABORT, [""])
    wire = Wire(strict=True).client(UPGRADE).server(b"HTTP/1.1 101 S\r\n\r\n").client(b"\x81")
    assert (wire.ended, wire.up[-1:]) == (Signal.RAW, b"\x81")


def test_strict_passes_what_is_right():
    upload = CHUNKED + b'2;a="b"\r\nhi\r\n0\r\nA: b\r\n\r\n'
    wire = Wire(strict=True).client(GET + upload).server(b"HTTP/1.1 103 E\r\n\r\n" + OK * 2)
    assert without_injected(wire.up) == GET + upload
    assert (wire.reasons, wire.errors) == (set(), ["", ""])


def test_a_refused_connection_holds_nothing():
    wire = Wire(strict=True).client(GET + b"GET / HTTP/9\r\n\r\n" + b"x" * 100_000)
    assert wire.http1.held == 0
    wire.client(b"x" * 100_000)
    assert wire.http1.held == 0
