"""Queries of every kind, for property tests."""

from hypothesis import strategies as st

from sp_proxy.backend.query.syntax import And, Match, Not, Or, Pattern, Range, Span, Tag, Text, Trace, Word
from tests.backend.requests import START

TRACES = (b"t" * 16, b"u" * 16)
literals = st.sampled_from(
    ["", "x", "/x", "orders", "%", "_", "'", '"', "\\", "*", "?", "[a]", "(", " ", "\x00", "é", "<b>"]
)


def patterns(texts=literals):
    """Literals with wildcards between them; as the parser makes them, no two stars stand side by side."""

    def join(parts):
        pieces = [parts[0][0]]
        for wild, literal in zip((wild for _, wild in parts), (literal for literal, _ in parts[1:]), strict=False):
            if wild == "*" and pieces[-2:] == ["*", ""]:
                pieces[-1] += literal
            else:
                pieces += [wild, literal]
        return Pattern(tuple(pieces))

    return st.lists(st.tuples(texts, st.sampled_from("*?")), min_size=1, max_size=4).map(join)


def matches(field, texts):
    return st.builds(Match, st.just(field), patterns(st.sampled_from(texts)))


limits = {
    "status": [None, -1, 0, 199, 200, 404, 499, 500, 999],
    "duration": [None, -1, 0, 12_000_000, 2**63],
    "time": [None, 0, START, START + 2_000_000, 2**63],
    "request_size": [None, 0, 7],
    "response_size": [None, 0, 7, 11],
}


def ranges(field):
    numbers = st.sampled_from(limits[field])
    return st.builds(Range, st.just(field), numbers, numbers)


def leaves():
    return st.one_of(
        matches("service", ["orders", "payment", "pay", "", "o"]),
        st.builds(
            Match, st.just("direction"), st.sampled_from(["inbound", "unknown"]).map(lambda name: Pattern((name,)))
        ),
        matches("method", ["GET", "P", ""]),
        matches("host", ["a", "b:80", ":"]),
        matches("path", ["/x", "x%y", "X_", "", "<script>", "\x00", "'", "u2028"]),
        matches("session", ["s1", "s", ""]),
        matches("peer", ["", "orders"]),
        matches("error", ["", "timeout", "t"]),
        st.builds(Tag, st.sampled_from(["env", "team"]), patterns(st.sampled_from(["prod", "p", ""]))),
        *(ranges(field) for field in limits),
        st.builds(Trace, st.sampled_from(TRACES)),
        st.builds(Span, st.just(b"s" * 8)),
        st.builds(
            Text,
            st.lists(
                st.builds(Word, st.sampled_from(["ok", "tr", "x", "alert", "é", "orders"]), st.booleans()),
                min_size=1,
                max_size=2,
            ).map(tuple),
        ),
    )


def queries():
    """Any query of up to a few levels."""
    return st.recursive(
        leaves(),
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(And, st.lists(inner, max_size=3).map(tuple)),
            st.builds(Or, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        ),
        max_leaves=6,
    )
