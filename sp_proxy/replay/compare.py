"""The recorded answer and the new one, compared by rules (pure).

JSON bodies are compared as values: by key, numbers as numbers, each difference named by its JSON path. Other text is compared
as text, other bytes as bytes. Time and memory stay in proportion to the bodies, whatever is in them; where arrays are compared in
any order, to a bounded multiple of that.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec import Struct

from sp_proxy.core.body import media_type
from sp_proxy.core.redact import json_paths
from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.recorded import Recorded, still_coded
from sp_proxy.replay.rules import Bounds, Rules

MAX_DIFFERENCES = 50
"""Of one exchange; the rest is a number."""
MAX_SHOWN = 200
"""Characters of a value."""
_MAX_UNPAIRED = 64
"""Elements of an unordered array that are tried against each other, when none of them is the same as another."""
_ABSENT = object()


class Answer(Struct, frozen=True):
    """What a request was answered with, its content coding undone where it is known."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool = True


class Difference(Struct, frozen=True):
    """One. ``place`` is ``status``, ``header NAME``, ``body``, or a JSON path in the body."""

    place: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, found {self.found}"


class Comparison(Struct, frozen=True):
    """The differences, how many more there are, and what could not be compared."""

    differences: tuple[Difference, ...]
    more: int = 0
    notes: tuple[str, ...] = ()


class Comparer:
    """Compares by the rules for an exchange; values that this run has another of (``carry.py``) and placeholders fit."""

    def __init__(
        self,
        rules: Rules,
        placeholders: Placeholders,
        carried: Callable[[str], str] = str,
        carried_paths: tuple[json_paths.Path, ...] = (),
        host: str = "",
    ) -> None:
        """``host`` is what the request named: a service that redirects to itself names it."""
        self._rules = rules
        self._placeholders = placeholders
        self._carried = carried
        self._carried_paths = carried_paths
        self._host = host
        self._found: list[Difference] = []
        self._more = 0

    def compare(self, recorded: Recorded, answer: Answer) -> Comparison:
        """Compare them."""
        self._found, self._more = [], 0
        notes = []
        if self._rules.status and recorded.status != answer.status:
            self._add("status", str(recorded.status), str(answer.status))
        was, now = dict(recorded.response_fields), dict(answer.fields)
        if self._host and "location" in was:
            own = re.compile(rf"(?i)^(https?:)?//{re.escape(recorded.host)}(?=[/?#]|$)")
            scheme = now.get("location", "").partition("//")[0]
            was["location"] = own.sub(lambda _: f"{scheme}//{self._host}", was["location"])
        for name in self._rules.headers:
            self._field(name, was.get(name), now.get(name))
        if self._rules.body and recorded.status == answer.status:  # another answer's body says no more
            if recorded.response_flaw or not answer.complete:
                notes.append(f"body not compared: {recorded.response_flaw or 'the new one is too long'}")
            elif still_coded(recorded.response_fields) != still_coded(answer.fields):
                notes.append("body not compared: one of them is in a content coding that is not known")
            else:
                self._bodies(recorded, answer, was.get("content-type", ""))
        return Comparison(tuple(self._found), self._more, tuple(notes))

    def _add(self, place: str, expected: str, found: str) -> None:
        if len(self._found) < MAX_DIFFERENCES:
            self._found.append(Difference(place[:MAX_SHOWN], expected, found))
        else:
            self._more += 1

    def _field(self, name: str, was: str | None, now: str | None) -> None:
        if was is None or now is None:
            if was is not now:
                self._add(f"header {name}", _shown(was), _shown(now))
        elif not self._fits(was, now) and not (
            # Its parameters' case and blanks say nothing.
            name == "content-type" and was.replace(" ", "").lower() == now.replace(" ", "").lower()
        ):
            self._add(f"header {name}", _shown(was), _shown(now))

    def _fits(self, was: str, now: str) -> bool:
        return was == now or self._placeholders.fits(self._carried(was), now)

    def _bodies(self, recorded: Recorded, answer: Answer, content_type: str) -> None:
        if recorded.response_body == answer.body:
            return
        media = media_type(content_type.encode())
        if "json" in content_type.lower() or recorded.response_body.lstrip()[:1] in {b"{", b"["}:
            try:
                was = json_paths.decode(recorded.response_body)
            except ValueError:
                pass  # compared as text
            else:
                try:
                    now = json_paths.decode(answer.body)
                except ValueError:
                    self._add("body", "JSON", _shown(answer.body.decode("utf-8", "replace")))
                else:
                    self._documents(was, now)
                return
        if media.is_text or not content_type:
            self._texts(
                *(body.decode(media.charset or "utf-8", "replace") for body in (recorded.response_body, answer.body))
            )
            return
        self._add("body", f"{len(recorded.response_body)} bytes", f"{len(answer.body)} other bytes")

    def _texts(self, was: str, now: str) -> None:
        if self._fits(was, now):
            return
        before, after = was.splitlines(), now.splitlines()
        for number in range(max(len(before), len(after))):
            old = before[number] if number < len(before) else None
            new = after[number] if number < len(after) else None
            if old is None or new is None or not self._fits(old, new):
                self._add(f"body, line {number + 1}", _shown(old), _shown(new))
                return

    # ---- JSON

    def _documents(self, was: Any, now: Any) -> None:
        tops = json_paths.Place([was], 0), json_paths.Place([now], 0)
        for path in self._rules.ignore:
            for top in tops:
                _take_away(json_paths.places(top, path))
        for path in self._carried_paths:
            pairs = zip(json_paths.places(tops[0], path), json_paths.places(tops[1], path), strict=False)
            for old, new in pairs:
                if type(old.value) is type(new.value):
                    old.holder[old.key] = new.value  # it is another one in each run; that there is one counts
        walk = _Walk(
            {place.identity for path in self._rules.unordered for place in _each(tops[0], path)},
            [(bounds, {place.identity for place in _each(tops[0], bounds.path)}) for bounds in self._rules.tolerance],
            self._fits,
        )
        for place, old, new in walk.differences(tops[0], tops[1]):
            self._add(place, _json(old), _json(new))


