"""An outlet's queue stays while its courier is another one."""

from functools import partial

import pytest
import trio

from sp_proxy.core.spool_index import SpoolLimits
from sp_proxy.exporter.encode import Payload
from sp_proxy.exporter.keeping import Keeper
from sp_proxy.exporter.outlet import Left, Outlet
from sp_proxy.exporter.routes import World, routes
from sp_proxy.exporter.sparing_log import SparingLog
from sp_proxy.exporter.spool_queue import SpoolQueue
from sp_proxy.exporter.stats import Ledger
from tests.exporter.rig import settings
from tests.misbehaving_backend import answer, never_answer, open_backend

WORLD = World(lambda: 1_700_000_000.0, lambda: 0.5)


def route(url: str, **sections):
    (found,) = routes(settings(url, **sections), {}, WORLD)
    return found


async def until(condition) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await trio.sleep(0.001)


async def test_the_next_courier_goes_on_where_the_first_one_stopped():
    ledger = Ledger()
    async with open_backend(*[answer(503)] * 1000) as backend, trio.open_nursery() as nursery:
        outlet = Outlet(route(backend.url), ledger, WORLD, SparingLog(), Keeper())
        nursery.start_soon(outlet.run)
        for number in range(5):
            assert outlet.queue.append(Payload(b"%d" % number, 10, "", 1))
        await until(lambda: len(backend.received) > 3)
        backend.script.clear()
        outlet.replace(route(backend.url, public_key="another", queue={"max_records": 30}))
        await until(lambda: ledger.accepted == 50)
        assert {each.headers["x-public-key"] for each in backend.received[-3:]} == {"another"}
        assert [outlet.queue.append(Payload(b"x", 16, "", 1)) for _ in range(2)] == [True, False]
        await until(lambda: ledger.accepted == 66)
        outlet.end()
    assert outlet.left == Left(0, 0)
    assert outlet.ending


async def test_couriers_that_never_began_cost_nothing():
    ledger = Ledger()
    async with open_backend(never_answer) as backend, trio.open_nursery() as nursery:
        outlet = Outlet(route(backend.url, upload={"read_timeout": "30s"}), ledger, WORLD, SparingLog(), Keeper())
        nursery.start_soon(outlet.run)
        outlet.queue.append(Payload(b"a", 1, "", 1))
        await until(lambda: len(backend.received) == 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sp_proxy.exporter.outlet.STOP_SECONDS", 0.05)
            for number in range(3):
                outlet.replace(route(backend.url, public_key=f"k{number}"))
        await until(lambda: ledger.accepted == 1)
        assert [each.headers["x-public-key"] for each in backend.received] == ["pk-secret", "k2"]
        outlet.end()
    assert (outlet.queue.waiting_records, outlet.queue.leased_records) == (0, 0)


async def test_what_is_left_is_told_and_stored(tmp_path):
    lost = Ledger()
    for spool, left in (({"mode": "off"}, Left(3, 0)), ({"mode": "overflow", "directory": str(tmp_path)}, Left(0, 3))):
        async with open_backend(*[answer(503)] * 1000) as backend, trio.open_nursery() as nursery:
            outlet = Outlet(route(backend.url, spool=spool), lost, WORLD, SparingLog(), Keeper())
            nursery.start_soon(outlet.run)
            outlet.queue.append(Payload(b"a", 3, "", 1))
            await until(partial(bool, backend.received))
            outlet.end()
        assert outlet.left == left


async def test_a_drain_holds_for_the_next_courier_too():
    ledger = Ledger()
    slow = {"initial_interval": "1h", "max_interval": "1h", "max_elapsed_time": "2h"}
    async with open_backend(*[answer(503)] * 2) as backend, trio.open_nursery() as nursery:
        outlet = Outlet(route(backend.url, retry=slow), ledger, WORLD, SparingLog(), Keeper())
        nursery.start_soon(outlet.run)
        outlet.queue.append(Payload(b"a", 1, "", 1))
        await until(lambda: len(backend.received) == 1)
        outlet.drain(trio.current_time() + 5)
        outlet.replace(route(backend.url, retry=slow, public_key="another"))
        await until(lambda: outlet.queue.active_records == 0)
        outlet.end()
    assert outlet.left == Left(1, 0)


async def test_limits_of_the_disk_follow(tmp_path):
    spool = {"mode": "overflow", "directory": str(tmp_path)}
    outlet = Outlet(route("http://b:1", spool=spool), Ledger(), WORLD, SparingLog(), Keeper())
    assert isinstance(outlet.queue, SpoolQueue)
    outlet.replace(
        route("http://b:1", spool=spool | {"max_size": "2MiB", "max_age": "1h", "mode": "always", "fsync": True})
    )
    assert outlet.queue._spool.index._limits == SpoolLimits(2 << 20, 3600.0)
    assert outlet.queue._policy.mode == "always"
    assert outlet.queue._spool._files.fsync
