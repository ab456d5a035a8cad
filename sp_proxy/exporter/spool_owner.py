"""Whose a spool's directory is: ours alone, of one process at a time.

What is in it is what was captured, redacted but not public: the directory is closed to others (0700), as files are (0600),
and one that another user could have prepared is not taken.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_OTHERS_MAY_WRITE: Final = 0o022


class SpoolError(Exception):
    """The spool cannot be used; the text is one line for a person."""


class SpoolBusyError(SpoolError):
    """Another process owns it."""


def open_directory(directory: Path, *, fsync: bool = False) -> int:
    """A descriptor of a directory that is ours alone, made if it is missing. Raises SpoolError and OSError."""
    if directory.is_symlink():
        raise SpoolError(f"spool {directory}: is a symbolic link")
    missing = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if fsync:
        for place in missing:
            _sync(place.parent)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(fd).st_uid
        if owner not in {0, os.geteuid()} and os.geteuid() != 0:
            raise SpoolError(f"spool {directory}: belongs to another user ({owner})")
        if os.fstat(fd).st_mode & 0o077:
            with suppress(OSError):
                os.fchmod(fd, 0o700)
        if os.fstat(fd).st_mode & _OTHERS_MAY_WRITE:
            raise SpoolError(f"spool {directory}: other users may write to it")
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock(directory: Path, directory_fd: int) -> int:
    """A descriptor of the file that is locked as long as we have the directory; it says who has. Raises SpoolBusyError and
    OSError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open("lock", flags, 0o600, dir_fd=directory_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(OSError):  # a disk that is full is no reason not to read what is on it
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError as error:
        owner = os.pread(fd, 20, 0).strip().decode("ascii", "replace")
        os.close(fd)
        who = f"process {owner}" if owner.isdigit() else "another process"
        text = f"spool {directory}: in use by {who}; each daemon needs a spool.directory of its own"
        raise SpoolBusyError(text) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _sync(directory: Path) -> None:
    """Have what is new in a directory on the disk; one that may be written and not read is left to the kernel."""
    if not os.access(directory, os.R_OK):
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