def json_difference(
    was: Any, now: Any, ignore: tuple[json_paths.Path, ...], fits: Callable[[str, str], bool]
) -> Difference | None:
    """The first difference of two documents, which are changed: what is ignored is taken away."""
    tops = json_paths.Place([was], 0), json_paths.Place([now], 0)
    for path in ignore:
        for top in tops:
            _take_away(json_paths.places(top, path))
    found = _Walk(set(), [], fits).differences(*tops)
    return Difference(found[0][0][:MAX_SHOWN], _json(found[0][1]), _json(found[0][2])) if found else None


def _each(top: json_paths.Place, path: json_paths.Path) -> list[json_paths.Place]:
    return json_paths.places(top, path) if path else []


def _take_away(places: list[json_paths.Place]) -> None:
    for place in places:
        if isinstance(place.holder, list):
            place.holder[place.key] = None  # the others keep their index
        else:
            place.holder.pop(place.key, None)


class _Walk:
    """Two documents side by side. Only containers and numbers of the recorded one are looked up by their place."""

    def __init__(
        self,
        unordered: set[tuple[int, Any]],
        tolerance: list[tuple[Bounds, set[tuple[int, Any]]]],
        fits: Callable[[str, str], bool],
    ) -> None:
        self._unordered = unordered
        self._tolerance = tolerance
        self._fits = fits

    def differences(self, was: json_paths.Place, now: json_paths.Place) -> list[tuple[str, Any, Any]]:
        """Path and both values of each, in the order of the document."""
        found: list[tuple[str, Any, Any]] = []
        waiting: list[tuple[str, json_paths.Place | None, json_paths.Place | None]] = [("$", was, now)]
        while waiting:
            path, one, other = waiting.pop()
            if one is None or other is None:
                found.append((path, _ABSENT if one is None else one.value, _ABSENT if other is None else other.value))
                continue
            old, new = one.value, other.value
            if isinstance(old, dict) and isinstance(new, dict):
                keys = [*old, *(key for key in new if key not in old)]
                waiting += reversed(
                    [(_step(path, key), _place(old, key), _place(new, key)) for key in keys]  # a stack
                )
            elif isinstance(old, list) and isinstance(new, list):
                pairs = self._paired(old, new) if one.identity in self._unordered else _by_index(old, new)
                waiting += reversed([(f"{path}[{index}]", left, right) for index, left, right in pairs])
            elif not self._same(one, new):
                found.append((path, old, new))
        return found

    def _same(self, one: json_paths.Place, new: Any) -> bool:
        old = one.value
        if isinstance(old, str) and isinstance(new, str):
            return self._fits(old, new)
        if _is_number(old) and _is_number(new):
            return bool(old == new) or any(
                _near(old, new, bounds)
                for bounds, places in self._tolerance
                if not bounds.path or one.identity in places
            )
        return type(old) is type(new) and bool(old == new)

    def _paired(
        self, old: list[Any], new: list[Any]
    ) -> list[tuple[int, json_paths.Place | None, json_paths.Place | None]]:
        """Elements that belong together whatever their order, by index of the recorded array."""
        left = list(range(len(new)))
        by_text: dict[bytes, list[int]] = {}
        for index in reversed(left):
            by_text.setdefault(json_paths.encode(new[index]), []).append(index)
        taken: set[int] = set()
        unpaired = []
        for index, value in enumerate(old):
            same = by_text.get(json_paths.encode(value))
            if same:
                taken.add(same.pop())
            else:
                unpaired.append(index)
        left = [index for index in left if index not in taken]
        pairs: list[tuple[int, json_paths.Place | None, json_paths.Place | None]] = []
        if len(unpaired) <= _MAX_UNPAIRED and len(left) <= _MAX_UNPAIRED:
            rest = []
            for index in unpaired:
                one = json_paths.Place(old, index)
                match = next((each for each in left if not self.differences(one, json_paths.Place(new, each))), None)
                if match is None:
                    rest.append(index)
                else:
                    left.remove(match)
            unpaired = rest
        for number in range(max(len(unpaired), len(left))):
            one_place = json_paths.Place(old, unpaired[number]) if number < len(unpaired) else None
            other = json_paths.Place(new, left[number]) if number < len(left) else None
            pairs.append((unpaired[number] if one_place is not None else left[number], one_place, other))
        return pairs


def _by_index(old: list[Any], new: list[Any]) -> list[tuple[int, json_paths.Place | None, json_paths.Place | None]]:
    return [
        (
            index,
            json_paths.Place(old, index) if index < len(old) else None,
            json_paths.Place(new, index) if index < len(new) else None,
        )
        for index in range(max(len(old), len(new)))
    ]


def _place(holder: dict[str, Any], key: str) -> json_paths.Place | None:
    return json_paths.Place(holder, key) if key in holder else None


def _step(path: str, key: str) -> str:
    plain = key.isascii() and key.replace("_", "a").isalnum()
    return f"{path}.{key}" if plain else f"{path}['{key}']"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _near(old: Any, new: Any, bounds: Bounds) -> bool:
    if Decimal(old).adjusted() > 300 or Decimal(new).adjusted() > 300:
        return False  # beyond what a float can say
    one, other = float(old), float(new)
    apart = abs(one - other)
    return apart <= bounds.absolute or apart <= bounds.relative * max(abs(one), abs(other))


def _json(value: Any) -> str:
    return "nothing" if value is _ABSENT else _cut(json_paths.encode(value).decode("utf-8", "replace"))


def _shown(text: str | None) -> str:
    return "nothing" if text is None else repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
