"""The engine that the program uses is what ``core`` asks for."""

from sp_proxy import regex
from sp_proxy.core.redact.engine import Engine


def test_the_real_engine_fits():
    engine: Engine = regex
    assert engine.finder("b")(b"abc") == [(1, 2)]
    assert engine.searcher("b")("abc")
    assert engine.scanner(["a", "b"])(b"b") == [1]
    assert engine.literal("a.b") == r"a\.b"
