import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sp_proxy.backend.query.parse import FIELDS, MAX_LENGTH, QueryError, parse
from sp_proxy.backend.query.syntax import (
    EVERYTHING,
    And,
    Match,
    Not,
    Or,
    Pattern,
    Query,
    Range,
    Span,
    Tag,
    Text,
    Trace,
    Word,
    exactly,
    text_of,
)

NOW = 1_767_225_600 * 10**9


def read(text: str) -> Query:
    return parse(text, now_unix_ns=NOW)


A, B, C = (Match("service", exactly(name)) for name in "abc")


@pytest.mark.parametrize(
    "text, query",
    [
        ("", EVERYTHING),
        ("  ", EVERYTHING),
        ("service:orders", Match("service", exactly("orders"))),
        ('service:"two words"', Match("service", exactly("two words"))),
        ("service:a service:b", And((A, B))),
        ("service:a and service:b AND service:c", And((A, B, C))),
        ("service:a or service:b service:c", Or((A, And((B, C))))),
        ("(service:a or service:b) service:c", And((Or((A, B)), C))),
        ("(service:a)and(service:b)", And((A, B))),
        ("not service:a", Not(A)),
        ("-service:a", Not(A)),
        ("!service:a service:b", And((Not(A), B))),
        ("not (service:a or service:b)", Not(Or((A, B)))),
        ("not not service:a", Not(Not(A))),
        ("service!=a", Not(A)),
        ("path:/api/*", Match("path", Pattern(("/api/", "*", "")))),
        ("path:/api/**", Match("path", Pattern(("/api/", "*", "")))),
        ("path:/?/x", Match("path", Pattern(("/", "?", "/x")))),
        ("path=/api/*", Match("path", exactly("/api/*"))),
        (r"path:/api/\*", Match("path", exactly("/api/*"))),
        (r'path:"a\"b\\c (d)"', Match("path", exactly('a"b\\c (d)'))),
        ('session:""', Match("session", exactly(""))),
        ("method:get", Match("method", exactly("GET"))),
        ("method:p*", Match("method", Pattern(("p", "*", "")))),
        ("status:404", Range("status", 404, 404)),
        ("status:5xx", Range("status", 500, 599)),
        ("status!=5xx", Not(Range("status", 500, 599))),
        ("status>=400", Range("status", 400, None)),
        ("status>4xx", Range("status", 500, None)),
        ("status<400", Range("status", None, 399)),
        ("status:none", Range("status", 0, 0)),
        ("duration>200ms", Range("duration", 200_000_001, None)),
        ("request_size>=10KiB", Range("request_size", 10240, None)),
        ("time>=-1h", Range("time", NOW - 3600 * 10**9, None)),
        ("time:2026-01-01", Range("time", NOW, NOW + 86_400 * 10**9 - 1)),
        ("trace:" + "Ab" * 16, Trace(b"\xab" * 16)),
        ("span:" + "cd" * 8, Span(b"\xcd" * 8)),
        ("tag.env:prod", Tag("env", exactly("prod"))),
        ("tag.a.b-c:*", Tag("a.b-c", Pattern(("", "*", "")))),
        ("kingfisher", Text((Word("kingfisher"),))),
        ("Order-17*", Text((Word("order"), Word("17", prefix=True)))),
        ('"Order 17"', Text((Word("order"), Word("17")))),
        ("text:caf*", Text((Word("caf", prefix=True),))),
        (r"text:caf\*", Text((Word("caf"),))),
        ('"and"', Text((Word("and"),))),
        ("android", Text((Word("android"),))),
        ("notes", Text((Word("notes"),))),
        ("error:timeout peer:orders", And((Match("error", exactly("timeout")), Match("peer", exactly("orders"))))),
    ],
)
def test_queries(text, query):
    assert read(text) == query


@pytest.mark.parametrize(
    "text, column, reason",
    [
        ("servise:orders", 1, "'servise' is not a field (did you mean service?)"),
        ("a http://x", 3, "'http' is not a field"),
        ("qq:1", 1, "fields: service, direction"),
        ("tag.:x", 1, "'tag.' is not a field"),
        ("service:", 9, "a value is missing after 'service:'"),
        ("service: orders", 9, "a value is missing"),
        ("service>a", 1, "service is a text: it is compared with : (a pattern), = or !="),
        ("direction:up", 1, "direction: 'up' is not allowed; allowed: inbound or outbound or unknown"),
        ("a and status:abc", 7, "status: 'abc' is not allowed; allowed: a status (404), a class (5xx), or none"),
        ("duration>200", 1, "duration: '200' is not allowed; allowed: a number with a unit"),
        ("time>soon", 1, "time: 'soon' is not allowed; allowed: a date or moment in UTC"),
        ("trace:abc", 1, "trace: 'abc' is not a trace id; allowed: 32 hex digits"),
        ("span:abc", 1, "span: 'abc' is not a span id; allowed: 16 hex digits"),
        ("trace>" + "ab" * 16, 1, "trace is compared with"),
        ("text>x", 1, "text is compared with"),
        ('"---"', 1, "a text search needs a letter or a digit"),
        ("(service:a", 11, 'a ")" is missing'),
        ("service:a)", 10, 'a ")" without its "("'),
        ("()", 2, "a term is missing"),
        ("or a", 1, "a term is missing before 'or' (to search for the word, quote it)"),
        ("a and", 6, "a term is missing"),
        ("a or or b", 6, "a term is missing before 'or'"),
        ("not", 4, "a term is missing"),
        ("- a", 2, "what '-' is to exclude is missing"),
        ('service:"a', 9, "a closing quote is missing"),
        ('service:"a"b', 12, "a space is missing between two terms"),
        ('a"b"', 2, "a space is missing between two terms"),
        ("a\\", 2, "a backslash at the end"),
        ("(" * 50 + "a", 42, "nested deeper than 40"),
        ("a " * 101, 201, "more than 100 terms"),
        ("a" * 5000, MAX_LENGTH + 1, f"a query has at most {MAX_LENGTH} characters"),
    ],
)
def test_mistakes_are_one_line_with_the_place(text, column, reason):
    with pytest.raises(QueryError) as failure:
        read(text)
    assert failure.value.column == column
    assert str(failure.value).startswith(f"column {column}: ")
    assert reason in str(failure.value)
    assert "\n" not in str(failure.value)


PIECES = [
    *FIELDS,
    "tag.x",
    *[
        "()",
        ":",
        "=",
        "!=",
        "<",
        ">=",
        '"',
        "\\",
        "*",
        "?",
        "-",
        "!",
        "and",
        "or",
        "not",
        "5xx",
        "200ms",
        "-15m",
        "2026-01-01",
        "inbound",
        "é",
    ],
]


def read_or_error(text):
    try:
        return read(text)
    except QueryError as error:
        return error


@settings(max_examples=400)
@given(
    st.one_of(st.text(max_size=60), st.lists(st.sampled_from([*PIECES, " ", "\n", "\x00"]), max_size=20).map("".join))
)
@example("\ud800")
def test_any_text_is_a_query_or_an_error_with_its_place(text):
    outcome = read_or_error(text)
    if isinstance(outcome, QueryError):
        assert 1 <= outcome.column <= len(text) + 1
        assert len(str(outcome).splitlines()) == 1
        assert len(str(outcome)) < 400
    else:
        assert isinstance(read(text_of(outcome)), Query)
