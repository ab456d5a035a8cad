"""Where a daemon's settings come from, to be read again: the file may have changed, flags and environment have not.

The files of addons belong to it: what they say is in force like what the configuration says.
"""

from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

from sp_proxy.addons.source import AddonError, hook_files
from sp_proxy.settings.addons import Addons
from sp_proxy.settings.document import MAX_BYTES
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.load import Loaded, load

type Look = tuple[int, ...]
"""What a file system says of a file: another one for another content."""


class Source:
    """``load`` gives the settings as they are now."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self.path = path
        self._environ = environ
        self._flags = flags
        self._addons = Addons()
        self._drained = False  # a pipe, of which nothing is left to read
        self.digest = b""
        """Of the files' content when they were last loaded, whether that went well or not."""

    def load(self, *, sends: bool = True) -> Loaded:
        """Read everything again, as ``load.load`` does. Raises SettingsError."""
        if self.path is not None and _is_stream(self.path):
            if self._drained:
                raise SettingsError([f"{self.path}: not a file: it cannot be read a second time"])
            self._drained = True
        configuration = self._configuration()
        self.digest = self.content()
        loaded = load(self.path, self._environ, self._flags, sends=sends)
        self._addons = loaded.settings.addons
        # The configuration as it was when it was loaded, and addons as they are before they are.
        self.digest = configuration + self._scripts() if configuration or self.path is None else b""
        return loaded

    def content(self) -> bytes:
        """A digest of the files' content; empty when the configuration cannot be read, or there is nothing to read."""
        configuration = self._configuration()
        return configuration + self._scripts() if configuration or self.path is None else b""

    def look(self) -> Look:
        """What the file system says of the files; symbolic links are followed, so one that leads elsewhere is seen."""
        if self.path is None:
            return tuple(number for each in self._files() for number in _look(each))
        found = _look(self.path)
        return found and (*found, *(number for each in self._files() for number in (_look(each) or (0,))))

    def _configuration(self) -> bytes:
        return b"" if self.path is None else _digest(self.path)

    def _scripts(self) -> bytes:
        files = self._files()
        return (
            blake2s(b"".join(str(each).encode() + b"\0" + _digest(each) for each in files)).digest() if files else b""
        )

    def _files(self) -> list[Path]:
        """Of addons."""
        addons = self._addons
        try:
            hooks = hook_files(addons.files, addons.directory)
        except AddonError:
            hooks = list(addons.files)
        return [Path(each) for each in (*hooks, *(flow.file for flow in addons.flows))]


def _is_stream(path: Path) -> bool:
    """A pipe or the like."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (S_ISREG(mode) or S_ISDIR(mode))


def _digest(path: Path) -> bytes:
    """None of a pipe: what is read from it is gone, and one without a writer would hold us up."""
    try:
        if _is_stream(path):
            return b""
        with path.open("rb") as file:
            return blake2s(file.read(MAX_BYTES + 1)).digest()
    except OSError:
        return b""


def _look(path: Path) -> Look:
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
