"""The backend's export, as its bytes come, handed to a trial line by line: never more than a line of it in memory."""

import json

from sp_proxy.trial.captured import read
from sp_proxy.trial.trial import Trial


class Feed:
    """Called with pieces of the export."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._rest = bytearray()

    def __call__(self, data: bytes) -> None:
        """A piece, which may end anywhere; the export ends with a line's end."""
        # Only the new bytes can hold the end of a line: a long one is not searched again with each piece.
        start, begin = 0, len(self._rest)
        self._rest += data
        while (end := self._rest.find(b"\n", max(start, begin))) >= 0:
            self._line(bytes(self._rest[start:end]))
            start = end + 1
        del self._rest[:start]

    def _line(self, line: bytes) -> None:
        try:
            captured = read(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            self._trial.unreadable()
            return
        self._trial.add(captured)
