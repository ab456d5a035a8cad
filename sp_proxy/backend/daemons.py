"""Asks the daemons that the settings name how they are: each within a time limit, all at once.

Pages that ask often, or many pages, ask the daemons once a second at most. The addresses come from the settings only.
"""

import ssl
import time
from collections.abc import Sequence

import httpx
import trio

from sp_proxy.backend.health import DaemonHealth, NotADaemonError, read_status
from sp_proxy.settings.backend import Daemon

TIME_LIMIT = 2.0
"""Seconds that a daemon has for its answers."""
MAX_ANSWER = 4 << 20
KEPT = 1.0
"""Seconds for which an answer is good."""
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing is asked over TLS, and httpx would read all of the system's authorities for each client: 40 ms."""


class Daemons:
    """The daemons of the settings."""

    def __init__(self, daemons: Sequence[Daemon]) -> None:
        self._daemons = tuple(daemons)
        self._asking = trio.Lock()
        self._known: list[DaemonHealth] = []
        self._asked_at = float("-inf")

    async def health(self) -> list[DaemonHealth]:
        """How each of them is, in the order of the settings. Takes ``TIME_LIMIT`` at most, and does not fail."""
        async with self._asking:
            if trio.current_time() - self._asked_at >= KEPT:
                self._known = await self._ask_all()
                self._asked_at = trio.current_time()
            return self._known

    async def _ask_all(self) -> list[DaemonHealth]:
        found: dict[int, DaemonHealth] = {}

        async def ask(number: int, daemon: Daemon) -> None:
            found[number] = await _health(client, daemon)

        if not self._daemons:
            return []
        async with _client() as client, trio.open_nursery() as nursery:
            for number, daemon in enumerate(self._daemons):
                nursery.start_soon(ask, number, daemon)
        return [found[number] for number in range(len(self._daemons))]


def _client() -> httpx.AsyncClient:
    # The time limit is on both answers of a daemon together.
    return httpx.AsyncClient(trust_env=False, timeout=None, verify=_NO_AUTHORITIES)  # noqa: S113


async def _health(client: httpx.AsyncClient, daemon: Daemon) -> DaemonHealth:
    status, problem = None, f"no answer within {TIME_LIMIT:.0f} seconds"
    now = time.time_ns()
    with trio.move_on_after(TIME_LIMIT):
        try:
            told = await _get(client, daemon, "/status")
            status = read_status(told, await _config(client, daemon))
            problem = ""
        except NotADaemonError as error:
            problem = str(error)
        except httpx.HTTPStatusError as error:
            problem = f"answered {error.response.status_code}"
        except httpx.HTTPError as error:
            problem = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DaemonHealth(
        name=daemon.name or str(daemon.address),
        address=str(daemon.address),
        asked_unix_ns=now,
        problem=problem,
        status=status,
    )


async def _config(client: httpx.AsyncClient, daemon: Daemon) -> bytes:
    """Its settings in force; nothing if it shows them to its own host only."""
    try:
        return await _get(client, daemon, "/config")
    except httpx.HTTPStatusError:
        return b""


async def _get(client: httpx.AsyncClient, daemon: Daemon, path: str) -> bytes:
    found = bytearray()
    url, headers = f"http://{daemon.address}{path}", {"accept-encoding": "identity"}
    with trio.CancelScope() as reading:
        async with client.stream("GET", url, headers=headers) as response:
            response.raise_for_status()
            async for piece in response.aiter_raw():
                found += piece
                if len(found) > MAX_ANSWER:
                    # Not an exception of ours, nor ``break``: httpx nests generators, and only what comes from within
                    # closes all of them.
                    reading.cancel()
    if len(found) > MAX_ANSWER:
        raise NotADaemonError(f"its answer is larger than {MAX_ANSWER >> 20} MiB")
    return bytes(found)
