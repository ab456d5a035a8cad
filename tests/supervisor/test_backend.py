"""The embedded backend's keeper: it comes back, on the same socket, and its failures stay its own."""

from pathlib import Path

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from sp_proxy.core.restarts import RestartPolicy
from sp_proxy.settings.backend import Backend, Daemon
from sp_proxy.settings.model import Admin, SettingsModel
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.backend import beside, keep_backend
from sp_proxy.supervisor.sockets import bind_address

QUICK = RestartPolicy(initial=0.01, maximum=0.05)


def settings(database: str) -> SettingsModel:
    return SettingsModel(backend=Backend(enabled=True, listen=Address("127.0.0.1", 1), database=database))


async def test_it_serves_on_the_supervisors_socket_until_cancelled():
    (sock,) = bind_address("backend.listen", Address("127.0.0.1", 0))
    with sock, trio.fail_after(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_backend, settings(":memory:"), [sock])
            # Not started yet, perhaps: the request waits in the backlog, as it would during a restart.
            async with httpx.AsyncClient(trust_env=False, timeout=40) as client:
                answer = await client.get(f"http://127.0.0.1:{sock.getsockname()[1]}/api/v1/exchanges")
            assert answer.json()["exchanges"] == []
            nursery.cancel_scope.cancel()


async def test_one_that_cannot_start_is_tried_again_with_a_line_each_time(tmp_path: Path):
    (sock,) = bind_address("backend.listen", Address("127.0.0.1", 0))
    missing = tmp_path / "no-such-directory" / "store.sqlite3"
    with sock, trio.fail_after(60), capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_backend, settings(str(missing)), [sock], QUICK)
            while len(logs) < 2:  # noqa: ASYNC110  # the log is the only thing to watch
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert {line["event"] for line in logs} == {"backend_failed"}
    assert all("no-such-directory" in line["reason"] for line in logs)


@pytest.mark.parametrize(
    "listen, address", [("16021", "127.0.0.1:16021"), ("[::]:9", "[::1]:9"), ("10.0.0.1:9", "10.0.0.1:9")]
)
def test_it_shows_the_health_of_this_daemon_first(listen, address):
    other = Daemon(address=Address("127.0.0.1", 5), name="orders")
    asked = SettingsModel(admin=Admin(listen=Address.parse(listen)), backend=Backend(daemons=[other]))
    assert beside(asked).daemons == [Daemon(address=Address.parse(address), name="this daemon"), other]


def test_a_daemon_that_is_named_keeps_its_name_and_one_without_an_admin_server_is_not_asked():
    named = Backend(daemons=[Daemon(address=Address("127.0.0.1", 16021), name="orders")])
    assert beside(SettingsModel(backend=named)).daemons == named.daemons
    assert beside(SettingsModel(admin=Admin(enabled=False))).daemons == []
