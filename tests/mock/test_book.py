import json
from typing import Any

import pytest

from sp_proxy.mock.book import AnswerBook, Asked, Hit, Miss, unusable
from sp_proxy.mock.rules import File, MatchRules, Part
from tests.replay.exchanges import body, recorded


def call(number: int, target: str = "/a", method: str = "GET", sent: Any = None, **changes: Any):
    request = {"headers": [["content-type", "application/json"]], **body(sent)} if sent is not None else {}
    return recorded(
        span_id=f"{number:016x}", start_unix_ns=number, method=method, path=target, request=request, **changes
    )


def book(*recordings, **rules: Any) -> AnswerBook:
    return AnswerBook(recordings, MatchRules(File(**rules)))


def found(answers: AnswerBook, target: str, method: str = "GET", sent: Any = None, host: str = "mock") -> int | str:
    """The number of the recording, negative where it was not exactly this one; or the reason."""
    content = b"" if sent is None else sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    result = answers.find(Asked(method, host, target, content))
    if isinstance(result, Miss):
        return result.reason
    assert isinstance(result, Hit)
    return int(result.recorded.span_id, 16) * (1 if result.exact else -1)


def test_answers_in_turn_and_then_the_last_one():
    answers = book(call(2), call(1), call(3, "/b"))
    assert [found(answers, "/a") for _ in range(4)] == [1, 2, 2, 2]
    assert (len(answers), answers.unused) == (3, 1)


def test_exactly_the_same_comes_before_what_is_like_it():
    answers = book(call(1, "/a?x=1&y=2"), call(2, "/a?y=2&x=1"))
    assert found(answers, "/a?y=2&x=1") == 2
    assert found(answers, "/a?x=1&y=2") == 1
    assert found(answers, "/a?x=1&x=3&y=2") == "it was recorded with another query: x=1&y=2"


def test_bodies_are_alike_as_values():
    answers = book(call(1, method="POST", sent={"a": 1, "b": 2.0}), call(2, method="POST", sent={"a": 2}))
    assert found(answers, "/a", "POST", b'{"b":2,"a":1}') == -1
    assert found(answers, "/a", "POST", {"a": 3}) == "it was recorded with another body: $.a: expected 2, found 3"
    assert found(answers, "/a", "POST", b"\xff") == "it was recorded with another body"
    assert found(answers, "/a", "PUT") == "no PUT of this path was recorded"
    assert found(answers, "/c") == "no GET of this path was recorded"


def test_rules_let_differ():
    answers = book(
        call(1, "/a?t=1&k=v", "POST", {"id": 1, "v": 2}),
        call(2, "/any", "POST", {"a": 1}),
        ignore_query=("t",),
        ignore=("$.id",),
        where=(Part(path="/any", ignore_body=True),),
    )
    assert found(answers, "/a?k=v&t=99", "POST", {"id": 7, "v": 2}) == -1
    assert found(answers, "/a?k=w", "POST", {"v": 2}).startswith("it was recorded with another query")  # type: ignore[union-attr]
    assert found(answers, "/any", "POST", b"whatever") == -2


def test_what_was_redacted_fits_any_value():
    answers = book(call(1, "/a?token=[REDACTED]", "POST", {"pin": "[REDACTED]", "n": 1}))
    assert found(answers, "/a?token=secret", "POST", {"pin": "1234", "n": 1}) == -1
    assert str(found(answers, "/a?token=secret", "POST", {"pin": "1234", "n": 2})).endswith("$.n: expected 1, found 2")


def test_hosts():
    answers = book(call(1, host="one"), call(2, host="two"))
    assert found(answers, "/a", host="two") == 2
    assert found(answers, "/a", host="mock") == 1
    strict = AnswerBook([call(1, host="one")], MatchRules(File()), match_host=True)
    assert isinstance(found(strict, "/a", host="mock"), str)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({}, ""),
        ({"status": 0}, "no answer was recorded"),
        ({"response": {"size": 5}}, "the answer: its body of 5 bytes was not captured"),
        ({"request": {"size": 5}}, "the request: its body of 5 bytes was not captured"),
        (
            {"response": {"headers": [["content-type", "application/grpc"]]}},
            "gRPC: its trailers are no part of a recording",
        ),
    ],
)
def test_what_cannot_be_given_again(changes, reason):
    assert unusable(recorded(**changes)) == reason
    answers = book(recorded(**changes))
    assert answers.skipped == ({reason: 1} if reason else {})
