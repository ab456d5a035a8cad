"""How the services are: looked at every second, and more often until they are up, in a thread of its own.

Directly, so nothing of it is captured.
"""

import http.client
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from sp_proxy.dev.layout import LOOPBACK
from sp_proxy.dev.stage import Member

_PAUSE_SECONDS = 1.0
_STARTING_PAUSE_SECONDS = 0.1
_TIMEOUT_SECONDS = 2.0
STARTING, UP, DOWN, RUNNING = "starting", "up", "down", "running"


class Health:
    """The states of all services. A context manager: the looking ends with it."""

    def __init__(self, members: list[Member]) -> None:
        self._members = members
        self._states = {member.name: STARTING if member.inbound else RUNNING for member in members}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, name="health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_TIMEOUT_SECONDS * 2)

    def states(self) -> Mapping[str, str]:
        """By service, for a person: starting, up, down, running (it has no port), unhealthy and why, ended and how."""
        return {member.name: _ended(member) or self._states[member.name] for member in self._members}

    def _look(self) -> None:
        while not self._end.is_set():
            for member in self._members:
                if member.inbound and not _ended(member):
                    # The namespace may go while it is looked at.
                    with suppress(RuntimeError):
                        self._states[member.name] = state_after(self._states[member.name], probe(member))
            starting = STARTING in self.states().values()
            self._end.wait(_STARTING_PAUSE_SECONDS if starting else _PAUSE_SECONDS)


def state_after(before: str, found: str) -> str:
    """The state after a look: what has never been up is still starting."""
    return before if found == DOWN and before == STARTING else found


def probe(member: Member) -> str:
    """One look: up, down, or unhealthy and why."""
    assert member.inbound
    port, path = member.inbound.to, member.service.health
    for host in (LOOPBACK, "::1"):
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        try:
            member.place.call(connection.connect)
            if not path:
                return UP
            connection.request("GET", path, headers={"connection": "close"})
            status = connection.getresponse().status
        except OSError:
            continue
        except http.client.HTTPException:
            return "unhealthy (no HTTP)"
        else:
            return UP if status < 400 else f"unhealthy ({status})"
        finally:
            connection.close()
    return DOWN


def _ended(member: Member) -> str:
    code = member.running.exit_code if member.running else None
    return "" if code is None else f"ended ({code})"
