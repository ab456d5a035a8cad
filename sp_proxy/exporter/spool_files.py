r"""The files of a spool: one directory, one owner, one file an entry. Everything here blocks; nothing here counts.

Layout of an entry, big-endian::

    "SPSPOOL1"  8   magic and version
    records     4
    encoding    1   0 none, 1 gzip, and 3 bytes of padding
    raw size    8   bytes before compression
    created     8   unix milliseconds
    length      8   of the body
    body CRC    4   CRC-32
    head CRC    4   CRC-32 of the 44 bytes before it
    body

Its name repeats number, time and records (``SEQUENCE-MILLISECONDS-RECORDS.entry``), so what a damaged file costs can
still be counted, and opening a spool reads a directory and no file.

An entry is written under another name (``.tmp``) and renamed when it is whole, and removed with one unlink: at whatever
instruction a crash comes, an entry is there or it is not. A file that is found wrong becomes ``.damaged`` and is looked
at no more. With ``fsync`` the file and the directory are on the disk before ``write`` returns, so an entry outlives
the machine; without, it outlives the process.

The directory is ours alone (``spool_owner.py``), and everything is done relative to the one that was looked at when it was
opened, so that it does not matter what its name leads to later.

Measured against SQLite (WAL, a table of blobs) on the same disk, store + read and delete, µs an entry:

    300 KB, no fsync     files 299 + 149    SQLite 1,311 + 1,217
    300 KB, fsync        files 955 + 337    SQLite 1,416 + 1,719
      4 KB, no fsync     files 185 +  23    SQLite 45 + 64
      4 KB, fsync        files 1,513 + 1,134    SQLite 204 + 209

A spool fills when traffic is high, and then entries are large (512 records, 300 KB): files cost a quarter there, give
the space back at once (SQLite's file stays at its largest), can be deleted on a full disk (a WAL needs space for that),
and a flipped bit costs one entry instead of a database. Small entries are one in a second, and cost nothing either way.
"""

import errno
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

from sp_proxy.core.spool_index import Entry
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.spool_owner import SpoolError, lock, open_directory

MAGIC: Final = b"SPSPOOL1"
HEAD: Final = Layout(">8sIB3xQQQI")
_CRC: Final = Layout(">I")
HEAD_BYTES: Final = HEAD.size + _CRC.size
MAX_DAMAGED: Final = 16
"""Damaged files kept for a person to look at; they are outside of the spool's cap."""
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{12})-([0-9]{1,9})\.entry")
_BROKEN: Final = {errno.EIO, errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.EUCLEAN, errno.ESTALE}
"""Errors that are about one file, so that the entry is lost; any other may pass."""


class DamagedError(Exception):
    """An entry is not what was stored."""


class Found(Struct, frozen=True):
    """What a directory holds."""

    entries: list[Entry]
    """By number."""
    foreign: list[str]
    """Names that end as an entry's but are none, or that say a number again."""


def entry_name(entry: Entry) -> str:
    """The name of its file."""
    return f"{entry.sequence:016x}-{round(entry.created_unix * 1000):012x}-{entry.records}.entry"


def scan(directory: Path | int) -> Found:
    """The entries of a spool (its path, or a descriptor of it), without its lock: for looking at one that is in use.
    Raises OSError.
    """
    found: dict[int, Entry] = {}
    foreign: list[str] = []
    with os.scandir(directory) as files:
        for file in files:
            if not file.name.endswith(".entry"):
                continue
            parts = _NAME.fullmatch(file.name)
            sequence = int(parts[1], 16) if parts else 0
            try:
                size = file.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # sent and removed meanwhile
                continue
            if parts is None or sequence in found or not file.is_file(follow_symlinks=False):
                foreign.append(file.name)
            else:
                found[sequence] = Entry(sequence, int(parts[3]), size, int(parts[2], 16) / 1000)
    return Found([found[sequence] for sequence in sorted(found)], foreign)


def read(directory: Path | int, entry: Entry) -> Payload:
    """The content of an entry of a spool (its path, or a descriptor of it). Raises DamagedError, or OSError for what may
    pass.
    """
    name = entry_name(entry)
    path, dir_fd = (name, directory) if isinstance(directory, int) else (directory / name, None)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
        with os.fdopen(fd, "rb") as file:
            head = file.read(HEAD_BYTES)
            body = file.read(max(entry.size, 0) + 1)
    except OSError as error:
        if error.errno in _BROKEN:
            raise DamagedError(f"cannot be read: {error.strerror}") from error
        raise
    return _verified(entry, head, body)


