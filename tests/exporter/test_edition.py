"""One generation's records: what is sent of them, and when their edition may end."""

import pytest
import trio

from sp_proxy.core.batching import BatchLimits, content_size
from sp_proxy.core.exchange import Exchange
from sp_proxy.exporter.destinations import Destination
from sp_proxy.exporter.edition import Content, Edition
from sp_proxy.exporter.encode import Encoded
from sp_proxy.exporter.keeping import Keeper
from sp_proxy.exporter.routes import World, routes
from sp_proxy.exporter.split import decoded
from sp_proxy.exporter.stats import IntakeLedger
from tests.exporter.rig import make_exchange, settings

WORLD = World(lambda: 1_700_000_000.0, lambda: 0.5)


def content(*headers: str, **sections) -> Content:
    return Content(settings("http://b:1", redaction={"rules": [{"headers": list(headers)}]}, **sections))


def destination(**sections) -> Destination:
    (route,) = routes(settings("http://b:1", **sections), {}, WORLD)
    return Destination(route, WORLD)


def edition(made: Content, ledger: IntakeLedger | None = None) -> Edition:
    return Edition(made, BatchLimits(1, 1 << 20, 1.0), trio.Lock(), ledger or IntakeLedger(), Keeper())


async def sent(each: Edition, taker: Destination) -> str:
    """What becomes of one record with header fields of this kind."""
    fields = b"x-one: VALUE-1\r\nx-two: VALUE-2\r\n"
    queue = taker.outlet.queue
    async with trio.open_nursery() as nursery:
        done = trio.Event()
        nursery.start_soon(each.run, done.set)
        await each.batches.add([make_exchange(1, request_fields=fields)])
        with trio.fail_after(10):
            await done.wait()
        nursery.cancel_scope.cancel()
    lease = await queue.lease()
    queue.ack(lease)
    return str(decoded(lease.payload))


async def test_superseded_it_sends_what_both_would_send():
    taker = destination()
    each = edition(content("x-one"))
    each.send_to([taker], 1 << 20)
    text = await sent(each, taker)
    assert ("VALUE-1" in text, "VALUE-2" in text) == (False, True)
    assert not each.superseded

    for later, secrets in (
        (content("x-two"), (False, False)),
        (content(), (False, True)),
        (content("x-one"), (False, True)),
    ):
        each = edition(content("x-one"))
        each.supersede(later)
        each.send_to([taker], 1 << 20)
        text = await sent(each, taker)
        assert ("VALUE-1" in text, "VALUE-2" in text) == secrets
        assert each.superseded


async def test_changed_it_sends_as_the_new_settings_say():
    taker = destination()
    each = edition(content("x-one"))
    each.change(content("x-two"))
    each.send_to([taker], 1 << 20)
    text = await sent(each, taker)
    assert ("VALUE-1" in text, "VALUE-2" in text) == (True, False)


async def test_a_fault_in_encoding_costs_the_batch_and_is_counted(monkeypatch):
    taker, ledger = destination(), IntakeLedger()
    each = edition(content(), ledger)
    each.send_to([taker], 1 << 20)

    def fail(_exchanges: object) -> None:
        raise ZeroDivisionError

    assert each._encoder is not None
    monkeypatch.setattr(each._encoder, "encode", fail)
    async with trio.open_nursery() as nursery:
        done = trio.Event()
        nursery.start_soon(each.run, done.set)
        await each.batches.add([make_exchange(1)])
        with trio.fail_after(10):
            await done.wait()
        each.close()
    assert ledger.shed == {"internal_error": 1}
    assert (each.batches.records, each.encoding_bytes) == (0, 0)


async def test_what_hooks_have_made_of_a_batch_is_held(tmp_path, monkeypatch):
    triple = tmp_path / "triple.py"
    triple.write_text("def exchange(ex):\n    return [ex, ex.copy(), ex.copy()]\n")
    each = edition(content(addons={"files": [str(triple)], "call_budget": "10s", "batch_budget": "30s"}))
    each.send_to([destination()], 1 << 20)
    record, seen = make_exchange(1), []

    def look(exchanges: list[Exchange]) -> Encoded:
        seen.append((len(exchanges), each.worked_bytes))
        return Encoded([], {})

    assert each._encoder is not None
    monkeypatch.setattr(each._encoder, "encode", look)
    async with trio.open_nursery() as nursery:
        done = trio.Event()
        nursery.start_soon(each.run, done.set)
        await each.batches.add([record])
        with trio.fail_after(60):
            await done.wait()
        each.close()
    for process in each._addons.processes(each.addons):
        process.close()
    assert seen == [(3, 3 * content_size(record))]
    assert each.worked_bytes == 0


async def test_nothing_is_encoded_while_settings_change():
    taker, lock = destination(), trio.Lock()
    each = Edition(content(), BatchLimits(1, 1 << 20, 1.0), lock, IntakeLedger(), Keeper())
    each.send_to([taker], 1 << 20)
    async with trio.open_nursery() as nursery:
        done = trio.Event()
        async with lock:
            nursery.start_soon(each.run, done.set)
            await each.batches.add([make_exchange(1)])
            await trio.testing.wait_all_tasks_blocked()
            assert each.batches.records == 1
            other = destination(tags={"a": "b"})
            each.send_to([other], 1 << 20)
        with trio.fail_after(10):
            await done.wait()
        each.close()
    assert (taker.outlet.queue.waiting_records, other.outlet.queue.waiting_records) == (0, 1)


def test_settings_that_cannot_be_used_are_one_line():
    with pytest.raises(ValueError, match="salt"):
        Content(settings("http://b:1", redaction={"rules": [{"headers": ["a"], "action": "hash"}]}))
