"""A port of this host through which one sees a port of another place: the backend asks the daemons how they are, and the
admin servers of those in pods listen on the pods' loopback.

Connections to it are joined with connections made in that place, byte for byte.
"""

import contextlib
import selectors
import socket
import threading

from sp_proxy.demo.layout import LOOPBACK, HostPort
from sp_proxy.demo.places import Place
from sp_proxy.settings.types import Address

_CONNECT_SECONDS = 5.0
_PIECE = 1 << 16


class Window:
    """One; open until it is closed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._target: HostPort | None = None
        self._socket = socket.create_server((LOOPBACK, 0))
        self.address = Address(*self._socket.getsockname())
        self._accepting = threading.Thread(target=self._accept, name="window", daemon=True)
        self._accepting.start()

    def look_at(self, target: HostPort) -> None:
        """What is seen; before, connections are closed."""
        self._target = target

    def close(self) -> None:
        """See nothing more. Connections that are open end with their ends."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, which close alone would not
        self._socket.close()
        self._accepting.join()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near,), name="window", daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near:
            target = self._target
            if target is None:
                return
            try:
                far = self._place.call(lambda: socket.create_connection(target, _CONNECT_SECONDS))
            except (OSError, RuntimeError):  # nobody listens, or the place is going
                return
            with far, contextlib.suppress(OSError):
                _pass_on(near, far)


def _pass_on(near: socket.socket, far: socket.socket) -> None:
    """Until one of the two ends: what passes here are requests with their answers."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(near, selectors.EVENT_READ, far)
        waiting.register(far, selectors.EVENT_READ, near)
        while True:
            for key, _ in waiting.select():
                data = key.fileobj.recv(_PIECE)  # type: ignore[union-attr]
                if not data:
                    return
                key.data.sendall(data)
