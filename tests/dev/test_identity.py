import os
from pathlib import Path

import pytest

from sp_proxy.dev.errors import DevError
from sp_proxy.dev.identity import Identity, acting_as, invoking
from tests.requirements import require_root_tools

ANN = Identity(4001, 4002, "ann", Path("/home/ann"))


def test_who_called_sudo_is_meant():
    require_root_tools()
    assert invoking({"SUDO_UID": "65534"}).uid == 65534
    assert invoking({}).is_root
    assert invoking({"SUDO_UID": "nonsense"}).is_root
    assert invoking({"SUDO_UID": "65534"}, "root").is_root


def test_who_is_named_is_meant():
    assert invoking({}, "root").uid == 0
    assert invoking({}, "123456789") == Identity(123456789, 123456789, "", Path("/"))
    with pytest.raises(DevError, match="--user: there is no user 'nobody-of-this-name'"):
        invoking({}, "nobody-of-this-name")


def test_a_command_without_a_right_of_roots():
    command = ANN.command(["npm", "start"])
    assert command[-3:] == ["--", "npm", "start"]
    assert {"--reuid=4001", "--regid=4002", "--init-groups", "--inh-caps=-all"} < set(command)
    assert "--clear-groups" in Identity(5, 5, "", Path("/")).command(["x"])
    assert "--reuid=0" not in invoking({}, "root").command(["x"])


def test_home_and_name_are_the_users():
    assert ANN.environment({"HOME": "/h", "A": "b"}) == {"HOME": "/home/ann", "USER": "ann", "LOGNAME": "ann", "A": "b"}
    assert Identity(0, 0, "root", Path("/")).environment({"HOME": "/h"}) == {"HOME": "/h"}


def test_files_are_the_users(tmp_path):
    require_root_tools()
    tmp_path.chmod(0o777)
    other = Identity(4001, 4002, "", Path("/"))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with acting_as(other):
            made = os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
            os.close(made)
            assert os.geteuid() == 4001
        status = os.stat("made", dir_fd=descriptor)
    finally:
        os.close(descriptor)
    assert (status.st_uid, status.st_gid) == (4001, 4002)
    assert (os.geteuid(), os.getegid()) == (0, 0)
