from sp_proxy.mock.answer import Given, given
from tests.replay.exchanges import body, recorded

HEADERS = [
    ["content-type", "text/plain"],
    ["content-encoding", "gzip"],
    ["content-length", "9"],
    ["transfer-encoding", "chunked"],
    ["date", "then"],
    ["traceparent", "00-a"],
    ["x-mine", "1"],
    ["x-bad", "a\r\nb: c"],
    ["x bad", "a"],
]


def test_what_is_given_again():
    answer = given(recorded(status=404, response={"headers": HEADERS, **body("hello")}))
    assert answer == Given(404, (("content-type", "text/plain"), ("x-mine", "1")), b"hello", 0.0045)


def test_a_coding_that_was_not_undone_stays():
    answer = given(recorded(response={"headers": [["content-encoding", "exi"]], **body("AAE=", encoding="base64")}))
    assert (answer.fields, answer.body) == ((("content-encoding", "exi"),), b"\x00\x01")


def test_an_answer_begins_as_late_as_it_ended_where_nothing_else_is_known():
    assert given(recorded(ttfb_ms=None)).after == 0.012
