"""Looking as somebody else."""

import os
from pathlib import Path

from sp_proxy.doctor.acting import acting_as
from sp_proxy.doctor.findings import Area, Finding
from tests.requirements import require_root_tools

AREA = Area("test")


def look() -> list[Finding]:
    return [AREA.ok(f"{os.getuid()} {os.getgid()} {os.getgroups()}")]


def test_as_ourselves():
    assert acting_as(None, look) == acting_as(os.geteuid(), look) == look()


def test_as_another_user(tmp_path: Path):
    require_root_tools()
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)

    def read() -> list[Finding]:
        try:
            return [AREA.ok(secret.read_text())]
        except PermissionError:
            return [AREA.fail("no", "")]

    assert [each.text for each in acting_as(1338, look)] == ["1338 1338 []"]
    assert [each.text for each in acting_as(1338, read)] == ["no"]
    assert os.geteuid() == 0


def test_a_look_that_fails_is_said(capfd):
    require_root_tools()

    def fail() -> list[Finding]:
        raise ZeroDivisionError

    (found,) = acting_as(1338, fail)
    assert found.text == "nothing could be looked at as user 1338"
