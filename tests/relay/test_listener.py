"""Where an accepted connection goes."""

import random
import socket
from collections import defaultdict

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import Policy, PolicyConfig
from sp_proxy.relay.listener import Listener
from sp_proxy.taps.context import TapContext


def listener(listening: socket.socket, upstream: tuple[str, int] | None) -> Listener:
    context = TapContext(
        direction=Direction.INBOUND,
        policy=Policy(PolicyConfig()),
        injector=Injector(HeaderConfig("orders")),
        sink=lambda exchange: None,
        counters=defaultdict(int),
        unix_ns=lambda: 0,
        random_bits=random.getrandbits,
        strict=False,
        max_body_size=0,
        max_head_size=8192,
    )
    return Listener(listening, context, upstream, resolve=False)


def test_a_fixed_upstream() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with socket.create_connection(address), listening.accept()[0] as accepted:
            assert listener(listening, ("10.0.0.1", 80)).destination(accepted) == ("10.0.0.1", 80)


def test_a_transparent_listener_refuses_what_was_not_redirected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        with socket.create_connection(address), listening.accept()[0] as accepted:
            assert listener(listening, None).destination(accepted) is None
