"""The spool's bookkeeping: order, leases, what must go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.spool_index import Entry, SpoolIndex, SpoolLimits


def index(*sizes: int, max_bytes: int = 100, max_age: float = 60.0, max_entries: int = 100) -> SpoolIndex:
    """Entries of these sizes, ten records each, one a second from time 0 on."""
    made = SpoolIndex(SpoolLimits(max_bytes, max_age, max_entries))
    for size in sizes:
        sequence = made.next_sequence()
        made.add(Entry(sequence, 10, size, 1.7e9 + sequence - 1), float(sequence - 1))
    return made


def leased(spool: SpoolIndex) -> Entry:
    entry = spool.lease()
    assert entry is not None
    return entry


def test_first_in_first_out():
    spool = index(1, 2, 3)
    assert [leased(spool).sequence for _ in range(3)] == [1, 2, 3]
    assert spool.lease() is None


def test_leased_entries_count_until_they_are_removed():
    spool = index(30)
    entry = leased(spool)
    assert (len(spool), spool.waiting, spool.records, spool.waiting_records, spool.size) == (1, 0, 10, 0, 30)
    spool.remove(entry)
    assert (len(spool), spool.records, spool.size, spool.oldest_unix) == (0, 0, 0, None)


def test_released_is_next_or_last():
    spool = index(1, 1, 1)
    first = leased(spool)
    spool.release(first)
    assert leased(spool) == first
    spool.release(first, later=True)
    assert [leased(spool).sequence for _ in range(3)] == [2, 3, 1]


def test_the_oldest_make_room():
    spool = index(30, 30, 30)
    assert spool.to_evict(10) == []
    assert [entry.sequence for entry in spool.to_evict(11) or ()] == [1]
    assert [entry.sequence for entry in spool.to_evict(60) or ()] == [1, 2]
    assert spool.to_evict(101) is None


def test_leased_entries_stay():
    spool = index(30, 30, 30)
    leased(spool)
    assert [entry.sequence for entry in spool.to_evict(40) or ()] == [2]
    assert spool.to_evict(80) is None
    assert [entry.sequence for entry in spool.expired(1000.0)] == [2, 3]


def test_the_number_of_entries_has_a_limit_too():
    spool = index(1, 1, max_entries=2)
    assert [entry.sequence for entry in spool.to_evict(1) or ()] == [1]
    assert spool.to_evict(0, 0) == []


def test_age():
    spool = index(1, 1, 1)
    assert spool.expired(60.0) == []
    assert [entry.sequence for entry in spool.expired(61.5)] == [1, 2]
    assert spool.oldest_unix == 1.7e9


def test_numbers_go_on_above_those_that_were_found():
    spool = index()
    spool.add(Entry(41, 1, 1, 0.0), 0.0)
    assert spool.next_sequence() == 42


def test_an_entry_cannot_be_added_twice():
    spool = index(1)
    with pytest.raises(AssertionError):
        spool.add(Entry(1, 1, 1, 0.0), 0.0)


@given(st.lists(st.tuples(st.sampled_from("alrjv"), st.integers(0, 60)), max_size=60))
def test_the_sums_are_those_of_a_list(steps):
    spool = index(max_bytes=100)
    held: dict[int, Entry] = {}
    out: list[Entry] = []
    for step, number in steps:
        if step == "a":
            for old in spool.to_evict(number) or ():
                spool.remove(old)
                del held[old.sequence]
            if spool.to_evict(number) is not None:
                entry = Entry(spool.next_sequence(), number, number, 0.0)
                spool.add(entry, 0.0)
                held[entry.sequence] = entry
        elif step == "l" and (first := spool.lease()):
            out.append(first)
        elif step == "r" and out:
            spool.release(out.pop(number % len(out)), later=bool(number % 2))
        elif step == "j" and out:
            entry = out.pop(number % len(out))
            spool.remove(entry)
            del held[entry.sequence]
        assert spool.size == sum(entry.size for entry in held.values()) <= 100
        assert spool.records == sum(entry.records for entry in held.values())
        assert spool.waiting_records == spool.records - sum(entry.records for entry in out)
        assert (len(spool), spool.waiting) == (len(held), len(held) - len(out))
