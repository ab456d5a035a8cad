"""The client's end: what it says, and whether it has gone while upstream is being connected."""

from sp_proxy.relay.bulk import BulkStream
from sp_proxy.relay.faults import tap_failed
from sp_proxy.relay.stream import AHEAD
from sp_proxy.taps.context import Signal

GAVE_UP_AFTER = 0.5
"""A client that finishes sending so many seconds after its last bytes, and is not connected upstream yet, has gone: one that
half-closes behind its request does so at once.
"""


class Downstream(BulkStream):
    """Accepted by the worker."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        """See ``Stream``."""
        connection = self.connection
        tap = connection.tap
        if tap is None:
            self.other.write(data)
            if self.bulky >= AHEAD:
                self.look_for_bulk()
            return
        try:
            out = tap.client(data)
        except Exception as error:  # noqa: BLE001  # a fault of ours must not harm the traffic
            tap_failed(connection, self, data, error)
            return
        if out:
            self.other.write(out)
        if tap.signal:
            connection.look_at_signal()
        elif self.bulky >= AHEAD:
            self.look_for_bulk()

    def received_end(self) -> None:
        """See ``Stream``."""
        connection = self.connection
        if self.other.awaited and self._gave_up():
            connection.close_tap("client_aborted")
            self.abort()
            return
        tap = connection.tap
        if tap is not None:
            if held := tap.client_eof():
                self.other.write(held)
            if tap.signal is Signal.ANSWER:
                connection.look_at_signal()
                return
        if not self.other.ended:
            self.other.finish()
        connection.ended()

    def _gave_up(self) -> bool:
        """Its end of stream has come while upstream is being connected: whether it has gone."""
        connection = self.connection
        return connection.loop.time() - connection.early_at >= GAVE_UP_AFTER
