"""Detectors: what a secret looks like wherever it stands.

All of them look at a text in one pass of an automaton (``Detectors.scan``); only a hit costs more: the searches
of that detector, and of those whose hint is narrow. A text which was cut at the capture limit may end with the beginning of a
secret, of which less is needed there (``tails``).

They are made for few false alarms in ids, times and decimals: a card number has a known issuer's first digits and
length, and the right check digit (ISO/IEC 7812-1, Luhn).
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct

from sp_proxy.core.redact.action import Action, splice
from sp_proxy.core.redact.config import DetectorName
from sp_proxy.core.redact.engine import Engine, Find, Scan, Span

_ISSUERS: Final = (
    # First digits, lengths. Visa's old 13 digits are left out: EAN-13 article numbers look the same.
    (r"4", {16, 19}),
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", {16}),  # Mastercard
    (r"3[47]", {15}),  # American Express
    (r"6", {16, 17, 18, 19}),  # Discover, UnionPay, Maestro, RuPay
    (r"35(?:2[89]|[3-8])", {16, 17, 18, 19}),  # JCB
    (r"30[0-5]|3095|3[689]", {14, 15, 16, 17, 18, 19}),  # Diners Club
    (r"220[0-4]", {16, 17, 18, 19}),  # Mir
    (r"50(?:18|20|38)|5[678]", {16, 17, 18, 19}),  # Maestro
)
_CARD: Final = tuple((re.compile(digits.encode()), lengths) for digits, lengths in _ISSUERS)
_GROUP: Final = re.compile(rb"[0-9]+")
_MIN_DIGITS: Final = 14
_MAX_DIGITS: Final = 19
_ID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24,}", re.IGNORECASE)
"""UUIDs, and other hexadecimal ids of 24 digits or more, whatever decimal digits are in them."""
_MAX_ID: Final = 128


def has_check_digit(digits: bytes) -> bool:
    """Luhn's formula (ISO/IEC 7812-1, annex B)."""
    total = 0
    for index, byte in enumerate(reversed(digits)):
        digit = byte - 48
        if index % 2:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return total % 10 == 0


def is_card_number(digits: bytes) -> bool:
    """Whether an issuer has numbers like this one."""
    length = len(digits)
    return any(length in lengths and prefix.match(digits) for prefix, lengths in _CARD) and has_check_digit(digits)


def card_numbers(text: bytes, start: int, end: int) -> list[Span]:
    """Card numbers in a run of digits in groups; the run may hold other numbers before and after."""
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    spans: list[Span] = []
    first = 0
    while first < len(groups):
        digits = b""
        for last in range(first, len(groups)):
            digits += text[slice(*groups[last])]
            if len(digits) > _MAX_DIGITS:
                break
            span = groups[first][0], groups[last][1]
            if len(digits) >= _MIN_DIGITS and is_card_number(digits) and not _is_part_of_id(text, span):
                spans.append(span)
                first = last
                break
        first += 1
    return spans


def _is_part_of_id(text: bytes, span: Span) -> bool:
    start, end = span
    return any(
        match.start() <= start and end <= match.end() and not match[0].isdigit()
        for match in _ID.finditer(text, max(0, start - _MAX_ID), end + _MAX_ID)
    )


class Kind(Struct, frozen=True):
    """How one kind of secret is found. Patterns are for bytes, one character each."""

    hint: str
    """Matches every text in which something is found, and few others; unless it is ``narrow``."""
    patterns: tuple[str, ...]
    """Their first group, or all of a match, is the secret."""
    tails: tuple[str, ...]
    """Likewise, in a text that was cut: the beginning of a secret at its end."""
    verify: Callable[[bytes, int, int], list[Span]] | None = None
    """Says what in a match is a secret; None: all of it."""
    narrow: bool = False
    """The patterns find more than the hint says: they are searched for in every part of what any hint has matched."""
    normal: bytes = b""
    """Bytes that do not belong to the value: without them, equal values are equal however they are written."""


_NO_FRACTION: Final = r"(?:^|[^0-9.]|[^0-9]\.|^\.)"
"""What may stand before a number that is not the decimals of a fraction: bodies are full of these."""
_TOKEN: Final = r"[A-Za-z0-9._~+/-]"  # noqa: S105 (a part of a pattern)
_BEARER: Final = r"(?i)bearer[ \t+:]+"
_SECRET_KEY: Final = r"(?i)secret[_-]?(?:access)?[_-]?key[^A-Za-z0-9/+]{1,8}"  # noqa: S105 (likewise)
_SIGNED: Final = r"(?i)x-amz-(?:signature|security-token)[^A-Za-z0-9/+%]{1,8}"
_LOCAL: Final = r"""[^\x00-\x20"'<>()\[\]{},:;@\\=&?/|]"""

