r"""Header and trailer fields as span attributes: ``http.request.header.NAME`` and the like (contract section 4).

Most lines of a head are the same bytes in every request, so a whole laid attribute is remembered by its whole line,
``b"Accept: */*"``; a hit makes no object at all. Lower-case names, repeated fields joined with ``, ``; what redaction
leaves out is remembered as leaving nothing.
"""

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct

from sp_proxy.core.memo import Memo
from sp_proxy.core.otlp import key, string_attribute, text, utf8
from sp_proxy.core.redaction import Redaction

Field = tuple[bytes, bytes, bytes]
"""Lower-case name, laid attributes (empty when not sent), value as received; both texts in UTF-8. A plain tuple, the
one exception to structs here: it is looked at 20 times a record.
"""

_NOTHING: Final[Field] = (b"", b"", b"")
_NAME: Final = 0
_LAID: Final = 1

MAX_VALUES: Final = 256
"""Lines of one name that are remembered. A name with more is one whose values do not repeat (``traceparent``), and
remembering those would only push out what does.
"""


class _Name(Struct):
    """What is known of a field name."""

    name: bytes
    text: str
    keys: tuple[bytes, ...]
    """Laid keys of the attributes that carry its value."""
    plain: bytes = b""
    """The only one of these, when a clean value without an URL in it may be sent as it is."""
    remembered: int = 0


class FieldEncoder:
    """Fields of one kind. ``also`` names further attributes that repeat a field's value (``user_agent.original``);
    fields named in ``not_repeated`` have their attribute elsewhere.
    """

    def __init__(
        self,
        prefix: str,
        redaction: Redaction,
        *,
        also: Mapping[bytes, str] | None = None,
        not_repeated: Collection[bytes] = (),
    ) -> None:
        self._prefix = prefix.encode()
        self._redaction = redaction
        self._clean = False
        self._also = {name: key(attribute.encode()) for name, attribute in (also or {}).items()}
        self._not_repeated = frozenset(not_repeated)
        self._lines: Memo[bytes, Field] = Memo(4096, 1024)
        self._names: Memo[bytes, _Name] = Memo(1024, 512)

    def encode(self, block: bytes, pieces: list[bytes], *, clean: bool = False) -> dict[bytes, Field]:
        r"""Lay the attributes of a field block (``b"Name: value\r\n"`` lines) and add them to ``pieces``.

        ``clean`` as ``Redaction.is_clean`` says. Returns the fields by name. Lines without a colon or a name say nothing and are left out.
        """
        self._clean = clean
        known = self._lines.get
        fields = [known(line) or self._field(line) for line in block.split(b"\r\n")]
        by_name = {field[_NAME]: field for field in fields}
        if len(by_name) != len(fields):
            values: dict[bytes, list[bytes]] = {}
            for name, _, value in fields:
                values.setdefault(name, []).append(value)
            for name, several in values.items():
                if name and len(several) > 1:
                    by_name[name] = (name, self._lay(self._name(name), several), b", ".join(several))
        pieces += [field[_LAID] for field in by_name.values()]
        return by_name

    def _field(self, line: bytes) -> Field:
        raw_name, colon, value = line.partition(b":")
        if not colon:
            return self._lines.keep(line, _NOTHING, len(line))
        known = self._names.get(raw_name) or self._name(raw_name)
        if not known.name:
            return _NOTHING
        value = utf8(value.strip(b" \t"))
        if self._clean and known.plain and b"://" not in value:
            laid = string_attribute(known.plain, value)
        else:
            laid = self._lay(known, [value])
        field = (known.name, laid, value)
        if known.remembered < MAX_VALUES:
            known.remembered += 1
            if len(self._lines) >= self._lines.max_entries:
                self._names.clear()  # the lines go as well: each name begins anew
            self._lines.keep(line, field, len(line) + len(laid) + len(value))
        return field

    def _name(self, raw_name: bytes) -> _Name:
        name = utf8(raw_name.strip(b" \t").lower())
        keys: tuple[bytes, ...] = ()
        if name not in self._not_repeated:
            keys = (key(self._prefix + name),)
            if name in self._also:
                keys += (self._also[name],)
        readable = name.decode()
        plain = keys[0] if len(keys) == 1 and self._redaction.is_plain(readable) else b""
        return self._names.keep(raw_name, _Name(name, readable, keys, plain), 2 * len(raw_name) + len(name))

    def _lay(self, known: _Name, values: list[bytes]) -> bytes:
        """The attributes of one field, from the values of its lines; none when it is not sent, or has its attribute
        elsewhere. Each line is redacted by itself: what a value means is lost in a joined one.
        """
        sent = []
        for value in values:
            received = value.decode()
            redacted = self._redaction.header(known.text, received, clean=self._clean)
            if redacted is not None:
                sent.append(value if redacted is received else text(redacted))
        if not sent:
            return b""
        joined = b", ".join(sent)
        laid = b""
        for laid_key in known.keys:
            laid += string_attribute(laid_key, joined)
        return laid
