"""The backend as a child process, and what goes over the one socket between it and its parent.

``python -m sp_proxy.backend --control-fd N``: N is an inherited, connected Unix stream socket. The parent writes one
line, a ``Start`` in JSON (secrets in clear: the socket has no name, and an argument list would show them). The child
answers with one line, a ``Started``, when it listens or knows that it cannot. After that nothing is said, but when the
parent's end closes, the child ends: it never outlives a parent that was killed. SIGTERM and SIGINT end it too.
"""

import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import trio
from msgspec import Struct
from pydantic import SecretStr

from sp_proxy.backend.model import BackendError
from sp_proxy.settings.backend import Backend
from sp_proxy.settings.types import Address

GRACE_PERIOD = 10.0
"""Seconds that the child has for its own end before it is killed."""
MAX_LINE = 1 << 20
_READ = 65536


class Start(Struct, frozen=True):
    """What the parent says."""

    settings: dict[str, Any]
    """The ``backend`` section."""
    listen_fds: list[int] = []
    """Inherited listening sockets; none: the child binds ``settings.listen`` itself."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"


class Started(Struct, frozen=True):
    """What the child says: the URL, or in one line why it cannot start."""

    url: str = ""
    error: str = ""


def plain_settings(settings: Backend) -> dict[str, Any]:
    """The section as JSON has it, secrets in clear. Only for handing it to a child."""
    values: dict[str, Any] = _revealed(settings.model_dump())
    return values


def _revealed(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Address):
        return str(value)
    if isinstance(value, dict):
        return {key: _revealed(item) for key, item in value.items()}
    return [_revealed(item) for item in value] if isinstance(value, list) else value


async def read_line(stream: trio.abc.ReceiveStream) -> bytes:
    """One line, without its end; when the stream ends before, what there was."""
    line = bytearray()
    while b"\n" not in line and len(line) <= MAX_LINE:
        try:
            data = await stream.receive_some(_READ)
        except trio.BrokenResourceError:
            break
        if not data:
            break
        line += data
    return bytes(line.partition(b"\n")[0])


async def run_process(
    settings: Backend,
    *,
    sockets: Sequence[socket.socket] = (),
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    log_format: Literal["auto", "json", "console"] = "auto",
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the backend in a child process until cancelled; ``task_status`` gets its URL. The child then ends by itself,
    or is killed after the grace period. Raises BackendError when it cannot start or ends unasked.

    ``sockets`` are listening sockets for it to use instead of ``settings.listen``; they stay the caller's.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-m", "sp_proxy.backend", "--control-fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(), *(sock.fileno() for sock in sockets)),
                # A Ctrl-C at the terminal is the parent's affair: it may still have something to deliver here.
                start_new_session=True,
            )
        try:
            control = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            start = Start(
                settings=plain_settings(settings),
                listen_fds=[sock.fileno() for sock in sockets],
                log_level=log_level,
                log_format=log_format,
            )
            started = await _handshake(control, start)
            if started.error:
                raise BackendError(started.error)
            task_status.started(started.url)
            code = await process.wait()
            raise BackendError(f"the backend ended unasked ({_ending(code)})")
        finally:
            ours.close()
            with trio.CancelScope(shield=True):
                with trio.move_on_after(GRACE_PERIOD):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _handshake(control: trio.SocketStream, start: Start) -> Started:
    try:
        await control.send_all(msgspec.json.encode(start) + b"\n")
        return msgspec.json.decode(await read_line(control), type=Started)
    except (trio.BrokenResourceError, msgspec.DecodeError):
        return Started(error="the backend ended while it started, see its log")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def inherited_sockets(descriptors: Sequence[int]) -> list[socket.socket]:
    """Listening sockets from their descriptors."""
    sockets = []
    for descriptor in descriptors:
        sock = socket.socket(fileno=descriptor)
        sock.set_inheritable(False)
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
