"""A service of the shop on a real socket, in this process."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sp_proxy.demo.shop.server import Server, Service


@contextmanager
def serving(connect: Callable[[], Service]) -> Iterator[tuple[str, int]]:
    """Serves until the end of the block; gives the address."""
    with Server(socket.create_server(("127.0.0.1", 0)), connect) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.socket.getsockname()[:2]
        finally:
            server.shutdown()
            thread.join()
