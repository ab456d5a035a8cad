"""The WebSocket watcher, against frames that wsproto makes."""

import random

import wsproto
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from sp_proxy.core.exchange import Direction, Exchange, WebSocketSummary
from sp_proxy.taps.websocket import MAX_MESSAGE_BYTES, WebSocketTap
from tests.taps.rig import cut

HANDSHAKE = Exchange(
    *(Direction.INBOUND, 0, 0, 0, b"", b"", b"", b"", b"", "http", "1.1", b"GET", b"/", b"", b"", b"", 0),
    *(101, b"", b"", 0, "", 0, "", 0),
)


def ends(*, deflate: bool = False, no_takeover: bool = False) -> tuple[Connection, Connection]:
    def extensions() -> list[wsproto.extensions.Extension]:
        if not deflate:
            return []
        extension = PerMessageDeflate(client_no_context_takeover=no_takeover, server_no_context_takeover=no_takeover)
        extension._enabled = True
        return [extension]

    return Connection(ConnectionType.CLIENT, extensions()), Connection(ConnectionType.SERVER, extensions())


def summary(tap: WebSocketTap) -> WebSocketSummary:
    found = tap.added_to(HANDSHAKE).websocket
    assert found is not None
    return found


def tap(extensions: str = "", max_messages: int = 10, max_size: int = 65536) -> WebSocketTap:
    return WebSocketTap(extensions, max_messages, max_size, lambda: 7)


def test_messages_of_both_directions_in_their_order():
    client, server = ends()
    watcher = tap()
    watcher.feed(client.send(TextMessage("hello")), from_client=True)
    watcher.feed(server.send(BytesMessage(b"\x00\x01")), from_client=False)
    watcher.feed(client.send(Ping(b"still there")), from_client=True)
    watcher.feed(client.send(CloseConnection(1001, "bye")), from_client=True)
    found = summary(watcher)
    assert [(m.from_client, m.binary, m.size, m.content) for m in found.messages] == [
        (True, False, 5, b"hello"),
        (False, True, 2, b"\x00\x01"),
    ]
    assert (found.client_messages, found.client_bytes, found.server_messages, found.server_bytes) == (1, 5, 1, 2)
    assert found.close_code == 1001


def test_a_fragmented_message_is_one_also_around_a_ping():
    client, _ = ends()
    watcher = tap()
    watcher.feed(client.send(TextMessage("one ", message_finished=False)), from_client=True)
    watcher.feed(client.send(Ping(b"x")), from_client=True)
    watcher.feed(client.send(TextMessage("two", message_finished=True)), from_client=True)
    assert [m.content for m in summary(watcher).messages] == [b"one two"]


def test_only_the_first_messages_are_kept_and_all_are_counted():
    client, _ = ends()
    watcher = tap(max_messages=2)
    for number in range(50):
        watcher.feed(client.send(TextMessage(str(number))), from_client=True)
    found = summary(watcher)
    assert found.client_messages == 50
    assert [m.content for m in found.messages] == [b"0", b"1"]


def test_long_content_is_cut_and_its_size_is_true():
    client, _ = ends()
    watcher = tap()
    watcher.feed(client.send(BytesMessage(b"x" * 1_000_000)), from_client=True)
    (message,) = summary(watcher).messages
    assert (message.size, len(message.content), message.complete) == (1_000_000, MAX_MESSAGE_BYTES, False)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 300), max_size=6),
)
@settings(deadline=None, max_examples=150)
def test_a_message_is_complete_when_all_of_it_was_kept(sizes, deflate, no_takeover, places):
    """Also where it is compressed, and its size on the wire says nothing of it; in fragments, and however it is cut."""
    client, _ = ends(deflate=deflate, no_takeover=no_takeover)
    extensions = "permessage-deflate" + ("; client_no_context_takeover" if no_takeover else "") if deflate else ""
    watcher = tap(extensions, max_size=20)
    contents = [bytes(range(size)) for size in sizes]
    stream = b"".join(
        client.send(BytesMessage(content[:7], message_finished=False))
        + client.send(BytesMessage(content[7:], message_finished=True))
        for content in contents
    )
    for piece in cut(stream, places):
        watcher.feed(piece, from_client=True)
    lost = False
    for content, message in zip(contents, summary(watcher).messages, strict=True):
        if lost:  # what is compressed with the context of one that was too long
            assert (message.content, message.complete) == (b"", False)
        else:
            assert (message.content, message.complete) == (content[:20], len(content) <= 20)
        lost = lost or (deflate and not no_takeover and len(content) > 20)


def test_compressed_messages_are_read_with_the_context_of_earlier_ones():
    client, server = ends(deflate=True)
    watcher = tap("permessage-deflate")
    for side, from_client in ((client, True), (server, False)) * 3:
        watcher.feed(side.send(TextMessage("the same words again and again")), from_client=from_client)
    found = summary(watcher)
    assert [m.content for m in found.messages] == [b"the same words again and again"] * 6
    assert found.messages[-1].size < 30


def test_what_inflates_to_much_costs_little_and_ends_the_keeping_of_content():
    client, _ = ends(deflate=True)
    watcher = tap("permessage-deflate")
    watcher.feed(client.send(BytesMessage(b"\0" * 5_000_000)), from_client=True)
    watcher.feed(client.send(TextMessage("later")), from_client=True)
    first, second = summary(watcher).messages
    assert len(first.content) == MAX_MESSAGE_BYTES
    assert second.content == b""
    assert summary(watcher).client_messages == 2


def test_without_context_takeover_a_later_message_is_kept_again():
    client, _ = ends(deflate=True, no_takeover=True)
    watcher = tap("permessage-deflate; client_no_context_takeover; server_no_context_takeover")
    watcher.feed(client.send(BytesMessage(b"\0" * 5_000_000)), from_client=True)
    watcher.feed(client.send(TextMessage("later")), from_client=True)
    assert summary(watcher).messages[1].content == b"later"


def test_what_is_no_frame_ends_the_watching():
    watcher = tap()
    watcher.feed(b"\x83\x01x", from_client=True)  # a reserved opcode
    client, _ = ends()
    watcher.feed(client.send(TextMessage("unseen")), from_client=True)
    assert summary(watcher).client_messages == 0


def test_a_continuation_of_nothing_ends_the_watching():
    watcher = tap()
    watcher.feed(b"\x80\x01x" + b"\x81\x01y", from_client=False)
    assert summary(watcher).server_messages == 0


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_cuts_between_reads_do_not_matter(contents, seed, deflate):
    client, _ = ends(deflate=deflate)
    stream = b"".join(client.send(BytesMessage(content)) for content in contents)
    watcher = tap("permessage-deflate" if deflate else "")
    chance = random.Random(seed)
    while stream:
        size = chance.randint(1, 40)
        watcher.feed(stream[:size], from_client=True)
        stream = stream[size:]
    assert [m.content for m in summary(watcher).messages] == contents


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), max_size=6))
@settings(deadline=None, max_examples=100)
def test_arbitrary_bytes_never_fail(pieces):
    watcher = tap("permessage-deflate")
    for from_client, piece in pieces:
        watcher.feed(piece, from_client=from_client)
    assert len(summary(watcher).messages) <= 10
