"""Where a daemon's settings come from, to be read again: the file may have changed, flags and environment have not."""

from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path
from typing import Any

from sp_proxy.settings.document import MAX_BYTES
from sp_proxy.settings.load import Loaded, load

type Look = tuple[int, ...]
"""What a file system says of a file: another one for another content."""


class Source:
    """``load`` gives the settings as they are now."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self.path = path
        self._environ = environ
        self._flags = flags
        self.digest = b""
        """Of the file's content when it was last loaded, whether that went well or not."""

    def load(self, *, sends: bool = True) -> Loaded:
        """Read everything again, as ``load.load`` does. Raises SettingsError."""
        self.digest = self.content()
        return load(self.path, self._environ, self._flags, sends=sends)

    def content(self) -> bytes:
        """A digest of the file's content; empty when it cannot be read, or there is none."""
        if self.path is None:
            return b""
        try:
            with self.path.open("rb") as file:
                return blake2s(file.read(MAX_BYTES + 1)).digest()
        except OSError:
            return b""

    def look(self) -> Look:
        """What the file system says of the file; symbolic links are followed, so one that leads elsewhere is seen."""
        if self.path is None:
            return ()
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
