"""Looks at things as the daemon's user, in a process of its own: what root may do says nothing of what the daemon may."""

import os
import pwd
from collections.abc import Callable, Iterable

import msgspec

from sp_proxy.doctor.findings import Area, Finding

AREA = Area("user")

_decode = msgspec.json.Decoder(list[Finding]).decode


def acting_as(user: int | None, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of this look, made by the user; by ourselves for None. Only root can be somebody else."""
    if user is None or user == os.geteuid():
        return list(look())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Never returns into the parent's code, whatever happens.
        status = 1
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(_group(user))
            os.setuid(user)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(msgspec.json.encode(list(look())))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    try:
        return _decode(said)
    except msgspec.DecodeError:
        return [AREA.skip(f"nothing could be looked at as user {user}", "run this as that user too")]


def _group(user: int) -> int:
    try:
        return pwd.getpwuid(user).pw_gid
    except KeyError:
        return user
