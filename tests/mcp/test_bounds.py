import json

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.mcp.bounds import MAX_ANSWER, MAX_FIELD, cut, told, trimmed
from tests.backend.requests import HOSTILE

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(documents, max_size=5))
def test_what_fits_is_told_as_it_is(listed):
    assert json.loads(told({"l": listed, "x": 1}, "l")) == {"l": listed, "x": 1}


def test_long_lists_end_early_and_say_so():
    told_of = json.loads(told({"many": ["x" * 100] * 10_000, "few": ["y"]}, "few", "many"))
    assert told_of["few"] == ["y"]
    assert len(told_of["many"]) + told_of["many_left_out"] == 10_000
    assert len(told_of["many"]) > 100
    both = json.loads(told({"a": ["x" * 1000] * 100, "b": []}, "a", "b"))
    assert both["a_left_out"] > 0


def test_what_is_optional_goes_first():
    found = json.loads(told({"l": [1], "more": "x" * MAX_ANSWER, "last": "y"}, "l", optional=("more", "last")))
    assert found == {"l": [1], "more": "left out: too long", "last": "y"}


@given(st.text(max_size=50), st.sampled_from(["\x00", "\ud800", "é", "x"]))
def test_nothing_is_longer_than_an_answer(text, letter):
    assert len(told({"text": text, "long": letter * 100_000})) <= MAX_ANSWER


def test_texts_are_cut():
    assert cut("x" * (MAX_FIELD + 7)) == "x" * MAX_FIELD + "… (7 more characters)"
    assert trimmed({"a": ["x" * 600], "n": 1}) == {"a": [cut("x" * 600)], "n": 1}
    deep: object = 1
    for _ in range(500):
        deep = [deep]
    assert "nested deeper" in json.dumps(trimmed(deep))


def test_nothing_invisible_goes_out():
    text = told({"x": HOSTILE + "\u202e\u200b\x1b"})
    assert text.isascii()
    assert text.isprintable()
