"""Whose a spool's directory is: nobody else's, and of one process at a time."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sp_proxy.exporter.spool_owner import SpoolBusyError, SpoolError, lock, open_directory
from tests.requirements import require_root_tools


def test_a_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError, match=r"spool: is a symbolic link$"):
        open_directory(tmp_path / "spool")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_directory_of_ours_that_others_may_use_is_closed_to_them(tmp_path):
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o2777)
    os.close(open_directory(tmp_path / "spool"))
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def as_user(directory: Path, user: int) -> str:
    """What another user is told who opens it."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from sp_proxy.exporter.spool_owner import SpoolError, open_directory\n"
        f"os.setgid({user}); os.setuid({user})\n"
        "try: open_directory(Path(sys.argv[1])); print('open')\n"
        "except SpoolError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_directory_that_somebody_else_has_prepared_is_not_taken():
    """As in a place where everybody may write."""
    require_root_tools()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o1777)
        spool = Path(place) / "spool"
        spool.mkdir(mode=0o777)
        spool.chmod(0o777)
        os.chown(spool, 12345, 12345)
        assert as_user(spool, 23456) == f"spool {spool}: belongs to another user (12345)"
        os.chown(spool, 0, 0)
        assert as_user(spool, 23456) == f"spool {spool}: other users may write to it"
        assert not list(spool.iterdir())
        os.chown(spool, 23456, 23456)
        assert as_user(spool, 23456) == "open"
        assert spool.stat().st_mode & 0o777 == 0o700


def test_a_directory_is_locked_until_the_lock_is_closed(tmp_path):
    directory = open_directory(tmp_path / "a" / "b")
    held = lock(tmp_path, directory)
    with pytest.raises(SpoolBusyError, match=f"in use by process {os.getpid()}"):
        lock(tmp_path, directory)
    os.close(held)
    os.close(lock(tmp_path, directory))
    os.close(directory)
