"""HPACK (RFC 7541) for an observer: decodes header blocks, and encodes fields so that no dynamic table changes.

Written here because the price counts on the path of every request: the ``hpack`` package takes most of an HTTP/2 tap's time
(see ``docs/performance.md``), and it has no way to keep what an intermediary must keep: never-indexed marks (section 7.1.3) and
table size updates (section 6.3). Memory is bounded: table, decoded list and memos.
"""

from msgspec import Struct

from sp_proxy.taps.hpack_tables import HUFFMAN_LENGTHS, STATIC_TABLE

Field = tuple[bytes, bytes]

MAX_TABLE_BYTES = 1 << 20
"""Largest dynamic table followed (section 4.1). Encoders use 4,096 unless both ends agreed on more; 64 KiB is a common maximum."""
MAX_LIST_BYTES = 1 << 20
"""Largest decoded list, counted as in section 4.1: a small block may name a large table entry thousands of times."""
ENTRY_OVERHEAD = 32
"""What each field counts beyond its name and value, in tables and in lists."""
_MEMO_ENTRIES = 64
_MEMO_BLOCK_BYTES = 1024
_MEMO_LIST_BYTES = 2048
"""Of the header list of a block that is known to all connections, as in section 4.1."""
_INDEPENDENT_MEMO_ENTRIES = 512
"""With lists of that size 4.5 MB for a process."""
_HUFFMAN_MEMO_ENTRIES = 2048
_ENCODED_MEMO_ENTRIES = 2048
_STATIC_COUNT = len(STATIC_TABLE)


class HpackError(Exception):
    """The block cannot be decoded; from here on the table is unknown. Carries a reason in one snake_case word."""


class Block(Struct, frozen=True):
    """A decoded header block. Shared between equal blocks: never change its list."""

    fields: list[Field]
    sensitive: frozenset[int]
    """Positions of the fields that came as never indexed."""
    updates: bytes
    """The dynamic table size updates with which the block began, encoded."""
    size: int
    """Of the header list (RFC 9113 section 6.5.2)."""


class _Independent(Struct, frozen=True):
    """What a block means that refers to nothing in the dynamic table, and does to it, on whichever connection it comes.

    nginx for one adds all fields of all its responses to the table anew, and never refers to them.
    """

    block: Block
    added: tuple[Field, ...]
    added_size: int
    """More than the table holds: then it has to be decoded again, as some of it is gone before the rest comes."""


# ---- Huffman code


def _codes() -> dict[tuple[int, int], int]:
    """Symbol by (length, code)."""
    codes = {}
    code = previous = 0
    for symbol in sorted(range(257), key=lambda each: (HUFFMAN_LENGTHS[each], each)):
        length = HUFFMAN_LENGTHS[symbol]
        code <<= length - previous
        codes[length, code] = symbol
        code += 1
        previous = length
    return codes


_SYMBOLS = _codes()
_EOS = 256
_State = tuple[int, int]  # bits of an unfinished code: how many, and which
_START: _State = (0, 0)
_steps: dict[
    tuple[_State, int], tuple[_State, bytes]
] = {}  # filled on demand; 256 unfinished codes times 256 bytes at most
_decoded: dict[bytes, bytes] = {}


def _step(state: _State, byte: int) -> tuple[_State, bytes]:
    length, code = state
    out = bytearray()
    for shift in range(7, -1, -1):
        length, code = length + 1, code << 1 | byte >> shift & 1
        symbol = _SYMBOLS.get((length, code))
        if symbol is not None:
            if symbol == _EOS:
                raise HpackError("huffman_eos")
            out.append(symbol)
            length = code = 0
    return (length, code), bytes(out)


def huffman_decode(data: bytes) -> bytes:
    """Section 5.2. Raises HpackError for EOS, or padding that is longer than 7 bits or not all ones."""
    known = _decoded.get(data)
    if known is not None:
        return known
    state = _START
    pieces = []
    for byte in data:
        step = _steps.get((state, byte))
        if step is None:
            step = _steps[state, byte] = _step(state, byte)
        state, piece = step
        pieces.append(piece)
    length, code = state
    if length > 7 or code != (1 << length) - 1:
        raise HpackError("huffman_padding")
    text = b"".join(pieces)
    if len(_decoded) >= _HUFFMAN_MEMO_ENTRIES:
        _decoded.clear()
    if len(data) <= 256:
        _decoded[data] = text
    return text


# ---- decoding

_NONE: frozenset[int] = frozenset()
_independent: dict[bytes, _Independent] = {}
"""Blocks known to all connections, by their bytes; none with a field that came as never indexed."""


