"""Connections of processes, as the kernel tells them: those of this very one."""

import os
import socket
import subprocess
import sys

from benchmarks.chaos.connections import Connection, connections


def test_what_is_open_here_and_nothing_else():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, server.accept()[0]:
            local = client.getsockname()[1]
            both = {Connection(local, port), Connection(port, local)}
            assert both <= set(connections([os.getpid()]))
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
                assert connections([other.pid]) == []
                other.communicate()
            assert connections([other.pid]) == []
        assert not both & set(connections([os.getpid()]))


def test_of_ip_version_6_too():
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("::1", port)) as client, server.accept()[0]:
            assert Connection(client.getsockname()[1], port) in connections([os.getpid()])
