"""Redaction of bodies: the rules for form fields and JSON paths, the regular expressions, then the detectors.

One scan of the body says what is in it: a detector's hint, a key that a JSON path needs, an escape. A body in which it
finds nothing is sent as it is; all else costs more. What cannot be parsed is replaced as a whole where a rule was meant
for it: broken JSON, JSON that was cut at the capture limit, text with NULs in it (UTF-16 without a charset).
"""

import re
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct

from sp_proxy.core.memo import Memo
from sp_proxy.core.redact import json_paths
from sp_proxy.core.redact.action import Action, splice
from sp_proxy.core.redact.config import RuleConfig
from sp_proxy.core.redact.detectors import Detectors
from sp_proxy.core.redact.engine import Engine, Find
from sp_proxy.core.redact.json_paths import Path, Place
from sp_proxy.core.redact.multipart import redact_multipart
from sp_proxy.core.redact.names import Names
from sp_proxy.core.redact.pairs import fully_unquoted, redact_decoded, redact_form

_NUL: Final = 0
_ESCAPE: Final = 1
_FIRST_HINT: Final = 2
_HIDDEN: Final = (r"\x00", r"\\u00[0-7]")
"""Patterns of what may hide a key or a secret: NULs, and escapes of ASCII in JSON."""
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.:$@ -]+")
"""Keys that JSON has as they are, but for needless escapes."""
_NEEDLESS_ESCAPE: Final = re.compile(rb"\\u00(3[0-9]|4[0-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a]|2[bde])", re.IGNORECASE)
"""Of digits, letters, and what else stands in tokens and addresses."""
_KEY: Final = re.compile(rb'"[ \t\n\r]*:')
"""The end of a key in JSON. Within texts there may be more of these, so there are never fewer than keys."""
_READ_OTHERWISE: Final = (r"\\[ubf]|[0-9.]{14}[eE]|[eE][+-]?[0-9]{14}", r"(?i)bearer|secret|x-amz-")
"""Patterns of JSON in whose texts there may be what a search of it as a whole does not find: escapes that stand for digits or end
with a hexadecimal one, numbers with exponents; and secrets that are told by a word, which may stand in a key.
"""
_MAX_CONTENT_TYPE: Final = 256


class _Format(Struct, frozen=True):
    """How a body is to be read, by its content type."""

    form: bool = False
    multipart: bool = False
    json: bool = False
    lines: bool = False
    """One JSON document a line."""


class _JsonRule(Struct, frozen=True):
    path: Path
    action: Action
    hint: int
    """Index in the scan of the key that the path needs; -1 when it needs none."""


class _WholeError(Exception):
    """The body can only be redacted as a whole, with this action."""

    def __init__(self, action: Action) -> None:
        super().__init__()
        self.action = action


