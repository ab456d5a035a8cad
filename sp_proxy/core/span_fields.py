r"""Header and trailer fields as span attributes: ``http.request.header.NAME`` and the like (contract section 4).

Most lines of a head are the same bytes in every request, so a whole laid attribute is remembered by its whole line,
``b"Accept: */*"``; a hit makes no object at all. Lower-case names, repeated fields joined with ``, ``; what redaction
leaves out is remembered as leaving nothing.
"""

from collections.abc import Collection, Mapping
from typing import Final

from sp_proxy.core.memo import Memo
from sp_proxy.core.otlp import key, string_attribute, text, utf8
from sp_proxy.core.redaction import RedactHeader

Field = tuple[bytes, bytes, bytes]
"""Lower-case name, laid attributes (empty when not sent), value as received; both texts in UTF-8. A plain tuple, the
one exception to structs here: it is looked at 20 times a record.
"""

_NAME: Final = 0
_LAID: Final = 1
_VALUE: Final = 2


class FieldEncoder:
    """Fields of one kind. ``also`` names further attributes that repeat a field's value (``user_agent.original``);
    fields named in ``not_repeated`` have their attribute elsewhere.
    """

    def __init__(
        self,
        prefix: str,
        redact: RedactHeader,
        *,
        also: Mapping[bytes, str] | None = None,
        not_repeated: Collection[bytes] = (),
    ) -> None:
        self._prefix = prefix.encode()
        self._redact = redact
        self._also = {name: key(attribute.encode()) for name, attribute in (also or {}).items()}
        self._not_repeated = frozenset(not_repeated)
        self._lines: Memo[bytes, Field] = Memo(4096, 1024)
        self._keys: Memo[bytes, bytes] = Memo(1024, 256)

    def encode(self, block: bytes, pieces: list[bytes]) -> dict[bytes, Field]:
        r"""Lay the attributes of a field block (``b"Name: value\r\n"`` lines) and add them to ``pieces``.

        Returns the fields by name. Lines without a colon or a name say nothing and are left out.
        """
        known = self._lines.get
        fields = [known(line) or self._field(line) for line in block.split(b"\r\n")]
        by_name = {field[_NAME]: field for field in fields}
        if len(by_name) != len(fields):
            values: dict[bytes, list[bytes]] = {}
            for name, _, value in fields:
                values.setdefault(name, []).append(value)
            for name, several in values.items():
                if name and len(several) > 1:
                    by_name[name] = (name, *self._lay(name, b", ".join(several)))
        pieces += [field[_LAID] for field in by_name.values()]
        return by_name

    def _field(self, line: bytes) -> Field:
        name, colon, value = line.partition(b":")
        name = utf8(name.strip(b" \t").lower())
        if not colon or not name:
            return (b"", b"", b"")
        laid, value = self._lay(name, utf8(value.strip(b" \t")))
        return self._lines.keep(line, (name, laid, value), len(line) + len(laid) + len(value))

    def _lay(self, name: bytes, value: bytes) -> tuple[bytes, bytes]:
        """The attributes of one field, and its value."""
        if name in self._not_repeated:
            return b"", value
        sent = self._redact(name.decode(), value.decode())
        if sent is None:
            return b"", value
        sent_value = text(sent)
        laid_key = self._keys.get(name)
        if laid_key is None:
            laid_key = self._keys.keep(name, key(self._prefix + name), 2 * len(name))
        laid = string_attribute(laid_key, sent_value)
        if name in self._also:
            laid += string_attribute(self._also[name], sent_value)
        return laid, value
