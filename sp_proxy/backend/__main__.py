"""``python -m sp_proxy.backend``: the child process that ``process.py`` describes. People have ``sp-proxy backend``."""

import argparse
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial

import msgspec
import structlog
import trio
from pydantic import ValidationError

from sp_proxy import logs
from sp_proxy.backend.model import BackendError
from sp_proxy.backend.process import Start, Started, inherited_sockets, read_line
from sp_proxy.backend.serve import serve
from sp_proxy.settings.backend import Backend

CANNOT_START = 1
WRONG_USE = 2

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


async def child(control: socket.socket) -> int:
    """Serve until a signal, or until the parent's end of the socket closes. Returns the exit status."""
    control.setblocking(False)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(control))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        try:
            start = msgspec.json.decode(await read_line(stream), type=Start)
            settings = Backend.model_validate(start.settings)
        except (msgspec.DecodeError, ValidationError):
            # Not the values: they may be secrets.
            sys.stderr.write("sp_proxy.backend: what came over the control socket is not a start message\n")
            return WRONG_USE
        logs.configure(start.log_level, start.log_format, process="backend")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, signals, nursery.cancel_scope)
            nursery.start_soon(_end_with_parent, stream, nursery.cancel_scope)
            try:
                sockets = inherited_sockets(start.listen_fds) or None
                url = await nursery.start(partial(serve, settings, sockets=sockets))
            except (BackendError, OSError) as error:
                await _answer(stream, Started(error=str(error)))
                nursery.cancel_scope.cancel()
                return CANNOT_START
            await _answer(stream, Started(url=url))
    log.info("backend_stopped")
    return 0


async def _answer(stream: trio.SocketStream, started: Started) -> None:
    try:
        await stream.send_all(msgspec.json.encode(started) + b"\n")
    except trio.BrokenResourceError:
        log.debug("parent_gone")  # the task that watches its end says the rest


async def _end_on_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


async def _end_with_parent(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while await stream.receive_some(4096):
            pass
    except trio.BrokenResourceError:
        pass  # gone with unread bytes: gone all the same
    scope.cancel()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, the process's own by default."""
    parser = argparse.ArgumentParser(prog="python -m sp_proxy.backend", allow_abbrev=False)
    parser.add_argument("--control-fd", type=int, required=True, help="for programs; people use: sp-proxy backend")
    given = parser.parse_args(arguments)
    try:
        control = socket.socket(fileno=given.control_fd)
    except OSError:
        sys.stderr.write("sp_proxy.backend: --control-fd is not an open socket\n")
        return WRONG_USE
    with control:
        return trio.run(child, control)


if __name__ == "__main__":
    sys.exit(main())
