import os
import subprocess
import sys
from pathlib import Path

import pytest

from sp_proxy.demo import access
from sp_proxy.demo.places import identity
from tests.requirements import require_root_tools


def test_the_outermost_of_paths():
    paths = [Path("/a/b"), Path("/a"), Path("/a/b/c"), Path("/ab"), Path("/c/d")]
    assert access.outermost(paths) == [Path("/a"), Path("/ab"), Path("/c/d")]


def test_what_python_needs_holds_this_project_and_its_interpreter():
    needed = access.needed_paths()
    for path in (Path(access.__file__), Path(sys.executable), Path(sys.executable).resolve(), Path(os.__file__)):
        assert any(path.is_relative_to(each) for each in needed), path


@pytest.fixture
def closed(tmp_path):
    """A directory in one that is closed to others."""
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o001)
    private = tmp_path / "private"
    (private / "deep" / "project").mkdir(parents=True)
    private.chmod(0o700)
    (private / "deep").chmod(0o700)
    (private / "secret").write_text("nobody's business")
    return private


def test_closed_directories_are_found(closed):
    assert access.closed_directories([closed / "deep" / "project", closed / "deep"]) == [closed]
    assert access.closed_directories([closed]) == []


def test_an_open_installation_needs_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(access, "closed_directories", lambda _paths: [])
    assert access.opener(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_stranger_sees_what_is_needed_and_nothing_else(closed, monkeypatch, tmp_path):
    require_root_tools("unshare", "mount", "setpriv")
    project = closed / "deep" / "project"
    (project / "file").write_text("hello")
    monkeypatch.setattr(access, "needed_paths", lambda: [project, Path("/usr")])
    command = [*access.opener(tmp_path), *identity(1338), "sh", "-c"]

    def stranger(script: str) -> str:
        done = subprocess.run([*command, script], capture_output=True, text=True, check=False, cwd="/")
        return done.stdout + done.stderr

    assert stranger(f"cat {project}/file") == "hello"
    assert "No such file" in stranger(f"cat {closed}/secret")
    assert stranger("id -u; grep Cap[EP] /proc/self/status | sort -u | cut -f2").split() == ["1338", *["0" * 16] * 2]
    assert (closed / "secret").read_text() == "nobody's business"  # nothing has changed for us
    assert str(closed) not in Path("/proc/self/mounts").read_text()
