import json
import time
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sp_proxy.core.redact.json_paths import parse
from sp_proxy.replay.compare import MAX_DIFFERENCES, MAX_SHOWN, Answer, Comparer, Comparison
from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.rules import Bounds, Rules
from tests.replay.exchanges import answering, body, recorded

JSON = (("content-type", "application/json"),)


def compared(was: Any, now: Any, carried=str, carried_paths: tuple[str, ...] = (), **rules: Any) -> Comparison:
    comparer = Comparer(Rules(**rules), Placeholders(), carried, tuple(map(parse, carried_paths)))
    content = now if isinstance(now, bytes) else json.dumps(now).encode()
    return comparer.compare(answering(was), Answer(200, JSON, content))


def places(comparison: Comparison) -> list[str]:
    return [each.place for each in comparison.differences]


def test_equal_values_are_equal_however_they_are_written():
    assert compared('{"a": 1.0, "b": [1, 2], "c": "\\u00fc"}', '{"c":"ü","b":[1,2.0],"a":1}'.encode()) == Comparison(())


@pytest.mark.parametrize(
    "was, now, difference",
    [
        ({"a": {"b c": [1, 2]}}, {"a": {"b c": [1, 3]}}, "$.a['b c'][1]: expected 2, found 3"),
        ({"a": 1}, {}, "$.a: expected 1, found nothing"),
        ({}, {"a": None}, "$.a: expected nothing, found null"),
        ([1], [1, {"x": 2}], '$[1]: expected nothing, found {"x":2}'),
        ({"a": 1}, {"a": "1"}, '$.a: expected 1, found "1"'),
        ({"a": True}, {"a": 1}, "$.a: expected true, found 1"),
        ({"a": 0}, {"a": None}, "$.a: expected 0, found null"),
        ({"a": []}, {"a": {}}, "$.a: expected [], found {}"),
        ({"a": 1}, b"oops", "body: expected JSON, found 'oops'"),
    ],
)
def test_differences_are_named_by_their_path(was, now, difference):
    assert [str(each) for each in compared(was, now).differences] == [difference]


