"""Places on disk, the spools and the embedded backend's store: whether the daemon can write there, and whether there is room."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from sp_proxy.doctor.findings import Area, Finding
from sp_proxy.exporter.routes import spool_directories
from sp_proxy.exporter.spool_tools import find
from sp_proxy.settings.model import SettingsModel

AREA = Area("disk")
LITTLE = 100 << 20
"""Bytes: less, and the machine is in trouble soon, whatever writes there."""
_MIB = 1 << 20


class Room(Struct, frozen=True):
    """A place, as it is."""

    problem: str
    """Why nothing can be written there; empty if it can."""
    free: int = 0
    """Bytes."""
    free_inodes: int = 1


def examine(settings: SettingsModel, environ: Mapping[str, str]) -> Iterator[Finding]:
    """To be asked as the user who is to write."""
    if settings.spool.mode == "off":
        yield AREA.warn("spool.mode is off: what the backend does not take in time is lost", "spool.mode: overflow")
    else:
        directories = spool_directories(settings, environ)
        if not directories:
            yield AREA.warn(
                "no directory for the spool can be written: what the backend does not take in time is lost",
                "set spool.directory to one that the daemon's user owns",
            )
        for name, directory in directories.items():
            yield judge(f"spool of {name}, {directory}", room(directory), settings.spool.max_size, "spool.max_size")
        yield from _contents(settings, environ)
    yield from _files(settings)
    if settings.backend.enabled and settings.backend.database != ":memory:":
        path = Path(settings.backend.database).absolute()
        most = settings.backend.max_database_size
        yield judge(f"store of the embedded backend, {path}", room(path.parent), most, "backend.max_database_size")


def _files(settings: SettingsModel) -> Iterator[Finding]:
    """What exporters append to. Their directories are not made."""
    for index, exporter in enumerate(settings.exporters):
        if exporter.type != "file" or not exporter.path:
            continue
        path = Path(exporter.path).absolute()
        what = f"file of exporters[{index}], {path}"
        if not path.parent.is_dir():
            yield judge(what, Room(f"there is no directory {path.parent}"), 0, "")
        elif not path.exists() or path.is_file():  # a pipe takes what its reader takes
            yield judge(what, room(path.parent), 2 * exporter.max_size, f"twice exporters[{index}].max_size")


def judge(what: str, found: Room, most: int, key: str) -> Finding:
    """``most``: bytes that may come to be there."""
    if found.problem:
        return AREA.fail(f"{what}: {found.problem}", "make it, and give it to the daemon's user")
    if found.free_inodes == 0:
        return AREA.fail(f"{what}: no inodes are left", "delete files there, or use another file system")
    free = f"{found.free // _MIB} MiB free"
    if found.free < LITTLE:
        return AREA.fail(f"{what}: only {free}", "free some, or use another file system")
    if found.free < most:
        return AREA.warn(f"{what}: {free}, and {key} is {most // _MIB} MiB", f"free some, or lower {key}")
    return AREA.ok(f"{what}: {free}")


def room(directory: Path) -> Room:
    """Look by writing: a file that has no name, in the directory or in the nearest one above it that exists."""
    try:
        place = next(each for each in (directory, *directory.parents) if each.exists())
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"sp-proxy doctor")
            file.flush()
        found = os.statvfs(place)
    except OSError as error:
        return Room(f"cannot be written ({(error.strerror or str(error)).lower()})")
    return Room("", found.f_bavail * found.f_frsize, found.f_favail if found.f_files else 1)


def _contents(settings: SettingsModel, environ: Mapping[str, str]) -> Iterator[Finding]:
    views = []
    with suppress(OSError):
        views = find(settings, environ)
    for view in views:
        if view.set_aside:
            yield AREA.warn(
                f"{view.directory}: {view.set_aside} damaged files were set aside",
                "look at the disk; then delete *.damaged there",
            )
        if not view.entries:
            continue
        hours = (time.time() - view.entries[0].created_unix) / 3600
        text = f"{view.directory}: {len(view.entries)} payloads wait, the oldest for {hours:.1f} h"
        if not view.exporter:
            yield AREA.warn(
                f"{text}; no exporter of the settings is theirs",
                "sp-proxy spool export, or settings that name it again",
            )
        elif hours > 1:
            yield AREA.warn(text, "the backend does not keep up: see backend")
        else:
            yield AREA.ok(text)
