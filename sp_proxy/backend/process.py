"""The backend as a child process of the daemon: what the parent hands over.

``python -m sp_proxy.backend --settings-fd N [--listen-fd N]... [--lifeline-fd N]``

- the settings are JSON in an anonymous file, secrets in clear: it has no name and is in no argument list. It is read
  from its beginning, so a restarted child can be given the same one;
- listening sockets, when there are any, are used instead of ``backend.listen``: a restart refuses no connection;
- the lifeline is the reading end of a pipe that the parent holds open: at its end of file the child ends too, so it
  never outlives a parent that was killed.

SIGTERM and SIGINT end it. Exit status 0 after a clean end, 1 when it cannot start (one log line says why), 2 for a wrong
command line.
"""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from sp_proxy.settings.model import Backend


class Handover(Struct, frozen=True):
    """What the anonymous file says."""

    backend: dict[str, Any]
    """The section, secrets in clear."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"


def handover_file(
    settings: Backend,
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    log_format: Literal["auto", "json", "console"] = "auto",
) -> int:
    """A descriptor of the anonymous file, to be passed on and in the end closed by the caller."""
    values = settings.model_dump(mode="json")
    values["token"] = settings.token.get_secret_value()
    values["public_keys"] = [key.get_secret_value() for key in settings.public_keys]
    descriptor = os.memfd_create("sp-proxy-backend-settings")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(msgspec.json.encode(Handover(values, log_level, log_format)))
    return descriptor


def read_handover(descriptor: int) -> Handover:
    """Read the anonymous file; its offset, which a restarted child would share, stays where it is."""
    size = os.fstat(descriptor).st_size
    return msgspec.json.decode(os.pread(descriptor, size, 0), type=Handover)


def command(settings_fd: int, listen_fds: Sequence[int] = (), lifeline_fd: int | None = None) -> list[str]:
    """The command line of the child. All these descriptors must be passed to it."""
    line = [sys.executable, "-P", "-m", "sp_proxy.backend", "--settings-fd", str(settings_fd)]
    for descriptor in listen_fds:
        line += ["--listen-fd", str(descriptor)]
    if lifeline_fd is not None:
        line += ["--lifeline-fd", str(lifeline_fd)]
    return line


def inherited_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Listening sockets from their descriptors."""
    sockets = []
    for descriptor in descriptors:
        sock = socket.socket(fileno=descriptor)
        sock.set_inheritable(False)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
