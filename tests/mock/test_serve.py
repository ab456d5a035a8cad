from functools import partial

import httpx
import trio

from sp_proxy.mock.app import Mock
from sp_proxy.mock.book import AnswerBook
from sp_proxy.mock.rules import File, MatchRules
from sp_proxy.mock.serve import serve
from tests.backend.serving import listener
from tests.replay.exchanges import body, recorded


async def test_over_http_until_cancelled():
    recordings = [
        recorded(span_id=f"{number:016x}", start_unix_ns=number, path="/a//b%2F?x", response=body(f"n{number}"))
        for number in range(3)
    ]
    mock = Mock(AnswerBook(recordings, MatchRules(File())))
    sock = listener()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve, mock, [sock]))
        async with httpx.AsyncClient(timeout=30) as client:
            said = [(await client.get(f"{url}/a//b%2F?x")).text for _ in range(4)]
            head = await client.head(f"{url}/a//b%2F?x")
        nursery.cancel_scope.cancel()
    assert said == ["n0", "n1", "n2", "n2"]
    assert head.status_code == 501
    assert sock.fileno() == -1
