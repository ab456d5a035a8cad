"""What systemd hears, on a real socket; the daemon as a whole is in ``test_run.py``."""

import os
import socket

import pytest
import trio

from sp_proxy.supervisor.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    name = str(tmp_path / "notify") if request.param == "path" else f"\0sp-proxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name)
        sock.settimeout(10)
        yield sock, name.replace("\0", "@")


def test_a_life(manager):
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.reloading()
    notifier.reloaded("no")
    notifier.ready("serving")
    assert sock.recv(100) == b"READY=1\nSTATUS=serving"
    notifier.reloading()
    assert sock.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.reloaded("again")
    assert sock.recv(100) == b"READY=1\nSTATUS=again"
    notifier.stopping()
    assert sock.recv(100).startswith(b"STOPPING=1\n")


async def test_signs_of_life_come_more_often_than_asked_for(manager, autojump_clock):
    sock, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())})
    with trio.move_on_after(21):
        await notifier.run()
    sock.setblocking(False)
    heard = 0
    while True:
        try:
            assert sock.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            break
        heard += 1
    assert heard == 6


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere/at/all"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "often"},
    ],
)
async def test_without_systemd_nothing_happens(environ):
    notifier = Notifier(environ)
    notifier.ready("x")
    notifier.reloading()
    notifier.stopping()
    await notifier.run()