def test_numbers_keep_all_their_digits():
    assert places(compared('{"a":0.10000000000000000001}', b'{"a":0.1}')) == ["$.a"]
    assert places(compared('{"a":12345678901234567890}', b'{"a":12345678901234567891}')) == ["$.a"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def told_apart(value: Any) -> Any:
    """A value that is equal to another only if JSON's are: true is not 1, and 1 is 1.0."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: told_apart(each) for key, each in value.items()}
    return [told_apart(each) for each in value] if isinstance(value, list) else value


@given(values, values)
def test_exactly_different_documents_differ(was, now):
    assert compared(json.dumps({"v": was}), {"v": was}) == Comparison(())
    assert bool(compared(json.dumps({"v": was}), {"v": now}).differences) == (told_apart(was) != told_apart(now))


@given(st.lists(values, max_size=6), st.randoms())
def test_no_order_makes_a_difference_where_it_says_nothing(listed, random):
    shuffled = random.sample(listed, len(listed))
    assert compared({"l": listed}, {"l": shuffled}, unordered=(parse("$.l"),)) == Comparison(())
    assume(listed)
    assert places(compared({"l": listed}, {"l": shuffled[1:]}, unordered=(parse("$.l"),))) != []


def test_status_and_headers():
    was = recorded(status=201, response={"headers": [["location", "/o/1"], ["content-type", "text/plain; charset=x"]]})
    now = Answer(201, (("content-type", "Text/Plain;charset=X"), ("location", "/o/2")), b"")
    comparer = Comparer(Rules(), Placeholders())
    assert [str(each) for each in comparer.compare(was, now).differences] == [
        "header location: expected '/o/1', found '/o/2'"
    ]
    wrong = comparer.compare(was, Answer(500, (), b"other"))
    assert places(wrong) == ["status", "header content-type", "header location"]  # and nothing of its body
    lenient = Comparer(Rules(headers=(), status=False), Placeholders())
    assert lenient.compare(was, Answer(500, (), b"other")) == Comparison(())


@pytest.mark.parametrize(
    "was, now, differs",
    [
        ("http://shop.local:8080/o/1", "https://target/o/1", False),
        ("//shop.local:8080", "//target", False),
        ("http://shop.local:8080/o/1", "https://target/o/2", True),
        ("http://shop.local:80801/o", "http://target1/o", True),
        ("http://other/o", "http://target/o", True),
        ("/o", "/o", False),
    ],
)
def test_a_service_that_redirects_to_itself_names_itself(was, now, differs):
    comparer = Comparer(Rules(), Placeholders(), host="target")
    recording = recorded(status=302, response={"headers": [["location", was]]})
    assert bool(comparer.compare(recording, Answer(302, (("location", now),), b"")).differences) == differs


def test_what_is_ignored():
    was, now = {"id": 1, "l": [{"t": 1, "v": 1}, 5]}, {"l": [{"t": 2, "v": 1}, 6], "x": 3}
    assert compared(was, now, ignore=(parse("$.id"), parse("$..t"), parse("$.l[-1]"), parse("x"))) == Comparison(())
    assert compared(was, now, body=False) == Comparison(())


def test_tolerance():
    everywhere, there = Bounds((), 0.0, 0.1), Bounds(parse("$.a"), 1.0, 0.0)
    assert compared({"a": 100, "b": -1.5}, {"a": 109, "b": -1.4}, tolerance=(everywhere,)) == Comparison(())
    assert places(compared({"a": 100, "b": 100}, {"a": 101, "b": 101}, tolerance=(there,))) == ["$.b"]
    assert places(compared({"a": 100}, {"a": 112}, tolerance=(everywhere,))) == ["$.a"]
    assert places(compared({"a": 100}, {"a": "100"}, tolerance=(everywhere,))) == ["$.a"]
    assert places(compared('{"a":1e400}', b'{"a":1e401}', tolerance=(everywhere,))) == ["$.a"]


def test_arrays_in_any_order():
    was = {"l": [{"id": 1, "t": 1}, {"id": 2, "t": 1}, {"id": 2, "t": 1}]}
    now = {"l": [{"t": 9, "id": 2}, {"t": 9, "id": 1}, {"t": 9, "id": 2}]}
    rules: dict[str, Any] = {"unordered": (parse("$.l"),)}
    assert compared(was, now, ignore=(parse("$.l[*].t"),), **rules) == Comparison(())
    assert places(compared([1, 2, 3], [3, 1], unordered=(parse("$[*]"),))) == ["$[0]", "$[1]", "$[2]"]
    assert places(compared({"l": [1, 2, 3]}, {"l": [3, 1]}, **rules)) == ["$.l[1]"]
    assert places(compared({"l": [1]}, {"l": [3, 1]}, **rules)) == ["$.l[0]"]
    # Within it, numbers may be near too.
    near = (Bounds(parse("$.l[*]"), 0.5, 0.0),)
    assert compared({"l": [1, 2]}, {"l": [2.2, 1.1]}, tolerance=near, **rules) == Comparison(())


def test_large_arrays_in_any_order_take_no_time_beyond_bounds():
    was, now = [{"n": number} for number in range(5000)], [{"n": -number - 1} for number in range(5000)]
    began = time.monotonic()
    comparison = compared({"l": was}, {"l": now}, unordered=(parse("$.l"),))
    assert len(comparison.differences) + comparison.more == 5000
    assert time.monotonic() - began < 60  # each against each other would be minutes


def test_deep_documents():
    deep = "[" * 400 + "]" * 400
    assert compared(deep, deep.replace("[]", "[1]").encode()).differences[0].place.startswith("$[0][0]")
    deepest = "[" * 100_000 + "]" * 100_000
    assert places(compared(deepest, b"[]")) == ["body, line 1"]  # too deep to be read: compared as text


def test_redacted_values_fit_any():
    assert compared({"card": "[REDACTED]", "t": "a [REDACTED]"}, {"card": "4111", "t": "a b"}) == Comparison(())
    assert places(compared({"t": "a [REDACTED]"}, {"t": "b c"})) == ["$.t"]


def test_values_of_this_run():
    def carried(text: str) -> str:
        return text.replace("ord-1", "ord-2")

    was, now = {"id": "ord-1", "url": "/ord-1"}, {"id": "ord-2", "url": "/ord-2"}
    assert compared(was, now, carried) == Comparison(())
    # What is new in this answer is no difference, but that there is none is.
    assert compared({"id": "ord-5"}, {"id": "ord-6"}, carried, ("$.id",)) == Comparison(())
    assert places(compared({"id": "ord-5"}, {}, carried, ("$.id",))) == ["$.id"]
    assert places(compared({"id": "ord-5"}, {"id": 6}, carried, ("$.id",))) == ["$.id"]


def test_text_and_bytes():
    comparer = Comparer(Rules(), Placeholders())
    was = answering("one\ntwo\nthree", "text/plain")
    found = comparer.compare(was, Answer(200, was.response_fields, b"one\n2\nthree"))
    assert [str(each) for each in found.differences] == ["body, line 2: expected 'two', found '2'"]
    shorter = comparer.compare(was, Answer(200, was.response_fields, b"one\ntwo"))
    assert [str(each) for each in shorter.differences] == ["body, line 3: expected 'three', found nothing"]
    image = recorded(response={"headers": [["content-type", "image/x"]], **body("AAEC", encoding="base64")})
    found = comparer.compare(image, Answer(200, image.response_fields, b"\x00\x01"))
    assert [str(each) for each in found.differences] == ["body: expected 3 bytes, found 2 other bytes"]


def test_what_cannot_be_compared_is_said():
    comparer = Comparer(Rules(headers=()), Placeholders())
    cut = recorded(truncated=True, response={"headers": [], **body("abc"), "size": 9})
    assert comparer.compare(cut, Answer(200, (), b"abcdefghi")).notes == (
        "body not compared: its body was captured in part (3 of 9 bytes)",
    )
    assert comparer.compare(answering({}), Answer(200, (), b"", complete=False)).notes
    assert comparer.compare(answering({}), Answer(200, (("content-encoding", "exi"),), b"x")).notes


def test_much_is_cut():
    many = compared(dict.fromkeys(map(str, range(100)), 1), {})
    assert (len(many.differences), many.more) == (MAX_DIFFERENCES, 100 - MAX_DIFFERENCES)
    long = compared({"k" * 5000: "v" * 5000}, {}).differences[0]
    assert len(long.place) == MAX_SHOWN
    assert len(long.expected) <= MAX_SHOWN + 1
