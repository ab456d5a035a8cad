"""Where spools are. A place that cannot be made is one below a file: that stops root as well."""

from pathlib import Path

import pytest

from sp_proxy.exporter.spool_place import can_be_made, spool_directory, spool_root


@pytest.fixture
def blocked(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "below"


def test_the_setting_is_taken_as_it_is(blocked, tmp_path):
    assert spool_root("relative/place", {}, blocked) == Path("relative/place")
    assert spool_root(str(tmp_path / "x"), {"HOME": "/"}, tmp_path) == tmp_path / "x"


def test_the_systems_place_comes_first(tmp_path):
    assert spool_root("", {"HOME": str(tmp_path / "home")}, tmp_path / "system") == tmp_path / "system"
    assert not (tmp_path / "system").exists()


def test_then_the_users_state(blocked, tmp_path):
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "HOME": str(tmp_path / "home")}
    assert spool_root("", environ, blocked) == tmp_path / "state" / "sp-proxy"
    assert spool_root("", {"HOME": str(tmp_path / "home")}, blocked) == tmp_path / "home/.local/state/sp-proxy"
    environ["XDG_STATE_HOME"] = str(blocked)
    assert spool_root("", environ, blocked) == tmp_path / "home/.local/state/sp-proxy"


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}, {"XDG_STATE_HOME": "", "HOME": ""}])
def test_without_any_place_there_is_none(blocked, environ):
    assert spool_root("", environ, blocked) is None


def test_what_can_be_made(tmp_path, blocked):
    assert can_be_made(tmp_path)
    assert can_be_made(tmp_path / "a" / "b" / "c")
    assert not can_be_made(blocked)
    assert not can_be_made(tmp_path / "file")
    assert not can_be_made(tmp_path / ("x" * 300))


def test_each_destination_has_its_own_which_says_where_it_sends_to(tmp_path):
    first = spool_directory(tmp_path, "softprobe", "https://a/v1/traces")
    assert first.parent == tmp_path
    assert first.name.startswith("softprobe-")
    assert first == spool_directory(tmp_path, "softprobe", "https://a/v1/traces")
    assert first != spool_directory(tmp_path, "softprobe", "https://b/v1/traces")
    assert first != spool_directory(tmp_path, "other", "https://a/v1/traces")
