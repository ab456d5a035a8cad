"""What becomes of spans that arrive (pure): which are new, whom they replace, and whose other half they are.

The rules are those of the SQLite store, which finds the same by look-ups in its transaction: the first of a kind stays,
a whole exchange takes the place of its partial record, the outbound half of an exchange is the parent of the inbound one.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from sp_proxy.backend.model import StoredSpan

Identity = tuple[str, str]
"""Trace id and span id, in hex."""


class Known(Struct):
    """What is known of a span, stored or new."""

    parent: str
    partial: bool
    direction: str
    """Of an exchange; empty for other spans."""
    service: str
    peer: str
    stored: bool
    """It is in the database; else it is new."""


class Arrival:
    """Some batches, which are stored together."""

    def __init__(self, known: dict[Identity, Known]) -> None:
        self._known = known
        self._by_parent: dict[Identity, list[Identity]] = {}
        for identity, one in known.items():
            self._by_parent.setdefault((identity[0], one.parent), []).append(identity)
        self.new: dict[Identity, StoredSpan] = {}
        """To be inserted. Those of an earlier batch may be replaced by a later one's."""
        self.gone: set[Identity] = set()
        """Stored partial records whose place is taken."""
        self.joined: dict[Identity, str] = {}
        """Stored halves that have found their peer."""

    def take(self, spans: Iterable[StoredSpan]) -> list[StoredSpan]:
        """One batch; returns those of its spans that are new."""
        taken = []
        for span in spans:
            identity = identity_of(span)
            before = self._known.get(identity)
            if before is not None and (span.partial or not before.partial):
                continue
            if before is not None and before.stored:
                self.gone.add(identity)
            self._known[identity] = Known(
                parent=span.parent_span_id.hex(),
                partial=span.partial,
                direction=span.exchange.direction if span.exchange else "",
                service=span.service,
                peer="",
                stored=False,
            )
            self._by_parent.setdefault((identity[0], span.parent_span_id.hex()), []).append(identity)
            self.new[identity] = span
            taken.append(span)
            self._join(identity)
        return taken

    def peer_of(self, span: StoredSpan) -> str:
        """The service at the other end, as far as it is known now."""
        return self._known[identity_of(span)].peer

    def _join(self, identity: Identity) -> None:
        ours = self._known[identity]
        if ours.partial:
            return
        if ours.direction == "outbound":
            for child in self._by_parent.get(identity, ()):
                theirs = self._known[child]
                if theirs.direction == "inbound" and not theirs.partial and not theirs.peer:
                    self._name(child, ours.service)
                    if not ours.peer:
                        self._name(identity, theirs.service)
        elif ours.direction == "inbound" and ours.parent:
            parent = (identity[0], ours.parent)
            theirs_or_none = self._known.get(parent)
            if theirs_or_none is None or theirs_or_none.direction != "outbound" or theirs_or_none.partial:
                return
            self._name(identity, theirs_or_none.service)
            if not theirs_or_none.peer:
                self._name(parent, ours.service)

    def _name(self, identity: Identity, peer: str) -> None:
        one = self._known[identity]
        one.peer = peer
        if one.stored:
            self.joined[identity] = peer


def identity_of(span: StoredSpan) -> Identity:
    """What a span is known by."""
    return span.trace_id.hex(), span.span_id.hex()


def asked_for(spans: Sequence[StoredSpan]) -> tuple[list[str], list[str]]:
    """The traces and the span ids of which has to be known what is stored: the spans' own, and their parents'."""
    traces = {span.trace_id.hex() for span in spans}
    ids = {span.span_id.hex() for span in spans} | {span.parent_span_id.hex() for span in spans if span.parent_span_id}
    return sorted(traces), sorted(ids)
