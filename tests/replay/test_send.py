import gzip
import socket

import pytest

from sp_proxy.replay.prepare import Request
from sp_proxy.replay.send import MAX_ANSWER, NoAnswer, Sender
from tests.replay.origins import Got, origin


def answer(got: Got) -> tuple[int, dict[str, str], bytes]:
    if got.target.startswith("/gzip"):
        return 200, {"content-encoding": "gzip", "content-type": "text/plain"}, gzip.compress(b"hello")
    if got.target == "/bomb":
        return 200, {"content-encoding": "gzip"}, gzip.compress(b"0" * (MAX_ANSWER + 10))
    if got.target == "/moved":
        return 302, {"location": "/elsewhere", "set-cookie": "a=b"}, b""
    return 200, {}, got.body


async def test_requests_and_answers():
    with origin(answer) as there:
        sender = Sender(concurrency=2, timeout=60)

        async def send(method: str, target: str, body: bytes = b""):
            return await sender.send(Request(method, there.url, target, (("host", "recorded:80"), ("x-a", "ü")), body))

        echoed = await send("POST", "/a//b/../c?q=%41|^{}", b"\x00body")
        assert (echoed.status, echoed.body, echoed.complete) == (200, b"\x00body", True)
        moved = await send("GET", "/moved")
        assert (moved.status, dict(moved.fields)["location"]) == (302, "/elsewhere")
        assert (await send("GET", "/gzip")).body == b"hello"
        bomb = await send("GET", "/bomb")
        assert not bomb.complete
        assert len(bomb.body) <= MAX_ANSWER
        assert (await send("POST", "/empty")).body == b""
        await sender.aclose()
    first, *others = there.got
    assert first.target == "/a//b/../c?q=%41|^{}"
    # What was recorded, framing, and nothing of a client's own: no cookie that it was given either.
    assert sorted(name.lower() for name, _ in first.headers) == ["content-length", "host", "x-a"]
    assert first.header("host") == "recorded:80"
    assert [each.target for each in others] == ["/moved", "/gzip", "/bomb", "/empty"]
    assert all(each.header("cookie") is None for each in others)


async def test_nobody_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        sender = Sender(concurrency=1, timeout=0.2)
        with pytest.raises(NoAnswer, match="no answer within") as late:
            await sender.send(Request("GET", f"http://127.0.0.1:{port}", "/", (("host", "a"),), b""))
        assert late.value.connected
    with pytest.raises(NoAnswer) as refused:
        await sender.send(Request("GET", f"http://127.0.0.1:{port}", "/", (("host", "a"),), b""))
    assert not refused.value.connected
    assert "\n" not in str(refused.value)
    await sender.aclose()