class Bodies:
    """Redacts bodies. ``rules`` with their actions, in the order in which they decide."""

    def __init__(
        self, engine: Engine, rules: list[tuple[RuleConfig, Action]], detectors: Detectors, replace: Action
    ) -> None:
        """Raises ValueError for a pattern or path that is none. ``replace`` is for what no rule asked for."""
        self._detectors = detectors
        self._replace = replace
        self._form = Names(engine, [(name, action) for rule, action in rules for name in rule.form])
        self._form_action = next((action for rule, action in rules if rule.form), replace)
        self._text: list[tuple[Find, Action]] = [
            (engine.finder(pattern), action) for rule, action in rules for pattern in rule.text
        ]
        patterns = [*_HIDDEN, *detectors.hints]
        self._after_hints = len(patterns)
        self._json: list[_JsonRule] = []
        for rule, action in rules:
            for text in rule.json_paths:
                path = json_paths.parse(text)
                needed = json_paths.needed_key(path)
                self._json.append(_JsonRule(path, action, len(patterns) if needed else -1))
                if needed:
                    # As JSON has it, but for escapes, which are looked for by themselves.
                    patterns.append(engine.literal(needed) if _PLAIN_KEY.fullmatch(needed) else '"')
        self._unconditional = bool(self._text) or any(rule.hint < 0 for rule in self._json)
        self._idle = not (detectors or self._form or self._text or self._json)
        self._scan = engine.scanner(patterns)
        self._read_otherwise = engine.scanner(_READ_OTHERWISE)
        self._formats: Memo[bytes, _Format] = Memo(512, 2 * _MAX_CONTENT_TYPE)

    def redact(self, data: bytes, content_type: bytes, *, is_text: bool, complete: bool) -> bytes | None:
        """What may be sent of a body, as it was given: UTF-8 text, or bytes. None: nothing of it.

        ``complete`` is False when there was more of it, or it broke off.
        """
        if self._idle:
            return data
        content_type = content_type[:_MAX_CONTENT_TYPE]
        form = self._formats.get(content_type) or self._format(content_type)
        hits = self._scan(data)
        if not hits and complete and not self._unconditional and not form.form and not form.multipart:
            return data
        try:
            return self._redact(data, content_type, form, frozenset(hits or ()), is_text=is_text, complete=complete)
        except _WholeError as whole:
            return self.whole(data, whole.action)

    def whole(self, data: bytes, action: Action | None = None) -> bytes | None:
        """What may be sent of a body that cannot be read."""
        action = action or self._replace
        return None if action.drops else action.substitute(data)

    @property
    def action_unreadable(self) -> Action | None:
        """The action for a body which nobody could read; None when nothing was meant for bodies at all."""
        if self._json:
            return self._json[0].action
        if self._form:
            return self._form_action
        if self._text:
            return self._text[0][1]
        return self._replace if self._detectors else None

    def _format(self, content_type: bytes) -> _Format:
        essence = content_type.lower().partition(b";")[0].strip()
        lines = essence in {
            b"application/x-ndjson",
            b"application/ndjson",
            b"application/jsonl",
            b"application/x-jsonlines",
        }
        found = _Format(
            form=essence == b"application/x-www-form-urlencoded",
            multipart=essence == b"multipart/form-data",
            # application/grpc+json is length-prefixed frames, which are binary.
            json=lines or (b"json" in essence and not essence.startswith(b"application/grpc")),
            lines=lines,
        )
        return self._formats.keep(content_type, found, len(content_type))

    def _redact(
        self, data: bytes, content_type: bytes, form: _Format, hits: frozenset[int], *, is_text: bool, complete: bool
    ) -> bytes | None:
        readable = is_text or form.multipart or form.json or _is_text(data)
        if _NUL in hits and (is_text or data.count(0) * 3 >= len(data)):
            self._refuse_hidden(data, is_text=is_text)
        if form.form or form.multipart:
            changed, dropping = self._redact_form(data, content_type, form)
            if dropping is not None:
                return None
            if changed is not data:
                data = changed
                hits = frozenset(self._scan(data) or ())
        if form.json or data[:64].lstrip()[:1] in {b"{", b"["}:
            data = self._redact_json(data, form, hits, readable=readable, complete=complete)
        else:
            if form.form and (b"%" in data or b"+" in data):
                hits |= frozenset(self._scan(fully_unquoted(data)) or ())
            if not complete or self._hinted(hits):
                data = self._detect(data, readable=readable, complete=complete, decode=form.form)
        if readable:
            for find, action in self._text:
                spans = find(data)
                if spans is None:
                    raise _WholeError(action)
                if spans:
                    if action.drops:
                        return None
                    data = splice(data, spans, action)
        return data

    def _hinted(self, hits: frozenset[int]) -> list[int]:
        """The detectors whose hints are among the hits of a scan."""
        return [hit - _FIRST_HINT for hit in hits if _FIRST_HINT <= hit < self._after_hints]

    def _refuse_hidden(self, data: bytes, *, is_text: bool) -> None:
        """Text with NULs between its letters (UTF-16, UTF-32) hides everything; it is sent only when nothing is in it without
        them. With many NULs, so is what nobody has called text.
        """
        if self._scan(data.replace(b"\0", b"")) or (is_text and (self._unconditional or self._form)):
            found = self._detectors.redact(data.replace(b"\0", b""))[1]
            raise _WholeError(found or self.action_unreadable or self._replace)

    def _redact_form(self, data: bytes, content_type: bytes, form: _Format) -> tuple[bytes, Action | None]:
        if not self._form:
            return data, None
        if form.form:
            return redact_form(data, self._form)
        try:
            return redact_multipart(data, content_type, self._form)
        except ValueError:
            raise _WholeError(self._form_action) from None

    def _detect(self, data: bytes, *, readable: bool, complete: bool, decode: bool) -> bytes:
        """The detectors' part of a body that has no structure, or whose structure is broken."""
        found: list[Action] = []

        def redact(text: bytes) -> bytes:
            text, action = self._detectors.redact(text)
            if action is not None:
                found.append(action)
            return text

        redacted = redact(data)
        if decode:
            redacted = redact_decoded(redacted, redact)
        if not complete and readable:
            redacted, action = self._detectors.redact_tail(redacted)
            if action is not None:
                found.append(action)
        for action in found:
            # A part of a binary message cannot be replaced: lengths stand in it.
            if action.drops or not readable:
                raise _WholeError(action)
        return redacted

    def _redact_json(
        self, data: bytes, form: _Format, hits: frozenset[int], *, readable: bool, complete: bool
    ) -> bytes:
        hidden = _ESCAPE in hits
        rules = [rule for rule in self._json if hidden or rule.hint < 0 or rule.hint in hits]
        hinted = self._hinted(hits)
        detected = bool(self._detectors) and (hidden or bool(hinted))
        if hinted and complete and not hidden and not self._read_otherwise(data):
            # Every hundredth document with UUIDs looks as if it had a card in it; looking at each of its texts takes a millisecond.
            detected = not self._detectors.refutes(data, hinted)
        if not rules and not detected and complete:
            return data
        documents = data.splitlines() if form.lines else [data]
        try:
            if not complete:
                raise ValueError("cut")
            made = [self._redact_document(each, rules, detected=detected) for each in documents]
        except ValueError:  # msgspec's and Unicode's errors as well
            if rules:
                raise _WholeError(rules[0].action) from None
            plain = _NEEDLESS_ESCAPE.sub(_character, data) if hidden else data
            redacted = self._detect(plain, readable=readable, complete=complete, decode=False)
            return data if redacted == plain else redacted
        return data if all(new is old for new, old in zip(made, documents, strict=True)) else b"\n".join(made)

    def _redact_document(self, text: bytes, rules: list[_JsonRule], *, detected: bool) -> bytes:
        if not text.strip():
            return text
        top = Place([json_paths.decode(text)], 0)
        done: dict[tuple[int, Any], Place] = {}
        for rule in rules:
            for place in json_paths.places(top, rule.path):
                if place.identity in done:
                    continue
                if rule.action.drops:
                    raise _WholeError(rule.action)
                done[place.identity] = place
                place.holder[place.key] = rule.action.substitute(_value_text(place.value)).decode()
        changed = bool(done)
        if detected:
            changed |= self._detect_in_document(top)
        # Of keys that stand twice only one was looked at: as it is, the text has the others too.
        changed = changed or len(_KEY.findall(text)) != json_paths.count_keys(top.value)
        return json_paths.encode(top.value) if changed else text

    def _detect_in_document(self, top: Place) -> bool:
        """Let the detectors look at each text and number of a document; whether anything was found.

        A text is looked at together with its key, which is what tells some secrets.
        """
        changed = False

        def redact(text: str, before: str = "") -> str:
            nonlocal changed
            raw = before.encode() + text.encode()
            redacted, action = self._detectors.redact(raw)
            if action is None:
                return text
            if action.drops:
                raise _WholeError(action)
            if not redacted.startswith(before.encode()):  # the key is a secret: it is looked at by itself
                return redact(text)
            changed = True
            return redacted.decode("utf-8", "replace")[len(before) :]

        waiting = [top.holder]
        while waiting:
            holder = waiting.pop()
            items = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
            for key, value in items:
                if isinstance(value, str):
                    holder[key] = redact(value, f"{key}: " if isinstance(key, str) else "")
                elif isinstance(value, int | Decimal) and not isinstance(value, bool):
                    text = str(value)
                    redacted = redact(text)
                    if redacted != text:
                        holder[key] = redacted
                elif isinstance(value, dict | list):
                    waiting.append(value)
            if isinstance(holder, dict):
                renamed = {redact(key): value for key, value in holder.items()}
                if renamed.keys() != holder.keys():
                    holder.clear()
                    holder.update(renamed)
        return changed


_CONTROL: Final = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def _character(escape: re.Match[bytes]) -> bytes:
    return bytes((int(escape[1], 16),))


def _is_text(data: bytes) -> bool:
    """Whether bytes without a telling content type can be changed in the middle."""
    if _CONTROL.search(data):
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data" and error.start >= len(data) - 3
    return True


def _value_text(value: Any) -> bytes:
    """What is hashed of a JSON value: a text without its quotes, so that it is equal to the same text elsewhere."""
    return value.encode() if isinstance(value, str) else json_paths.encode(value)
