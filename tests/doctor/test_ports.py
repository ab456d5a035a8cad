"""Ports that are taken, free, missing or ill chosen."""

import os
import socket

import pytest

from sp_proxy.doctor import ports
from sp_proxy.doctor.findings import Verdict
from sp_proxy.doctor.sockets import Listening
from sp_proxy.settings.model import SettingsModel

SETTINGS = SettingsModel(public_key="k")
OWN = [Listening(port, 1338, 1) for port in (16006, 16001, 16021)]


def found(listening, *, runs, users=(1338,), settings=SETTINGS):
    return {(each.verdict, each.text): each.advice for each in ports.judge(settings, listening, runs=runs, users=users)}


def test_its_own_and_free():
    assert list(found(OWN, runs=True)) == [(Verdict.OK, "16006, 16001, 16021: its own")]
    assert list(found([], runs=False, users=())) == [(Verdict.OK, "16006, 16001, 16021: free")]


def test_taken_by_another_user_and_missing():
    made = found([OWN[0], Listening(16001, 1000, 1)], runs=True)
    verdicts = {text.partition(":")[0]: verdict for verdict, text in made}
    assert verdicts == {"listen.outbound": Verdict.FAIL, "admin.listen": Verdict.FAIL, "16006": Verdict.OK}


def test_taken_while_no_daemon_runs_by_a_process_with_a_name():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        inode = os.fstat(server.fileno()).st_ino
        settings = SettingsModel(public_key="k", admin={"listen": f"127.0.0.1:{port}"})
        made = found([Listening(port, os.geteuid(), inode)], runs=False, users=(), settings=settings)
    (text,) = [text for verdict, text in made if verdict is Verdict.FAIL]
    assert f"port {port} is taken by process {os.getpid()} (" in text


@pytest.mark.parametrize("port", [16007, 16008])
def test_nobody_listens_where_heartbeats_are_sent(port):
    made = found([*OWN, Listening(port, 5, 1)], runs=True)
    ((_, text),) = [key for key in made if key[0] is Verdict.WARN]
    assert f"user 5 listens on port {port}" in text


def test_ports_that_outgoing_connections_use(tmp_path):
    path = tmp_path / "range"
    path.write_text("16000\t16010\n")
    keys = [each.text.partition(":")[0] for each in ports._ephemeral(SETTINGS, path)]
    assert keys == ["listen.inbound", "listen.outbound"]
    assert list(ports._ephemeral(SETTINGS, tmp_path / "none")) == []
