"""Who the services run as, where root runs them: who called sudo, or who is named; and acting as that user for a moment."""

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from sp_proxy.dev.errors import DevError


class Identity(Struct, frozen=True):
    """A user."""

    uid: int
    gid: int
    name: str
    home: Path

    @property
    def is_root(self) -> bool:
        """Nothing has to be given up."""
        return self.uid == 0

    def command(self, command: list[str]) -> list[str]:
        """The command as this user, without a right of root's, ended when we are."""
        if self.is_root:
            return ["setpriv", "--pdeathsig", "TERM", "--", *command]
        groups = "--init-groups" if self.name else "--clear-groups"
        drop = [f"--reuid={self.uid}", f"--regid={self.gid}", groups, "--inh-caps=-all"]
        return ["setpriv", "--pdeathsig", "TERM", *drop, "--", *command]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment with this user's home and name in the place of root's."""
        if self.is_root:
            return dict(environ)
        return {**environ, "HOME": str(self.home), **({"USER": self.name, "LOGNAME": self.name} if self.name else {})}


def invoking(environ: Mapping[str, str], named: str = "") -> Identity:
    """The user who is named, by name or id; else who called sudo; else ourselves. Raises DevError."""
    if named:
        return _by_id(int(named)) if named.isascii() and named.isdigit() else _by_name(named)
    called = environ.get("SUDO_UID", "")
    if os.geteuid() == 0 and called.isascii() and called.isdigit():
        return _by_id(int(called))
    return _by_id(os.geteuid())


@contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """What is done to files inside is done as this user: nothing of root's is written where the user may put links.

    Of this thread's process: nothing else may go on meanwhile.
    """
    if identity.uid == os.geteuid():
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _by_id(uid: int) -> Identity:
    try:
        return _of(pwd.getpwuid(uid))
    except (KeyError, OverflowError):
        return Identity(uid, uid, "", Path("/"))


def _by_name(name: str) -> Identity:
    try:
        return _of(pwd.getpwnam(name))
    except (KeyError, ValueError):
        raise DevError(f"--user: there is no user {name!r}") from None


def _of(entry: pwd.struct_passwd) -> Identity:
    return Identity(entry.pw_uid, entry.pw_gid, entry.pw_name, Path(entry.pw_dir))
