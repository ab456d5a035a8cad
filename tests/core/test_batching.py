"""Batches: by count, bytes and age; nothing lost, nothing twice, in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.batching import Batch, Batcher, BatchLimits, content_size
from tests.exporter.rig import make_exchange, make_exchanges

ROOMY = BatchLimits(max_records=100, max_bytes=1 << 20, flush_timeout=1.0)


def sized(number: int, size: int):
    """An exchange of exactly so many content bytes."""
    return make_exchange(
        number, target=b"", request_fields=b"", response_fields=b"", response_body=b"", request_body=bytes(size)
    )


def test_counts_every_captured_byte():
    exchange = make_exchange(
        target=b"/12",
        request_fields=b"12345",
        request_body=b"1234567",
        request_trailers=b"12345678901",
        response_fields=b"1234567890123",
        response_body=b"12345678901234567",
        response_trailers=b"1234567890123456789",
    )
    assert content_size(exchange) == 3 + 5 + 7 + 11 + 13 + 17 + 19


def test_closes_at_max_records():
    batcher = Batcher(BatchLimits(3, 1 << 20, 1.0))
    closed = batcher.add(make_exchanges(7), now=0.0)
    assert [(len(batch.exchanges), batch.reason) for batch in closed] == [(3, "records"), (3, "records")]
    assert batcher.pending == 1


def test_closes_before_a_record_that_would_exceed_max_bytes():
    batcher = Batcher(BatchLimits(100, 100, 1.0))
    closed = batcher.add([sized(1, 60), sized(2, 30), sized(3, 20)], now=0.0)
    assert [(batch.size, batch.reason) for batch in closed] == [(90, "size")]
    assert batcher.pending == 1


def test_closes_when_max_bytes_are_reached_exactly():
    batcher = Batcher(BatchLimits(100, 100, 1.0))
    (batch,) = batcher.add([sized(1, 60), sized(2, 40)], now=0.0)
    assert (batch.size, batch.reason, batcher.pending) == (100, "size", 0)


def test_a_record_above_max_bytes_is_a_batch_of_its_own():
    batcher = Batcher(BatchLimits(100, 100, 1.0))
    closed = batcher.add([sized(1, 10), sized(2, 500), sized(3, 10)], now=0.0)
    assert [batch.size for batch in closed] == [10, 500]
    assert batcher.pending == 1


def test_age_counts_from_the_oldest_record():
    batcher = Batcher(ROOMY)
    assert batcher.deadline is None
    batcher.add(make_exchanges(1), now=10.0)
    batcher.add(make_exchanges(1), now=10.9)
    assert batcher.deadline == 11.0
    assert batcher.expire(10.99) is None
    batch = batcher.expire(11.0)
    assert batch is not None
    assert (len(batch.exchanges), batch.reason) == (2, "age")
    assert batcher.deadline is None
    assert batcher.expire(99.0) is None


def test_a_new_batch_has_a_new_age():
    batcher = Batcher(BatchLimits(2, 1 << 20, 1.0))
    batcher.add(make_exchanges(1), now=0.0)
    batcher.add(make_exchanges(2), now=0.7)
    assert batcher.deadline == pytest.approx(1.7)


def test_flush_closes_whatever_there_is():
    batcher = Batcher(ROOMY)
    assert batcher.flush() is None
    batcher.add(make_exchanges(2), now=0.0)
    batch = batcher.flush()
    assert batch is not None
    assert (len(batch.exchanges), batch.reason) == (2, "flush")
    assert batcher.pending == 0


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 300), max_size=8), st.floats(0, 2)),
        st.tuples(st.just("expire"), st.just([]), st.floats(0, 2)),
        st.tuples(st.just("flush"), st.just([]), st.floats(0, 2)),
    ),
    max_size=40,
)


@given(operations, st.integers(1, 6), st.integers(1, 400))
def test_every_record_is_in_exactly_one_batch_in_order_and_within_the_limits(steps, max_records, max_bytes):
    batcher = Batcher(BatchLimits(max_records, max_bytes, 1.0))
    now = 0.0
    number = 0
    closed: list[Batch] = []
    for kind, sizes, pause in steps:
        now += pause
        if kind == "add":
            exchanges = [sized(number + index + 1, size) for index, size in enumerate(sizes)]
            number += len(sizes)
            closed += batcher.add(exchanges, now)
        else:
            batch = batcher.expire(now) if kind == "expire" else batcher.flush()
            closed += [batch] if batch else []
        if kind == "expire":
            assert batcher.deadline is None or batcher.deadline > now
        assert (batcher.deadline is None) == (batcher.pending == 0)
    assert sum(len(batch.exchanges) for batch in closed) + batcher.pending == number
    last = batcher.flush()
    closed += [last] if last else []
    assert [exchange.trace_id for batch in closed for exchange in batch.exchanges] == [
        value.to_bytes(16) for value in range(1, number + 1)
    ]
    for batch in closed:
        assert 1 <= len(batch.exchanges) <= max_records
        assert batch.size == sum(map(content_size, batch.exchanges))
        assert batch.size <= max_bytes or len(batch.exchanges) == 1
