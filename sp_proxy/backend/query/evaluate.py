"""A query asked of one exchange in hand (pure): for live updates. The answer is the store's (one test compares them)."""

import re
from collections.abc import Callable

from sp_proxy.backend.model import Arrived
from sp_proxy.backend.query.syntax import And, Match, Not, Or, Pattern, Query, Range, Span, Tag, Text, Trace, Word

Predicate = Callable[[Arrived], bool]

_ATTRIBUTES = {"session": "session_id", "duration": "duration_ns", "time": "start_unix_ns"}
"""Fields whose names in ``ExchangeSummary`` differ."""


def predicate(query: Query) -> Predicate:
    """The question, made ready to be asked often."""
    match query:
        case Match(field, pattern):
            name, fits = _ATTRIBUTES.get(field, field), _fits(pattern)
            return lambda arrived: fits(getattr(arrived.summary, name))
        case Tag(name, pattern):
            fits = _fits(pattern)
            return lambda arrived: name in arrived.tags and fits(arrived.tags[name])
        case Range(field, low, high):
            return _between(_ATTRIBUTES.get(field, field), low, high)
        case Trace(trace_id):
            wanted = trace_id.hex()
            return lambda arrived: arrived.summary.trace_id == wanted
        case Span(span_id):
            identity = span_id.hex()
            return lambda arrived: arrived.summary.span_id == identity
        case Text(found):
            patterns = [_word(word) for word in found]
            return lambda arrived: all(pattern.search(arrived.text) for pattern in patterns)
        case Not(part):
            inner = predicate(part)
            return lambda arrived: not inner(arrived)
        case And(parts):
            every = [predicate(part) for part in parts]
            return lambda arrived: all(one(arrived) for one in every)
        case Or(parts):
            some = [predicate(part) for part in parts]
            return lambda arrived: any(one(arrived) for one in some)


def _between(name: str, low: int | None, high: int | None) -> Predicate:
    def within(arrived: Arrived) -> bool:
        value: int = getattr(arrived.summary, name)
        return (low is None or low <= value) and (high is None or value <= high)

    return within


def _fits(pattern: Pattern) -> Callable[[str], bool]:
    exact = pattern.exact
    if exact is not None:
        return lambda value: value == exact
    expression = pattern.regex()
    return lambda value: expression.fullmatch(value) is not None


def _word(word: Word) -> re.Pattern[str]:
    end = "" if word.prefix else r"(?![0-9a-z\x80-\U0010ffff])"
    return re.compile(rf"(?<![0-9a-z\x80-\U0010ffff]){re.escape(word.text)}{end}")
