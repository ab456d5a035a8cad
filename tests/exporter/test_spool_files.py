"""Files of the spool: whole or not at all, verified, one owner."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sp_proxy.core.spool_index import Entry
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.spool_files import (
    HEAD_BYTES,
    MAX_DAMAGED,
    DamagedError,
    SpoolFiles,
    damaged,
    entry_name,
    read,
    scan,
)
from sp_proxy.exporter.spool_owner import SpoolBusyError, SpoolError

PAYLOAD = Payload(b"some body" * 20, 7, "gzip", 1000)


def entry_of(payload: Payload = PAYLOAD, sequence: int = 1) -> Entry:
    return Entry(sequence, payload.records, HEAD_BYTES + len(payload.body), 1_700_000_000.123)


@pytest.fixture
def files(tmp_path):
    made = SpoolFiles(tmp_path / "state" / "spool")
    made.open()
    yield made
    made.close()


@pytest.mark.parametrize("fsync", [False, True])
@pytest.mark.parametrize("payload", [PAYLOAD, Payload(b"", 0, "", 0), Payload(bytes(1 << 20), 512, "", 1 << 20)])
def test_what_was_stored_comes_back_also_after_a_restart(tmp_path, fsync, payload):
    files = SpoolFiles(tmp_path / "spool", fsync=fsync)
    assert files.open().entries == []
    files.write(entry_of(payload), payload)
    files.close()
    found = files.open()
    assert found.entries == [entry_of(payload)]
    assert found.foreign == []
    assert files.read(found.entries[0]) == payload
    files.remove(found.entries[0])
    files.remove(found.entries[0])
    assert scan(files.directory).entries == []
    files.close()


def test_only_the_owner_may_read(files):
    files.write(entry_of(), PAYLOAD)
    assert files.directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files.directory.iterdir()} == {0o600}


def test_one_process_owns_it(files):
    other = SpoolFiles(files.directory)
    with pytest.raises(SpoolBusyError, match=rf"in use by process {os.getpid()}; each daemon needs a spool\.directory"):
        other.open()
    assert not other.is_open
    files.close()
    other.open()
    other.close()
    other.close()


def test_an_owner_that_did_not_say_who_it_is(files):
    (files.directory / "lock").write_bytes(b"")
    with pytest.raises(SpoolBusyError, match="in use by another process"):
        SpoolFiles(files.directory).open()


def test_who_is_refused_leaves_no_descriptor(files):
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        with pytest.raises(SpoolBusyError):
            SpoolFiles(files.directory).open()
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_it_can_be_looked_at_while_another_owns_it(files):
    files.write(entry_of(), PAYLOAD)
    assert [read(files.directory, entry) for entry in scan(files.directory).entries] == [PAYLOAD]


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_directory_that_cannot_be_is_one_line(tmp_path, what):
    place = tmp_path / "place"
    if what == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(SpoolError) as caught:
        SpoolFiles(place).open()
    assert str(place) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError):
        SpoolFiles(tmp_path).open()
    assert not (tmp_path / "elsewhere").exists()


def test_what_its_name_leads_to_later_does_not_matter(files, tmp_path):
    files.write(entry_of(), PAYLOAD)
    moved = files.directory.rename(tmp_path / "moved")
    files.directory.mkdir()
    assert files.read(entry_of()) == PAYLOAD
    files.write(entry_of(sequence=2), PAYLOAD)
    files.set_aside(entry_of())
    files.remove(entry_of(sequence=2))
    assert not list(files.directory.iterdir())
    assert {path.name for path in moved.iterdir()} == {"lock", f"{entry_name(entry_of())}.damaged"}


def test_a_directory_that_looks_half_written_does_not_stop_the_start(files):
    files.close()
    (files.directory / "a.tmp").mkdir()
    (files.directory / "b.tmp").write_bytes(b"")
    files.open()
    assert {path.name for path in files.directory.iterdir()} == {"lock", "a.tmp"}


def test_an_entry_that_is_not_on_the_disk_for_certain_does_not_come_back(tmp_path, monkeypatch):
    """The directory's fsync fails: the caller keeps the payload, so it must not be found as well."""
    files = SpoolFiles(tmp_path / "spool", fsync=True)
    files.open()
    real = os.fsync

    def failing(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr("sp_proxy.exporter.spool_files.os.fsync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        files.write(entry_of(), PAYLOAD)
    assert scan(files.directory).entries == []
    assert [path.name for path in files.directory.iterdir()] == ["lock"]
    files.close()


def test_with_fsync_new_directories_are_on_the_disk_too_in_order(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.fsync

    def noting(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
        real(fd)

    monkeypatch.setattr("sp_proxy.exporter.spool_files.os.fsync", noting)
    files = SpoolFiles(tmp_path / "a" / "b", fsync=True)
    files.open()
    assert synced == [str(tmp_path / "a"), str(tmp_path)]
    synced.clear()
    files.write(entry_of(), PAYLOAD)
    assert synced == [str(files.directory / f"{entry_name(entry_of())}.tmp"), str(files.directory)]
    files.close()


def test_after_a_crash_what_is_half_written_is_gone(files):
    files.close()
    (files.directory / f"{entry_name(entry_of())}.tmp").write_bytes(b"SPSPOOL1half")
    assert files.open().entries == []
    assert [path.name for path in files.directory.iterdir()] == ["lock"]


def test_what_cannot_be_an_entry_is_set_aside(files):
    files.close()
    names = ["x.entry", "0-0-0.entry", entry_name(entry_of()), f"{1:016x}-{5:012x}-9.entry"]
    for name in names:
        (files.directory / name).write_bytes(b"")
    (files.directory / f"{2:016x}-{5:012x}-9.entry").mkdir()
    found = files.open()
    assert len(found.entries) == 1
    assert len(found.foreign) == 4
    assert len(list(damaged(files.directory))) == 4
    assert scan(files.directory).foreign == []


@given(data=st.data())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_truncation_and_any_flipped_bit_is_found(files, data):
    entry = entry_of()
    files.write(entry, PAYLOAD)
    path = files.directory / entry_name(entry)
    content = path.read_bytes()
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        content = bytes(flipped)
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        files.read(scan(files.directory).entries[0])
    files.set_aside(entry)
    assert scan(files.directory).entries == []


def test_longer_than_stored_or_renamed_is_found(files):
    files.write(entry_of(), PAYLOAD)
    path = files.directory / entry_name(entry_of())
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(DamagedError, match="the body has"):
        files.read(scan(files.directory).entries[0])
    path.write_bytes(path.read_bytes()[:-1])
    renamed = Entry(1, 8, path.stat().st_size, 1_700_000_000.123)
    path.rename(files.directory / entry_name(renamed))
    with pytest.raises(DamagedError, match="the name"):
        files.read(renamed)


def test_an_entry_that_somebody_deleted_is_damaged(files):
    with pytest.raises(DamagedError, match="No such file"):
        files.read(entry_of())
    files.set_aside(entry_of())


def test_an_entry_that_may_not_be_read_now_is_not_damaged(files, monkeypatch):
    def refuse(*_args: object, **_more: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    files.write(entry_of(), PAYLOAD)
    monkeypatch.setattr("sp_proxy.exporter.spool_files.os.open", refuse)
    with pytest.raises(PermissionError):
        files.read(entry_of())


def test_damaged_files_are_kept_but_not_for_ever(files):
    for sequence in range(1, MAX_DAMAGED + 6):
        entry = entry_of(sequence=sequence)
        files.write(entry, PAYLOAD)
        files.set_aside(entry)
    kept = sorted(damaged(files.directory))
    assert len(kept) == MAX_DAMAGED
    assert kept[-1].startswith(f"{MAX_DAMAGED + 5:016x}")


def test_a_disk_that_fills_up_within_an_entry_leaves_nothing_half_written(files):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as a full disk: a part is written, then an error
    try:
        with pytest.raises(OSError, match="too large"):
            files.write(entry_of(), PAYLOAD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in files.directory.iterdir()] == ["lock"]
    files.write(entry_of(), PAYLOAD)
    assert files.read(entry_of()) == PAYLOAD


WRITER = """
import sys
from pathlib import Path
from sp_proxy.core.spool_index import Entry
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.spool_files import HEAD_BYTES, SpoolFiles

files = SpoolFiles(Path(sys.argv[1]))
first = max((entry.sequence for entry in files.open().entries), default=0) + 1
for sequence in range(first, first + 100000):
    body = sequence.to_bytes(8) * 4096
    files.write(Entry(sequence, sequence, HEAD_BYTES + len(body), 1.0), Payload(body, sequence, "", len(body)))
    print(sequence, flush=True)
"""


def test_killed_at_any_moment_nothing_that_was_stored_is_lost_or_damaged(tmp_path):
    said = 0
    for lines in (1, 7, 20, 3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(lines):
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().split()
            said = int(rest[-1]) if rest and rest[-1].isdigit() else said
        files = SpoolFiles(tmp_path)
        found = files.open()
        assert [entry.sequence for entry in found.entries] == list(range(1, len(found.entries) + 1))
        assert len(found.entries) in {said, said + 1}
        for entry in found.entries:
            assert files.read(entry).body == entry.sequence.to_bytes(8) * 4096
        files.close()
    assert not list(tmp_path.glob("*.tmp"))
