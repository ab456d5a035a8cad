import json

from sp_proxy.core.redact.json_paths import parse
from sp_proxy.replay.carry import MAX_VALUES, Carried


def learned(was: object, now: object, *paths: str) -> Carried:
    carried = Carried(tuple(parse(path) for path in paths))
    carried.learn(json.dumps(was).encode(), json.dumps(now).encode())
    return carried


def test_whole_words_take_the_place():
    carried = learned({"id": "ord-7", "n": 7}, {"id": "ord-12", "n": 8}, "$.id", "$.n")
    assert carried("/orders/ord-7?n=7") == "/orders/ord-12?n=8"
    assert carried("/orders/ord-77 17 71 ord-70") == "/orders/ord-77 17 71 ord-70"


def test_values_may_change_places():
    assert learned({"a": "x", "b": "y"}, {"a": "y", "b": "x"}, "$.*")("x y") == "y x"


def test_what_is_no_word_is_left():
    carried = learned({"a": True, "b": None, "c": {"d": 1}, "e": ""}, {"a": False, "b": 1, "c": 2, "e": "x"}, "$.*")
    assert carried("True None 1 x") == "True None 1 x"


def test_without_paths_or_json_nothing_is_learned():
    assert learned({"a": "x"}, {"a": "y"})("x") == "x"
    carried = Carried((parse("$.a"),))
    carried.learn(b"<x>", b'{"a":1}')
    assert carried("x") == "x"


def test_a_session_fills_no_memory():
    many = MAX_VALUES + 100
    carried = learned([f"a{n}" for n in range(many)], [f"b{n}" for n in range(many)], "[*]")
    assert carried("a0") == "b0"
    assert carried(f"a{many - 1}") == f"a{many - 1}"