def _integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Section 5.1: value and position behind it. More than four further bytes are refused: no length here is that large."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    for shift in (0, 7, 14, 21):
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("integer_too_large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Section 5.2: text and position behind it."""
    length = block[at]
    huffman = length & 0x80
    length &= 0x7F
    if length < 0x7F:
        at += 1
    else:
        length, at = _integer(block, at, 0x7F)
    end = at + length
    if end > len(block):
        raise HpackError("truncated_block")
    text = block[at:end]
    return (huffman_decode(text) if huffman else text), end


class Decoder:
    """The decoding context of one direction of one connection (section 2.2)."""

    __slots__ = ("_allowed", "_limit", "_memo", "_size", "_table")

    def __init__(self) -> None:
        self._table: list[Field] = []  # the newest entry last
        self._size = 0
        self._limit = self._allowed = 4096
        self._memo: dict[bytes, Block] = {}  # blocks decoded since the table last changed

    def allow(self, table_size: int) -> None:
        """The receiving end announced SETTINGS_HEADER_TABLE_SIZE: its peer may use as much.

        A smaller size than before forbids nothing here: blocks may be on their way whose sender has not heard of it.
        """
        self._allowed = max(self._allowed, min(table_size, MAX_TABLE_BYTES))

    def decode(self, block: bytes) -> Block:
        """Decode one whole block. Raises HpackError."""
        known = self._memo.get(block)
        if known is not None:
            return known
        alike = _independent.get(block)
        if alike is not None and alike.added_size <= self._limit:
            if alike.added:
                self._evict(alike.added_size)
                self._table += alike.added
                self._size += alike.added_size
                self._memo.clear()
            return alike.block
        try:
            return self._decode(block)
        except IndexError:
            raise HpackError("truncated_block") from None

    def _decode(self, block: bytes) -> Block:
        table = self._table
        fields: list[Field] = []
        added: list[Field] = []
        sensitive: list[int] = []
        at = total = 0
        size = len(block)
        while at < size and block[at] & 0xE0 == 0x20:
            limit, at = _integer(block, at, 0x1F)
            if limit > self._allowed:
                raise HpackError("table_too_large")
            self._limit = limit
            self._evict(0)
        updates = block[:at]
        changed = bool(updates)
        independent = not changed
        while at < size:
            first = block[at]
            if first >= 0x80:  # section 6.1: indexed
                index = first & 0x7F
                at += 1
                if index == 0x7F:
                    index, at = _integer(block, at - 1, 0x7F)
                if 0 < index <= _STATIC_COUNT:
                    field = STATIC_TABLE[index - 1]
                else:
                    field = self._entry(index)
                    independent = False
            else:
                indexing = first & 0x40
                if not indexing and first & 0x20:
                    raise HpackError("late_table_size_update")
                mask = 0x3F if indexing else 0x0F
                index = first & mask
                at += 1
                if index == mask:
                    index, at = _integer(block, at - 1, mask)
                if 0 < index <= _STATIC_COUNT:
                    name = STATIC_TABLE[index - 1][0]
                elif index:
                    name = self._entry(index)[0]
                    independent = False
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if indexing:  # section 6.2.1
                    entry_size = len(name) + len(value) + ENTRY_OVERHEAD
                    self._evict(entry_size)
                    if entry_size <= self._limit:
                        table.append(field)
                        self._size += entry_size
                    added.append(field)
                    changed = True
                elif first & 0x10:
                    sensitive.append(len(fields))
            total += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
            if total > MAX_LIST_BYTES:
                raise HpackError("header_list_too_large")
            fields.append(field)
        decoded = Block(fields, frozenset(sensitive) if sensitive else _NONE, updates, total)
        memo = self._memo
        if changed:
            memo.clear()
        if size <= _MEMO_BLOCK_BYTES:
            if independent and total <= _MEMO_LIST_BYTES and not sensitive:
                if len(_independent) >= _INDEPENDENT_MEMO_ENTRIES:
                    _independent.clear()
                added_size = sum(len(name) + len(value) + ENTRY_OVERHEAD for name, value in added)
                _independent[block] = _Independent(decoded, tuple(added), added_size)
            elif not changed:
                if len(memo) >= _MEMO_ENTRIES:
                    memo.clear()
                memo[block] = decoded
        return decoded

    def _entry(self, index: int) -> Field:
        if index <= _STATIC_COUNT:
            if not index:
                raise HpackError("index_zero")
            return STATIC_TABLE[index - 1]
        place = index - _STATIC_COUNT
        table = self._table
        if place > len(table):
            raise HpackError("index_beyond_table")
        return table[-place]

    def _evict(self, room: int) -> None:
        """Section 4.3 and 4.4: make room, from the oldest entry on."""
        table = self._table
        gone = 0
        while self._size > self._limit - room and gone < len(table):
            name, value = table[gone]
            self._size -= len(name) + len(value) + ENTRY_OVERHEAD
            gone += 1
        if gone:
            del table[:gone]


# ---- encoding


def _length(value: int, prefix_bits: int, first: int) -> bytes:
    mask = (1 << prefix_bits) - 1
    if value < mask:
        return bytes((first | value,))
    out = bytearray((first | mask,))
    value -= mask
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_STATIC_FIELDS = {field: index for index, field in reversed(list(enumerate(STATIC_TABLE, 1)))}
_STATIC_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(STATIC_TABLE, 1)))}
_encoded: dict[Field, bytes] = {}


_SHORT = tuple(_length(length, 7, 0) for length in range(256))


def string(text: bytes) -> bytes:
    """A string literal, not Huffman coded (section 5.2)."""
    size = len(text)
    return (_SHORT[size] if size < len(_SHORT) else _length(size, 7, 0)) + text


def literal(name: bytes, value: bytes, *, sensitive: bool = False) -> bytes:
    """A literal without indexing (section 6.2.2), or never indexed (6.2.3)."""
    first = 0x10 if sensitive else 0
    index = _STATIC_NAMES.get(name)
    head = _length(index, 4, first) if index else bytes((first,)) + string(name)
    return head + string(value)


def encode_unindexed(block: Block) -> bytes:
    """The block again, so that it depends on no dynamic table and changes none. Its size updates stay."""
    pieces = [block.updates]
    sensitive = block.sensitive
    for position, field in enumerate(block.fields):
        if position in sensitive:
            pieces.append(literal(*field, sensitive=True))
            continue
        known = _encoded.get(field)
        if known is None:
            index = _STATIC_FIELDS.get(field)
            known = bytes((0x80 | index,)) if index and field[1] else literal(*field)
            if len(_encoded) >= _ENCODED_MEMO_ENTRIES:
                _encoded.clear()
            if len(known) <= 256:
                _encoded[field] = known
        pieces.append(known)
    return b"".join(pieces)
