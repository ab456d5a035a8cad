"""Tags that addons gave an exchange, as attributes ``sp.tag.NAME``.

Names and values may have been made of what was captured, so both are redacted: a value like a header field of the tag's name,
and a tag whose name a detector finds something in is left out.
"""

from collections.abc import Collection, Iterable

from sp_proxy.core.otlp import key, string_attribute, text
from sp_proxy.core.redaction import Redaction

PREFIX = "sp.tag."


def encode(tags: Iterable[tuple[str, str]], redaction: Redaction, taken: Collection[str]) -> bytes:
    """Lay the attributes, but for the names that are ``taken`` by the settings."""
    laid = b""
    for name, value in dict(tags).items():
        if name in taken or not redaction.is_clean(name.encode()):
            continue
        sent = redaction.header(name.lower(), text(value).decode())
        if sent is not None:
            laid += string_attribute(key(text(PREFIX + name)), text(sent))
    return laid
