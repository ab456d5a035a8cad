"""The spool against a model: random operations, crashes, truncation and flipped bits. No record is lost uncounted."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sp_proxy.core.spool_index import Entry, SpoolLimits
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.spool import Spool, SpoolFullError
from sp_proxy.exporter.spool_files import HEAD_BYTES, SpoolFiles, entry_name
from sp_proxy.exporter.spool_owner import SpoolError

LIMITS = SpoolLimits(max_bytes=10 * (HEAD_BYTES + 100), max_age=100.0)


def names(directory: Path, pattern: str = "*") -> list[str]:
    return sorted(path.name for path in directory.glob(pattern))


def payload(number: int, size: int = 100) -> Payload:
    return Payload(number.to_bytes(4) + bytes(size - 4), number, "", size)


@dataclass
class Life:
    """A spool from one start to its end, and what it told."""

    directory: Path
    limits: SpoolLimits = LIMITS
    now: float = 1000.0
    """Unix time."""
    set_forward: float = 0.0
    """So much of it has not passed: the clock was set."""
    recovered: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.files = SpoolFiles(self.directory)
        self.spool = Spool(
            self.files,
            self.limits,
            clock=lambda: self.now,
            on_recovered=self._recovered,
            on_lost=self._lost,
            steady=lambda: self.now - self.set_forward,
        )

    def _recovered(self, records: int) -> None:
        self.recovered += records

    def _lost(self, reason: str, records: int) -> None:
        self.lost[reason] += records

    def crash(self) -> None:
        """As a killed process: nothing is done any more, the lock goes."""
        self.files.close()


async def test_first_in_first_out_and_gone_when_decided(tmp_path):
    life = Life(tmp_path)
    for number in (1, 2, 3):
        await life.spool.append(payload(number))
    for number in (1, 2, 3):
        got = await life.spool.lease()
        assert got is not None
        assert got[1] == payload(number)
        life.spool.ack(got[0])
    assert await life.spool.lease() is None
    assert names(tmp_path) != ["lock"]
    await life.spool.close()
    assert names(tmp_path) == ["lock"]


async def test_leased_is_back_after_a_restart_and_counted_as_recovered(tmp_path):
    life = Life(tmp_path)
    await life.spool.append(payload(5))
    await life.spool.append(payload(6), leased=True)
    assert await life.spool.lease() is not None
    life.crash()
    again = Life(tmp_path)
    assert again.spool.exists
    await again.spool.open()
    await again.spool.open()
    assert again.recovered == 11
    assert [(await again.spool.lease() or ())[1:] for _ in range(2)] == [(payload(5),), (payload(6),)]
    await again.spool.close()


async def test_it_is_made_when_it_is_needed(tmp_path):
    life = Life(tmp_path / "a" / "b")
    assert not life.spool.exists
    await life.spool.append(payload(1))
    assert life.spool.exists
    await life.spool.close()


async def test_where_nobody_can_look_there_is_none_and_none_can_be_opened(tmp_path):
    life = Life(tmp_path / ("n" * 300))
    assert not life.spool.exists
    with pytest.raises(SpoolError, match="File name too long"):
        await life.spool.open()


async def test_the_oldest_make_room_and_are_counted(tmp_path):
    life = Life(tmp_path)
    for number in range(1, 14):
        await life.spool.append(payload(number))
    assert life.lost == {"evicted": 1 + 2 + 3}
    assert life.spool.index.size <= LIMITS.max_bytes
    assert len(list(tmp_path.glob("*.entry"))) == 10
    with pytest.raises(SpoolFullError):
        await life.spool.append(payload(14, LIMITS.max_bytes))
    await life.spool.close()


async def test_what_is_too_old_goes(tmp_path):
    life = Life(tmp_path)
    await life.spool.append(payload(1))
    life.now += 50
    await life.spool.append(payload(2))
    life.now += 51
    await life.spool.tidy()
    assert life.lost == {"evicted": 1}
    life.crash()
    again = Life(tmp_path, now=life.now + 100)
    await again.spool.open()
    assert (again.recovered, again.lost) == (2, {"evicted": 2})
    await again.spool.close()


@pytest.mark.parametrize("seconds", [1e9, -500.0])
async def test_a_wall_clock_that_is_set_makes_nothing_older(tmp_path, seconds):
    """As on a machine without a clock of its own, when it learns what time it is."""
    earlier = Life(tmp_path)
    await earlier.spool.append(payload(1))
    earlier.crash()
    life = Life(tmp_path, now=1050.0)
    await life.spool.append(payload(2))
    life.now += seconds
    life.set_forward = seconds
    await life.spool.tidy()
    await life.spool.append(payload(3))
    assert life.lost == {}
    life.now += 51
    await life.spool.tidy()
    assert life.lost == {"evicted": 1}  # 101 s old by now
    life.now += 50
    await life.spool.tidy()
    assert life.lost == {"evicted": 1 + 2 + 3}
    await life.spool.close()


async def test_what_was_stored_in_the_future_is_new(tmp_path):
    earlier = Life(tmp_path, now=1e9)
    await earlier.spool.append(payload(1))
    earlier.crash()
    life = Life(tmp_path)
    await life.spool.open()
    life.now += 100
    await life.spool.tidy()
    assert life.lost == {}
    life.now += 1
    await life.spool.tidy()
    assert life.lost == {"evicted": 1}
    await life.spool.close()


async def test_smaller_limits_hold_for_what_an_earlier_life_has_left(tmp_path):
    life = Life(tmp_path)
    for number in range(1, 11):
        await life.spool.append(payload(number))
    life.crash()
    again = Life(tmp_path, SpoolLimits(2 * (HEAD_BYTES + 100), 100.0))
    await again.spool.open()
    assert (again.recovered, again.lost) == (55, {"evicted": 36})
    await again.spool.close()


async def test_a_damaged_entry_is_passed_over_and_counted(tmp_path):
    life = Life(tmp_path)
    entry = await life.spool.append(payload(7))
    await life.spool.append(payload(8))
    (tmp_path / entry_name(entry)).write_bytes(b"")
    got = await life.spool.lease()
    assert got is not None
    assert got[1] == payload(8)
    assert (life.lost, life.spool.damaged) == ({"damaged": 7}, 1)
    await life.spool.close()


async def test_a_read_that_fails_for_now_loses_nothing(tmp_path, monkeypatch):
    life = Life(tmp_path)
    await life.spool.append(payload(7))

    def fail(_entry: Entry) -> Payload:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(life.files, "read", fail)
        with pytest.raises(PermissionError):
            await life.spool.lease()
    assert (await life.spool.lease() or ())[1:] == (payload(7),)
    assert not life.lost
    await life.spool.close()


async def test_a_write_that_fails_stores_nothing_and_the_next_may_work(tmp_path, monkeypatch):
    life = Life(tmp_path)

    def fail(_entry: Entry, _payload: Payload) -> None:
        raise OSError(28, "No space left on device")

    await life.spool.open()
    with monkeypatch.context() as patch:
        patch.setattr(life.files, "write", fail)
        with pytest.raises(OSError, match="No space"):
            await life.spool.append(payload(1))
    assert (len(life.spool.index), life.lost) == (0, {})
    await life.spool.append(payload(2))
    assert life.spool.index.records == 2
    await life.spool.close()


async def test_a_file_that_cannot_be_deleted_is_tried_again(tmp_path, monkeypatch):
    life = Life(tmp_path)
    entry = await life.spool.append(payload(1))
    life.spool.index.lease()
    life.spool.ack(entry)

    def fail(_entry: Entry) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(life.files, "remove", fail)
        await life.spool.tidy()
    assert names(tmp_path) != ["lock"]
    await life.spool.close()
    assert names(tmp_path) == ["lock"]


async def test_a_cancelled_lease_takes_nothing(tmp_path):
    life = Life(tmp_path)
    await life.spool.append(payload(1))
    with trio.move_on_after(0):
        await life.spool.lease()
    assert life.spool.index.waiting == 1
    await life.spool.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *3 * ["append"],
                *2 * ["lease"],
                "ack",
                "release",
                "later",
                "crash",
                "close",
                "truncate",
                "flip",
                "delete",
                "wait",
                "tidy",
            ]
        ),
        st.integers(0, 1 << 30),
    ),
    max_size=40,
)


@given(STEPS)
@hypothesis_settings(max_examples=150, deadline=None)
def test_against_a_model(steps):
    """The model holds what is stored, what is damaged and what is lost; a crash may bring back what was decided, as its
    file may not have been deleted yet, and nothing else.
    """
    with tempfile.TemporaryDirectory() as directory:
        trio.run(_against_a_model, Path(directory), steps)


async def _against_a_model(directory: Path, steps: list[tuple[str, int]]) -> None:
    life = Life(directory)
    await life.spool.open()
    stored: dict[int, Payload] = {}
    damaged: set[int] = set()
    leased: list[Entry] = []
    decided: dict[int, Payload] = {}
    entered = left = 0
    for step, number in steps:
        match step:
            case "append":
                content = payload(number % 1000 + 1, 4 + number % 300)
                entry = await life.spool.append(content)
                stored[entry.sequence] = content
                decided.pop(entry.sequence, None)  # of another one, which had this number before
                entered += content.records
            case "lease":
                got = await life.spool.lease()
                if got is not None:
                    assert got[0].sequence not in damaged
                    assert got[1] == stored[got[0].sequence]
                    leased.append(got[0])
            case "ack" if leased:
                entry = leased.pop(number % len(leased))
                life.spool.ack(entry)
                decided[entry.sequence] = stored[entry.sequence]
                left += entry.records
            case "release" | "later" if leased:
                life.spool.release(leased.pop(number % len(leased)), later=step == "later")
            case "truncate" | "flip" | "delete" if stored:
                sequence = sorted(stored)[number % len(stored)]
                if sequence not in damaged:  # the same bit flipped again would be no damage
                    _damage(directory, sequence, step, number)
                    damaged.add(sequence)
            case "wait":
                life.now += number % 60
            case "tidy":
                await life.spool.tidy()
                decided.clear()
            case "crash" | "close":
                assert entered + life.recovered == left + sum(life.lost.values()) + life.spool.index.records
                if step == "close":
                    await life.spool.close()
                    decided.clear()
                else:
                    life.crash()
                entries = life.spool.index._entries.values()
                held = {entry.sequence for entry in entries}
                # what is leased does not expire in this life, and does so when the next one begins
                aged = {entry.sequence for entry in entries if life.now - entry.created_unix > LIMITS.max_age}
                life = Life(directory, now=life.now)
                await life.spool.open()
                found = {entry.sequence for entry in life.spool.index._entries.values()}
                assert held - found <= damaged | aged  # deleted under its hands
                damaged &= found  # of a file that is gone the number may come again
                entered = left = 0
                leased = []
                # what was decided comes back if its file was still there; else its number may come again
                stored |= {sequence: content for sequence, content in decided.items() if sequence in found}
                decided.clear()
        present = set(life.spool.index._entries)
        assert present <= stored.keys()
        assert life.spool.index.size <= LIMITS.max_bytes
        assert entered + life.recovered == left + sum(life.lost.values()) + life.spool.index.records
        decided |= {sequence: stored[sequence] for sequence in stored if sequence not in present}
        stored = {sequence: content for sequence, content in stored.items() if sequence in present}
    while (got := await life.spool.lease()) is not None:
        assert got[1] == stored[got[0].sequence]
        leased.append(got[0])
    for entry in leased:
        life.spool.ack(entry)
    assert life.spool.index.records == 0
    await life.spool.close()
    assert names(directory, "*.entry") == []


def _damage(directory: Path, sequence: int, how: str, number: int) -> None:
    for path in directory.glob(f"{sequence:016x}-*.entry"):
        content = bytearray(path.read_bytes())
        if how == "delete":
            path.unlink()
        elif how == "truncate" or not content:
            path.write_bytes(content[: number % max(len(content), 1)])
        else:
            content[number // 8 % len(content)] ^= 1 << number % 8
            path.write_bytes(content)
