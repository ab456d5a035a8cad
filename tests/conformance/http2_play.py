"""An HTTP/2 conversation played directly and through the daemon, and what differs."""

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.conformance.http2_wire import (
    TIMEOUT,
    Peer,
    Step,
    injected,
    same,
    same_or_cut_short,
    transcript,
)

Record = tuple[str, str, int, str]
"""Method, target, status and error."""


@dataclass(frozen=True)
class Script:
    """What both ends do, and which records come of it."""

    client: Sequence[Step]
    server: Sequence[Step]
    records: Sequence[Record] = ()
    injected: int = -1
    """How many blocks carry our fields; as many as there are records by default."""
    raw: str = ""
    """Why the connection is no longer read; both ends see all the same what they see directly."""
    reset: bool = False
    """The connection is reset where it would go raw, because blocks have been encoded anew."""
    bodies: Sequence[tuple[bytes, bytes]] | None = None
    """What the records have of request and response content."""
    trailers: Sequence[tuple[bytes, bytes]] | None = None


Make = Callable[[str], Script]
"""Takes the path of its requests."""
CHECKS: dict[str, Make] = {}


def check(make: Make) -> Make:
    """Registers a conversation by its function's name."""
    assert make.__name__ not in CHECKS
    CHECKS[make.__name__] = make
    return make


@dataclass
class Played:
    """A conversation that is over."""

    client: Peer
    server: Peer


def play(script: Script, connect: Callable[[], socket.socket], listener: socket.socket) -> Played:
    """``connect`` returns a connection to wherever the client connects to; ``listener`` is the server's."""
    accepted: list[Peer] = []
    errors: list[BaseException] = []
    listener.settimeout(TIMEOUT)

    def serve() -> None:
        try:
            sock, _ = listener.accept()
            sock.settimeout(TIMEOUT)
            accepted.append(Peer(sock, is_server=True))
            _act(accepted[0], script.server)
        except BaseException as error:  # raised again by the client's thread
            errors.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with connect() as sock:
        sock.settimeout(TIMEOUT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Peer(sock, is_server=False)
        _act(client, script.client)
        thread.join()
    if errors:
        raise errors[0]
    accepted[0].sock.close()
    return Played(client, accepted[0])


def _act(peer: Peer, steps: Sequence[Step]) -> None:
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for step in steps:
        step(peer)


def differences(script: Script, direct: Played, relayed: Played) -> list[str]:
    """Between what the ends saw directly and through the daemon."""
    found = []
    for side in ("client", "server"):
        one: Peer = getattr(direct, side)
        other: Peer = getattr(relayed, side)
        seen = transcript(bytes(other.received), to_server=other.is_server)
        expected = transcript(bytes(one.received), to_server=one.is_server)
        if script.reset:
            if not same_or_cut_short(seen, expected):
                found.append(f"{side} received {_shown(seen)}, which is no beginning of {_shown(expected)}")
        elif not same(seen, expected):
            found.append(f"{side} received {_shown(seen)} instead of {_shown(expected)}")
        end = "reset" if script.reset and one.ended else one.ended
        if other.ended != end:
            found.append(f"{side} saw the end {other.ended or 'not'} instead of {end or 'not'}")
        if one.ended == "timeout":
            found.append(f"{side} waited in vain in the direct conversation: the script is wrong")
    count = injected(transcript(bytes(relayed.server.received), to_server=True))
    wanted = len(script.records) if script.injected < 0 else script.injected
    if count != wanted:
        found.append(f"{count} blocks were injected into instead of {wanted}")
    return found


def _shown(seen: Sequence[object]) -> str:
    text = repr(list(seen))
    return f"{len(seen)}: {text[:700]}…{text[-100:]}" if len(text) > 900 else text
