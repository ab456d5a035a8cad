"""Spools without a daemon: found, verified, sent."""

import random
from functools import partial

import trio

from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.exporter.spool_tools import contents, find, send
from sp_proxy.settings.model import SettingsModel
from tests.exporter.filled_spool import STORED_UNIX, fill, payload
from tests.misbehaving_backend import answer, open_backend, refused_url


def settings(directory, url="http://127.0.0.1:9", **values) -> SettingsModel:
    base = {"sp_backend_url": url, "spool": {"directory": str(directory)}, "retry": {"initial_interval": "10ms"}}
    return SettingsModel.model_validate(base | values)


def sending(used: SettingsModel, seconds: float = 10.0):
    return partial(send, used, {}, seconds=seconds, clock=lambda: STORED_UNIX, randomness=random.Random(1).random)()


def test_nothing_to_find(tmp_path):
    assert find(settings(tmp_path), {}) == []
    assert find(settings(tmp_path / "missing"), {}) == []
    (tmp_path / "something else").mkdir()
    assert find(settings(tmp_path), {}) == []


def test_all_spools_are_found_also_those_of_no_exporter(tmp_path):
    fill(settings(tmp_path, "http://old:1"), 3)
    directory = fill(settings(tmp_path), 1, 2)
    (directory / "x.entry.damaged").write_bytes(b"")
    views = find(settings(tmp_path), {})
    found = {view.exporter: ([entry.records for entry in view.entries], view.set_aside) for view in views}
    assert found == {"": ([3], 0), "softprobe": ([1, 2], 1)}


def test_what_is_damaged_is_told_and_what_was_sent_meanwhile_is_not(tmp_path):
    directory = fill(settings(tmp_path), 1, 2, 3)
    (view,) = find(settings(tmp_path), {})
    first, second, _ = sorted(directory.glob("*.entry"))
    first.unlink()
    second.write_bytes(b"short")
    found = {entry.sequence: content for entry, content in contents(view)}
    assert found == {2: "ends after 5 bytes", 3: payload(3)}


async def test_send_empties_the_spool(tmp_path):
    async with open_backend(answer(503)) as backend:
        used = settings(tmp_path, backend.url, spool={"directory": str(tmp_path), "mode": "off"})
        directory = fill(used, 1, 2, 3)
        (result,) = await sending(used)
    assert (result.recovered, result.accepted, result.held, result.spool.problem) == (6, 6, 0, "")
    assert [path.name for path in directory.iterdir()] == ["lock"]
    assert len(backend.spans) in {7, 8, 9}  # one of the payloads was answered 503 first


async def test_send_leaves_what_nobody_takes(tmp_path):
    used = settings(tmp_path, refused_url())
    directory = fill(used, 1, 2, 3)
    with trio.fail_after(10):
        (result,) = await sending(used, 0.3)
    assert (result.accepted, result.held) == (0, 6)
    assert result.dropped == {}
    assert len(list(directory.glob("*.entry"))) == 3


async def test_send_does_not_take_a_spool_that_a_daemon_owns(tmp_path):
    async with open_backend() as backend:
        used = settings(tmp_path, backend.url)
        directory = fill(used, 1)
        owner = SpoolFiles(directory)
        owner.open()
        (result,) = await sending(used)
        owner.close()
    assert "in use by process" in result.spool.problem
    assert not backend.received


async def test_without_a_spool_there_is_nothing_to_do(tmp_path):
    assert await sending(settings(tmp_path)) == []
    assert not list(tmp_path.iterdir())
