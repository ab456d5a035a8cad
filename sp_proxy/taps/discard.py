"""The tap of a connection that was refused: nothing that still arrives goes anywhere."""

from sp_proxy.core.exchange import ErrorType
from sp_proxy.taps.context import Signal


class Discard:
    """See ``context.Tap``."""

    signal = Signal.NONE
    answer = b""
    idle = False

    def client(self, data: bytes) -> bytes:  # noqa: ARG002
        """Nothing goes upstream."""
        return b""

    def server(self, data: bytes) -> bytes:  # noqa: ARG002
        """Nothing goes downstream."""
        return b""

    def bulk(self, *, client: bool) -> int:  # noqa: ARG002
        """Nothing passes."""
        return 0

    def passed(self, size: int, *, client: bool) -> None:
        """Nothing passes."""

    def timeout(self) -> bytes:
        """Nothing is held."""
        return b""

    def take_held(self) -> bytes:
        """Nothing is held."""
        return b""

    def take_kept(self) -> bytes:
        """Nothing is held."""
        return b""

    def client_eof(self) -> bytes:
        """Nothing is held."""
        return b""

    def server_eof(self) -> bytes:
        """Nothing is held."""
        return b""

    def drain(self, *, patient: bool) -> bytes:  # noqa: ARG002
        """It is closed soon anyway."""
        return b""

    def record_open(self, before_ns: int) -> None:
        """Nothing is open."""

    def close(self, error: ErrorType) -> None:
        """Nothing is open."""