KINDS: Final[Mapping[DetectorName, Kind]] = {
    "payment_card": Kind(
        # Without groups, or in those in which people write and cards have them: others would find every UUID.
        hint=_NO_FRACTION
        + r"[2-6](?:[0-9]{13}|[0-9]{3}[ -](?:[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{2}|[0-9]{6}[ -]?[0-9]{4})"
        r"|[0-9]{5}[ -][0-9]{8}|[0-9]{7}[ -][0-9]{6})",
        patterns=(_NO_FRACTION + r"([2-6][0-9](?:[ -]?[0-9]){12,})",),
        tails=(_NO_FRACTION + r"([2-6][0-9](?:[ -]?[0-9]){4,17}[ -]?)\z",),
        verify=card_numbers,
        narrow=True,
        normal=b" -",
    ),
    "jwt": Kind(  # RFC 7519; base64url of `{"` or `{ ` begins a header
        hint=r"ey[JA][A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]",
        patterns=(r"ey[JA][A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)(?:\.[A-Za-z0-9_-]*){0,3}",),
        tails=(r"ey[JA][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*){0,4}\z",),
    ),
    "bearer_token": Kind(  # RFC 6750 section 2.1
        hint=_BEARER + _TOKEN + r"{8}",
        patterns=(_BEARER + "(" + _TOKEN + "{8,}=*)",),
        tails=(_BEARER + "(" + _TOKEN + r"+=*)\z",),
    ),
    "aws_key": Kind(
        hint=rf"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{{16}}|{_SECRET_KEY}(?:[A-Za-z0-9+=]|\\?/){{40}}"
        rf"|{_SIGNED}(?:[A-Za-z0-9+=%-]|\\?/){{8}}",
        patterns=(
            r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16,}",
            _SECRET_KEY + r"((?:[A-Za-z0-9+=]|\\?/){40,})",
            _SIGNED + r"((?:[A-Za-z0-9+=%-]|\\?/){8,})",
        ),
        tails=(
            r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]*\z",
            _SECRET_KEY + r"((?:[A-Za-z0-9+=]|\\?/)+\\?)\z",
            _SIGNED + r"((?:[A-Za-z0-9+=%-]|\\?/)+\\?)\z",
        ),
    ),
    "email": Kind(
        hint=_LOCAL + r"@[A-Za-z0-9\x80-\xff]",
        patterns=(_LOCAL + r"+@[A-Za-z0-9\x80-\xff][A-Za-z0-9\x80-\xff-]*(?:\.[A-Za-z0-9\x80-\xff-]+)*",),
        tails=(_LOCAL + r"+@[A-Za-z0-9\x80-\xff.-]*\z",),
    ),
}


SAMPLES: Final[Mapping[DetectorName, bytes]] = {
    "payment_card": b"4111 1111 1111 1111",
    "jwt": b"eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.x",
    "bearer_token": b"Bearer abcdef123456",
    "aws_key": b"AKIAIOSFODNN7EXAMPLE",
    "email": b"jane@example.com",
}
"""What each must find, or it is broken."""


class _Detector(Struct, frozen=True):
    action: Action
    finders: tuple[Find, ...]
    tails: tuple[Find, ...]
    verify: Callable[[bytes, int, int], list[Span]] | None
    narrow: bool
    normal: bytes

    def spans(self, find: Find, text: bytes) -> list[Span]:
        found = find(text)
        if found is None:
            raise ValueError("too many matches")
        if self.verify is None:
            return found
        return [span for start, end in found for span in self.verify(text, start, end)]


def _finds_nothing(_: bytes) -> None:
    """When no detector is on."""


class Detectors:
    """Those that are on."""

    def __init__(self, engine: Engine, actions: Mapping[DetectorName, Action]) -> None:
        self.hints = [KINDS[name].hint for name in actions]
        """Patterns of which one matches every text in which something will be found."""
        self._detectors = [
            _Detector(
                action,
                tuple(engine.finder(pattern, latin_1=True) for pattern in kind.patterns),
                tuple(engine.finder(tail, latin_1=True) for tail in kind.tails),
                kind.verify,
                kind.narrow,
                kind.normal,
            )
            for name, action in actions.items()
            for kind in [KINDS[name]]
        ]
        self.scan: Scan = engine.scanner(self.hints) if self.hints else _finds_nothing
        """Which hints a text matches, by index."""

    def __bool__(self) -> bool:
        return bool(self._detectors)

    def redact(self, text: bytes) -> tuple[bytes, Action | None]:
        """The text without secrets, and the action of the first that was found; None when nothing was. It is a part, or all, of what a
        hint has matched.

        An action that drops is for the caller to take; its secrets are replaced meanwhile.
        """
        hits = self.scan(text) or ()
        hinted = [each for index, each in enumerate(self._detectors) if index in hits or each.narrow]
        return self._redact(text, hinted, lambda detector: detector.finders, verified=True)

    def refutes(self, text: bytes, hits: Collection[int]) -> bool:
        """Whether one search of a text that the hints ``hits`` matched shows that nothing is in it, nor in any part of it that
        stands in it byte by byte. Only those whose patterns find all that their hints match can be refuted: narrow ones.
        """
        hinted = [self._detectors[index] for index in hits]
        try:
            return all(each.narrow and not any(each.spans(find, text) for find in each.finders) for each in hinted)
        except ValueError:  # too many matches for one search
            return False

    def redact_tail(self, text: bytes) -> tuple[bytes, Action | None]:
        """Likewise, the beginning of a secret at the end of a text that was cut. Take the whole ones away first."""
        return self._redact(text, self._detectors, lambda detector: detector.tails, verified=False)

    def _redact(
        self,
        text: bytes,
        detectors: Sequence[_Detector],
        finders: Callable[[_Detector], tuple[Find, ...]],
        *,
        verified: bool,
    ) -> tuple[bytes, Action | None]:
        first: Action | None = None
        for detector in detectors:
            for find in finders(detector):
                spans = detector.spans(find, text) if verified else find(text)
                if spans:
                    text = splice(text, spans, detector.action, detector.normal)
                    if first is None or (detector.action.drops and not first.drops):
                        first = detector.action
        return text, first
