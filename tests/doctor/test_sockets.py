"""Who listens: read from proc, and from what it looks like elsewhere."""

import os
import socket

from sp_proxy.doctor.sockets import Listening, as_held, listening, name_of, parse, process_of

TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:3E95 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1338        0 55501 1 0000000000000000 100
   1: 0100007F:3E95 0100007F:8E1C 01 00000000:00000000 00:00000000 00000000  1338        0 55502 1 0000000000000000 20
"""


def test_only_what_listens_counts():
    assert list(parse(TCP)) == [Listening(16021, 1338, 55501)]
    assert list(parse("")) == []


def test_our_own():
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as server:
            port = server.getsockname()[1]
            (found,) = [each for each in listening() if each.port == port]
            assert found.user == os.geteuid()
            assert process_of(found.inode) == os.getpid()
    assert process_of(1) is None


def test_what_a_process_has_is_its_users_whoever_made_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        inode = os.fstat(server.fileno()).st_ino
        mine, other = Listening(80, 4242, inode), Listening(81, 4242, 1)
        assert as_held([mine, other], os.getpid()) == [Listening(80, os.geteuid(), inode), other]
        assert as_held([mine, other], 2**22 + 1) == [mine, other]


def test_names():
    assert name_of(os.getpid()) != ""
    assert name_of(2**22 + 1) == ""