def _verified(entry: Entry, head: bytes, body: bytes) -> Payload:
    if len(head) < HEAD_BYTES:
        raise DamagedError(f"ends after {len(head)} bytes")
    magic, records, encoding, raw_size, created, length, body_crc = HEAD.unpack_from(head)
    if _CRC.unpack_from(head, HEAD.size)[0] != zlib.crc32(head[: HEAD.size]) or magic != MAGIC or encoding > 1:
        raise DamagedError("the head is not what was stored")
    if length != len(body):
        raise DamagedError(f"the body has {len(body)} of {length} bytes")
    if body_crc != zlib.crc32(body):
        raise DamagedError("the body is not what was stored")
    if records != entry.records or created != round(entry.created_unix * 1000):
        raise DamagedError("the name is not what was stored")
    return Payload(body, records, "gzip" if encoding else "", raw_size)


def laid(entry: Entry, payload: Payload) -> bytes:
    """The head of an entry's file; the body follows."""
    head = HEAD.pack(
        MAGIC,
        payload.records,
        payload.encoding == "gzip",
        payload.raw_size,
        round(entry.created_unix * 1000),
        len(payload.body),
        zlib.crc32(payload.body),
    )
    return head + _CRC.pack(zlib.crc32(head))


class SpoolFiles:
    """A spool's directory. ``open`` takes it for this process, ``close`` leaves it."""

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        self.directory = directory
        self.fsync = fsync
        """Wait for the disk at each write."""
        self._lock_fd = -1
        self._directory_fd = -1

    @property
    def is_open(self) -> bool:
        """It belongs to this process."""
        return self._lock_fd >= 0

    def open(self) -> Found:
        """Take the directory, made if it is missing, and clean up after a crash. Raises SpoolError.

        What is half written is removed: it never was an entry. What cannot be an entry is set aside.
        """
        try:
            self._directory_fd = open_directory(self.directory, fsync=self.fsync)
            self._lock_fd = lock(self.directory, self._directory_fd)
            for name in self._names(".tmp"):
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._directory_fd)
            found = scan(self._directory_fd)
            for name in found.foreign:
                self._set_aside(name)
        except (OSError, SpoolError) as error:
            self.close()
            if isinstance(error, OSError):
                raise SpoolError(f"spool {self.directory}: {error.strerror}") from error
            raise
        return found

    def close(self) -> None:
        """Leave the directory to others. Again is the same as once."""
        for fd in (self._directory_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._directory_fd = self._lock_fd = -1

    def write(self, entry: Entry, payload: Payload) -> None:
        """Store an entry, whole or not at all. Raises OSError."""
        name = entry_name(entry)
        half = f"{name}.tmp"
        fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._directory_fd)
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                for part in (laid(entry, payload), payload.body):
                    view = memoryview(part)
                    while view:  # a disk that fills up takes a part, then refuses
                        view = view[file.write(view) or 0 :]
                if self.fsync:
                    os.fsync(fd)
            os.rename(half, name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            if self.fsync:
                os.fsync(self._directory_fd)
        except BaseException:
            for written in (half, name):  # an entry that is not stored for certain must not come back as well
                with suppress(OSError):
                    os.unlink(written, dir_fd=self._directory_fd)
            raise

    def read(self, entry: Entry) -> Payload:
        """The content of an entry. Raises DamagedError, or OSError for what may pass."""
        return read(self._directory_fd, entry)

    def remove(self, entry: Entry) -> None:
        """Delete an entry. Raises OSError; one that is not there is no error."""
        with suppress(FileNotFoundError):
            os.unlink(entry_name(entry), dir_fd=self._directory_fd)

    def set_aside(self, entry: Entry) -> None:
        """Keep a damaged entry for a person, out of the way. Never raises: at worst it is found again."""
        self._set_aside(entry_name(entry))

    def _set_aside(self, name: str) -> None:
        with suppress(OSError):
            os.rename(name, f"{name}.damaged", src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
        with suppress(OSError):
            for old in sorted(self._names(".damaged"))[:-MAX_DAMAGED]:
                os.unlink(old, dir_fd=self._directory_fd)

    def _names(self, ending: str) -> list[str]:
        with os.scandir(self._directory_fd) as files:
            return [file.name for file in files if file.name.endswith(ending)]


def damaged(directory: Path) -> Iterator[str]:
    """Names of the files that were set aside."""
    return (path.name for path in directory.glob("*.damaged"))
