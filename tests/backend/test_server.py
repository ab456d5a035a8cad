import socket
from functools import partial

import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sp_proxy.backend import server
from sp_proxy.backend.server import run_server
from tests.backend.serving import listener


async def hello(_request):
    return PlainTextResponse("hello")


async def unread(_request):
    return PlainTextResponse("no", 403)


class Flood(Response):
    """Sends without end."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})


async def flood(_request):
    return Flood()


class Slow:
    def __init__(self):
        self.entered = trio.Event()
        self.release = trio.Event()

    async def __call__(self, _request):
        self.entered.set()
        await self.release.wait()
        return PlainTextResponse("done")


def app(**more):
    routes = [
        Route("/", hello),
        Route("/unread", unread, methods=["POST"]),
        Route("/flood", flood),
        *(Route(f"/{name}", handler) for name, handler in more.items()),
    ]
    return Starlette(routes=routes)


async def start(nursery, application, on_stop=lambda: None):
    sock = listener()
    host, port = sock.getsockname()
    await nursery.start(partial(run_server, application, [sock], on_stop=on_stop))
    return f"http://{host}:{port}", port


async def test_requests_on_kept_connections_and_the_end():
    stopped = []
    async with trio.open_nursery() as nursery:
        url, port = await start(nursery, app(), lambda: stopped.append(True))
        async with httpx.AsyncClient(base_url=url) as client:
            for _ in range(3):
                assert (await client.get("/")).text == "hello"
            nursery.cancel_scope.cancel()
    assert stopped == [True]
    with pytest.raises(OSError, match=r"refused|failed"):
        await trio.open_tcp_stream("127.0.0.1", port)


async def test_requests_in_hand_finish_within_the_grace_period():
    slow = Slow()
    answers = []
    async with trio.open_nursery() as clients, trio.open_nursery() as nursery:
        url, _ = await start(nursery, app(slow=slow.__call__))

        async def ask():
            async with httpx.AsyncClient(timeout=20) as client:
                answers.append((await client.get(f"{url}/slow")).text)

        clients.start_soon(ask)
        await slow.entered.wait()
        clients.start_soon(release_later, slow)
        nursery.cancel_scope.cancel()
    assert answers == ["done"]


async def release_later(slow):
    await trio.sleep(0.1)
    slow.release.set()


async def test_what_does_not_finish_is_ended(monkeypatch):
    monkeypatch.setattr(server, "GRACE", 0.1)
    slow = Slow()
    failed = []
    async with trio.open_nursery() as clients:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                url, _ = await start(nursery, app(slow=slow.__call__))

                async def ask():
                    async with httpx.AsyncClient(timeout=20) as client:
                        with pytest.raises(httpx.HTTPError):
                            await client.get(f"{url}/slow")
                        failed.append(True)

                clients.start_soon(ask)
                await slow.entered.wait()
                nursery.cancel_scope.cancel()
    assert failed == [True]


async def stalled_reader(port):
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await stream.send_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
    await stream.receive_some(1000)
    return stream


async def test_a_reader_that_stalls_cannot_hold_up_the_end(monkeypatch):
    monkeypatch.setattr(server, "GRACE", 0.1)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            _, port = await start(nursery, app())
            stream = await stalled_reader(port)
            await trio.sleep(0.2)
            nursery.cancel_scope.cancel()
    await stream.aclose()


async def test_a_reader_that_stalls_is_given_up(monkeypatch):
    monkeypatch.setattr(server, "STALL_TIMEOUT", 0.1)
    async with trio.open_nursery() as nursery:
        _, port = await start(nursery, app())
        stream = await stalled_reader(port)
        await trio.sleep(0.4)
        with trio.fail_after(10):
            try:
                while await stream.receive_some(1 << 20):
                    pass
            except trio.BrokenResourceError:
                pass
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_an_answer_before_the_end_of_a_large_body_arrives():
    async with trio.open_nursery() as nursery:
        url, _ = await start(nursery, app())

        async def endless():
            for _ in range(200):
                yield bytes(65536)

        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            for _ in range(5):
                answer = await client.post("/unread", content=endless())
                assert (answer.status_code, answer.text) == (403, "no")
            assert (await client.get("/")).text == "hello"
        nursery.cancel_scope.cancel()


async def test_a_body_beyond_the_draining_limit_is_cut_off_after_the_answer(monkeypatch):
    monkeypatch.setattr(server, "DRAIN_BYTES", 1 << 20)
    async with trio.open_nursery() as nursery:
        _, port = await start(nursery, app())
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        received = bytearray()

        async def upload():
            try:
                while True:
                    await stream.send_all(bytes(65536))
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as sending:
            sending.start_soon(upload)
            with trio.fail_after(20):
                try:
                    while data := await stream.receive_some(65536):
                        received += data
                except trio.BrokenResourceError:
                    pass
            sending.cancel_scope.cancel()
        assert received.startswith(b"HTTP/1.1 403 ")
        assert b"connection: close" in received.lower()
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_more_connections_than_slots_wait_their_turn(monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS", 2)
    async with trio.open_nursery() as nursery:
        url, port = await start(nursery, app())
        held = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in held:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200 ")
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            answers = []

            async def ask():
                answers.append((await client.get("/")).text)

            async with trio.open_nursery() as asking:
                asking.start_soon(ask)
                await trio.sleep(0.1)
                assert answers == []
                for stream in held:
                    await stream.aclose()
            assert answers == ["hello"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\na: " + b"x" * 100_000,
    ],
)
async def test_garbage_ends_its_own_connection(garbage):
    async with trio.open_nursery() as nursery:
        url, port = await start(nursery, app())
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(20):
            try:
                await stream.send_all(garbage)
                await stream.send_eof()
                while await stream.receive_some(1000):
                    pass
            except trio.BrokenResourceError:
                pass
        await stream.aclose()
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/")).text == "hello"
        nursery.cancel_scope.cancel()


async def test_cancelled_before_it_has_begun_it_ends_all_the_same():
    with listener() as sock, trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.cancel()
            await nursery.start(partial(run_server, app(), [sock], on_stop=lambda: None))
