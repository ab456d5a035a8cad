"""What the redactor is made of: plain data, as the settings project it (``settings/project.py``)."""

from typing import Final, Literal, get_args

from msgspec import Struct

ActionKind = Literal["replace", "hash", "drop"]
DetectorName = Literal["payment_card", "bearer_token", "jwt", "aws_key", "email"]

DETECTORS: Final[tuple[DetectorName, ...]] = get_args(DetectorName)
REPLACEMENT: Final = "[REDACTED]"


class RuleConfig(Struct, frozen=True):
    """One redaction rule: what it names, and what becomes of it. Names may have ``*`` in them, for any text."""

    headers: tuple[str, ...] = ()
    """Of header and trailer fields, in any case."""
    header_patterns: tuple[str, ...] = ()
    """Regular expressions searched in the lower-case name."""
    query: tuple[str, ...] = ()
    """Of parameters in URLs, in any case."""
    form: tuple[str, ...] = ()
    """Of form fields, in any case."""
    json_paths: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    """Regular expressions searched in text bodies; of one with a group, the first group is what is redacted."""
    action: ActionKind = "replace"
    replacement: str = REPLACEMENT


class RedactionConfig(Struct, frozen=True):
    """All of redaction."""

    rules: tuple[RuleConfig, ...] = ()
    detectors: dict[DetectorName, ActionKind] = {}
    replacement: str = REPLACEMENT
    """Of the detectors, and of what is removed for other reasons."""
    salt: bytes = b""
    """Key of the hashes."""
    keep_binary: bool = True
    """False: bodies that are not text are left out."""
    send_cookies: bool = False
    """Send ``cookie`` and ``set-cookie``, which are otherwise left out."""
