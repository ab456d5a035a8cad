"""Places on disk, real ones."""

import os
import time

import pytest

from sp_proxy.core.spool_index import Entry
from sp_proxy.doctor import disk
from sp_proxy.doctor.disk import Room
from sp_proxy.doctor.findings import Verdict
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.routes import spool_directories
from sp_proxy.exporter.spool_files import SpoolFiles
from sp_proxy.settings.model import SettingsModel

MIB = 1 << 20


@pytest.mark.parametrize(
    "room, verdict",
    [
        (Room("", 5000 * MIB), Verdict.OK),
        (Room("", 500 * MIB), Verdict.WARN),
        (Room("", 50 * MIB), Verdict.FAIL),
        (Room("", 5000 * MIB, 0), Verdict.FAIL),
        (Room("cannot be written (read-only file system)"), Verdict.FAIL),
    ],
)
def test_room(room, verdict):
    found = disk.judge("here", room, 1024 * MIB, "spool.max_size")
    assert found.verdict is verdict
    assert bool(found.advice) is (verdict is not Verdict.OK)


def test_looking_leaves_nothing_behind(tmp_path):
    found = disk.room(tmp_path / "not" / "yet")
    assert found.problem == ""
    assert found.free > 0
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert disk.room(tmp_path / "file").problem.startswith("cannot be written (")


def settings(directory, **values) -> SettingsModel:
    return SettingsModel(sp_backend_url="http://b:1", public_key="k", spool={"directory": str(directory)}, **values)


def store(directory, hours: float) -> None:
    files = SpoolFiles(directory)
    files.open()
    files.write(Entry(1, 3, 100, round(time.time() - 3600 * hours, 3)), Payload(b"x", 3, "", 1))
    files.close()


@pytest.mark.parametrize("hours, verdict", [(0.1, Verdict.OK), (5, Verdict.WARN)])
def test_what_waits_in_a_spool(tmp_path, hours, verdict):
    made = settings(tmp_path)
    (directory,) = spool_directories(made, {}).values()
    store(directory, hours)
    (directory / "0000.damaged").write_text("")
    found = {each.text.partition(": ")[2].partition(" ")[2]: each.verdict for each in disk.examine(made, {})}
    assert found["damaged files were set aside"] is Verdict.WARN
    assert found[f"payloads wait, the oldest for {hours:.1f} h"] is verdict


def test_a_spool_of_nobody(tmp_path):
    store(tmp_path / "gone-00000000", 0.1)
    assert any("no exporter of the settings is theirs" in each.text for each in disk.examine(settings(tmp_path), {}))


def test_without_a_spool_and_with_a_store(tmp_path):
    made = SettingsModel(
        sp_backend_url="http://b:1",
        public_key="k",
        spool={"mode": "off"},
        backend={"enabled": True, "database": str(tmp_path / "s.sqlite3")},
    )
    first, second = disk.examine(made, {})
    assert first.verdict is Verdict.WARN
    assert str(tmp_path / "s.sqlite3") in second.text


def test_files_of_exporters(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    files = [tmp_path / "here.jsonl", tmp_path / "not" / "there.jsonl", tmp_path / "pipe"]
    exporters = [{"type": "file", "name": f"f{i}", "path": str(path), "max_size": MIB} for i, path in enumerate(files)]
    here, missing = (f for f in disk.examine(settings(tmp_path, exporters=exporters), {}) if "file of" in f.text)
    assert here.verdict is not Verdict.FAIL
    assert here.text.startswith(f"file of exporters[0], {tmp_path}/here.jsonl: ")
    assert missing.verdict is Verdict.FAIL
    assert missing.text.endswith(f"there is no directory {tmp_path}/not")
    assert not files[0].exists()
