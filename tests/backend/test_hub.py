import trio.testing
from msgspec import structs

from sp_proxy.backend.hub import Hub
from sp_proxy.backend.model import Arrived
from sp_proxy.backend.query.syntax import EVERYTHING, Match, exactly
from tests.backend.test_model import SUMMARY


def exchanges(*numbers):
    return [
        Arrived(structs.replace(SUMMARY, start_unix_ns=number, service=f"s{number % 2}"), {}, "") for number in numbers
    ]


async def test_each_subscriber_gets_what_it_wants():
    hub = Hub()
    with hub.subscribe(EVERYTHING) as everything, hub.subscribe(Match("service", exactly("s1"))) as odd:
        assert hub.subscribers == 2
        hub.publish(exchanges(1, 2, 3))
        news = await everything.take()
        assert news is not None
        assert [exchange.start_unix_ns for exchange in news.exchanges] == [1, 2, 3]
        news = await odd.take()
        assert news is not None
        assert [exchange.start_unix_ns for exchange in news.exchanges] == [1, 3]
    assert hub.subscribers == 0
    hub.publish(exchanges(4))
    assert hub.dropped == 0


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many():
    hub = Hub(queue=3)
    with hub.subscribe(EVERYTHING) as slow:
        hub.publish(exchanges(*range(10)))
        assert hub.dropped == 7
        news = await slow.take()
        assert news is not None
        assert news.dropped == 7
        assert [exchange.start_unix_ns for exchange in news.exchanges] == [7, 8, 9]
        hub.publish(exchanges(10))
        news = await slow.take()
        assert news is not None
        assert news.dropped == 0


async def test_take_waits_for_news(nursery, autojump_clock):
    hub = Hub()
    taken = []

    async def reader():
        with hub.subscribe(EVERYTHING) as subscription:
            while (news := await subscription.take()) is not None:
                taken.append(len(news.exchanges))

    nursery.start_soon(reader)
    await trio.testing.wait_all_tasks_blocked()
    hub.publish(exchanges(1, 2))
    await trio.testing.wait_all_tasks_blocked()
    assert taken == [2]
    hub.close()
    await trio.testing.wait_all_tasks_blocked()
    assert hub.subscribers == 0


async def test_a_closed_hub_ends_whoever_comes_later():
    hub = Hub()
    hub.close()
    with hub.subscribe(EVERYTHING) as late:
        assert await late.take() is None
