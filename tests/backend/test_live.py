import pytest
import trio
import trio.testing

from sp_proxy.backend import live
from sp_proxy.backend.hub import Hub
from sp_proxy.backend.live import EventStream
from sp_proxy.backend.model import Arrived
from sp_proxy.backend.query.syntax import EVERYTHING
from tests.backend.test_model import SUMMARY


class Client:
    """The other side of the application, as the server plays it."""

    def __init__(self):
        self.sent, self.receive = trio.open_memory_channel[bytes](0)
        self.gone = trio.Event()

    async def asgi_receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def asgi_send(self, message):
        await self.sent.send(message.get("body", b""))


async def test_a_stream_ends_with_the_hub(nursery):
    hub, client = Hub(), Client()
    nursery.start_soon(EventStream(hub, EVERYTHING), {}, client.asgi_receive, client.asgi_send)
    assert await client.receive.receive() == b""
    assert await client.receive.receive() == b": listening\n\n"
    hub.publish([Arrived(SUMMARY, {}, "")])
    block = await client.receive.receive()
    assert block.startswith(b"event: exchange\ndata: {")
    assert block.endswith(b"}\n\n")
    hub.close()
    assert await client.receive.receive() == b""
    assert hub.subscribers == 0 or await settled(hub)


async def settled(hub):
    await trio.testing.wait_all_tasks_blocked()
    return hub.subscribers == 0


async def test_a_client_that_leaves_is_forgotten(nursery):
    hub, client = Hub(), Client()
    nursery.start_soon(EventStream(hub, EVERYTHING), {}, client.asgi_receive, client.asgi_send)
    await client.receive.receive()
    await client.receive.receive()
    assert hub.subscribers == 1
    client.gone.set()
    assert await settled(hub)


@pytest.mark.parametrize("seconds", [1, 15])
async def test_heartbeats(nursery, autojump_clock, monkeypatch, seconds):
    monkeypatch.setattr(live, "HEARTBEAT", seconds)
    client = Client()
    nursery.start_soon(EventStream(Hub(), EVERYTHING), {}, client.asgi_receive, client.asgi_send)
    await client.receive.receive()
    await client.receive.receive()
    start = trio.current_time()
    assert await client.receive.receive() == b": heartbeat\n\n"
    assert trio.current_time() - start == pytest.approx(seconds)
    client.gone.set()
