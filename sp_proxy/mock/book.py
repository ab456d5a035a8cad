"""Recorded answers, and which of them a request gets (pure).

A request is known by its method, path, query and body. Exactly the same one is looked for first; then one that is the
same but for the order of the query's parameters, the way its JSON is written, and what the rules let differ. Of several
answers to the same request each is given once, in the order of time, and then the last one again and again.
"""

from collections import defaultdict
from collections.abc import Iterable
from urllib.parse import parse_qsl

from msgspec import Struct

from sp_proxy.core.redact import json_paths
from sp_proxy.mock.rules import Likeness, MatchRules
from sp_proxy.replay.compare import json_difference
from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.recorded import Recorded

MAX_COMPARED = 1000
"""Recordings of one method and path that a request is compared with."""


class Asked(Struct, frozen=True):
    """A request that wants an answer."""

    method: str
    host: str
    target: str
    body: bytes = b""


class Hit(Struct, frozen=True):
    """The recording whose answer it gets."""

    recorded: Recorded
    exact: bool


class Miss(Struct, frozen=True):
    """There is none, and what came nearest."""

    reason: str


def unusable(recorded: Recorded) -> str:
    """Why the answer of a recording cannot be given again; empty when it can."""
    if recorded.response_missing or recorded.response_flaw:
        return recorded.response_missing or f"the answer: {recorded.response_flaw}"
    if recorded.request_flaw:
        return f"the request: {recorded.request_flaw}"
    if dict(recorded.response_fields).get("content-type", "").startswith("application/grpc"):
        return "gRPC: its trailers are no part of a recording"
    return ""


class AnswerBook:
    """The recordings. ``given`` remembers which of them have been used, by span id."""

    def __init__(
        self,
        recordings: Iterable[Recorded],
        rules: MatchRules,
        *,
        match_host: bool = False,
        given: set[str] | None = None,
    ) -> None:
        self.skipped: dict[str, int] = {}
        """Recordings that cannot be used: how many, by reason."""
        self.given: set[str] = set() if given is None else given
        self._rules = rules
        self._match_host = match_host
        self._placeholders = Placeholders(rules.placeholders)
        self._known: defaultdict[tuple[str, str], list[Recorded]] = defaultdict(list)
        for each in sorted(recordings, key=lambda each: (each.start_unix_ns, each.span_id)):
            if reason := unusable(each):
                self.skipped[reason] = self.skipped.get(reason, 0) + 1
            else:
                self._known[each.method, _path(each.target)].append(each)
        self._hosts = {each.host for found in self._known.values() for each in found}

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    @property
    def unused(self) -> int:
        """Answers that nobody has had."""
        return sum(each.span_id not in self.given for found in self._known.values() for each in found)

    def find(self, asked: Asked) -> Hit | Miss:
        """The next answer for a request."""
        path = _path(asked.target)
        candidates = self._known.get((asked.method, path), [])[-MAX_COMPARED:]
        if self._match_host or asked.host in self._hosts:
            candidates = [each for each in candidates if each.host == asked.host]
        if not candidates:
            return Miss(f"no {asked.method} of this path was recorded")
        exact = [each for each in candidates if each.target == asked.target and each.request_body == asked.body]
        if exact:
            return Hit(self._next(exact), exact=True)
        likeness = self._rules.of(asked.method, path)
        alike, nearest = [], ""
        for each in candidates:
            reason = self._unlike(each, asked, likeness)
            if not reason:
                alike.append(each)
            elif not nearest or not reason.startswith("it was recorded with another query"):
                nearest = reason
        return Hit(self._next(alike), exact=False) if alike else Miss(nearest)

    def _next(self, found: list[Recorded]) -> Recorded:
        chosen = next((each for each in found if each.span_id not in self.given), found[-1])
        self.given.add(chosen.span_id)
        return chosen

    def _unlike(self, recorded: Recorded, asked: Asked, likeness: Likeness) -> str:
        """What differs, for a person; empty when nothing does that matters."""
        was, now = _parameters(recorded.target, likeness), _parameters(asked.target, likeness)
        if len(was) != len(now) or not all(
            name == other and self._placeholders.fits(value, given)
            for (name, value), (other, given) in zip(was, now, strict=True)
        ):
            return f"it was recorded with another query: {recorded.target.partition('?')[2][:200] or 'none'}"
        if not likeness.body or recorded.request_body == asked.body:
            return ""
        try:
            old, new = json_paths.decode(recorded.request_body), json_paths.decode(asked.body)
        except ValueError:
            texts = [body.decode("utf-8", "replace") for body in (recorded.request_body, asked.body)]
            return "" if self._placeholders.fits(*texts) else "it was recorded with another body"
        difference = json_difference(old, new, likeness.ignore, self._placeholders.fits)
        return f"it was recorded with another body: {difference}" if difference else ""


def _path(target: str) -> str:
    return target.partition("?")[0]


def _parameters(target: str, likeness: Likeness) -> list[tuple[str, str]]:
    pairs = parse_qsl(target.partition("?")[2], keep_blank_values=True, errors="replace")
    return sorted((name, value) for name, value in pairs if name not in likeness.query)
