import pytest
import trio

from sp_proxy.mock.app import MAX_BODY, Mock
from sp_proxy.mock.book import AnswerBook
from sp_proxy.mock.rules import File, MatchRules
from tests.replay.exchanges import body, recorded
from tests.replay.origins import origin


def mock(*recordings, **options) -> Mock:
    return Mock(AnswerBook(recordings, MatchRules(File())), **options)


async def ask(
    app: Mock, method: str, target: str, *content: bytes, host: bytes = b"mock:1"
) -> tuple[int, dict[bytes, bytes], bytes]:
    path, _, query = target.encode().partition(b"?")
    scope = {"type": "http", "method": method, "raw_path": path, "query_string": query, "headers": [(b"host", host)]}
    pieces = list(content) or [b""]
    sent = []

    async def receive():
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start, data = sent
    return start["status"], dict(start["headers"]), data["body"]


@pytest.fixture
def answers():
    return (
        recorded(path="/a?x=1", span_id="1" * 16, response={"headers": [["x-a", "ü"]], **body("one")}),
        recorded(path="/p", method="POST", span_id="2" * 16, status=201, request=body("AAEC", encoding="base64")),
    )


async def test_answers_and_account(answers):
    app = mock(*answers)
    status, headers, content = await ask(app, "GET", "/a?x=1")
    assert (status, headers[b"x-a"], content) == (200, "ü".encode(), b"one")
    assert headers[b"x-sp-mock"] == b"hit 1111111111111111"
    assert (await ask(app, "POST", "/p", b"\x00", b"\x01\x02"))[0] == 201
    status, headers, content = await ask(app, "GET", "/b\x1b")
    assert (status, headers[b"x-sp-mock"]) == (501, b"miss")
    assert b"no GET of this path was recorded" in content
    await ask(app, "GET", "/a?x=2")
    await ask(app, "GET", "/a?x=2")
    assert (app.account.exact, app.account.by_rules, app.account.missed) == (2, 0, 3)
    assert app.account.misses["GET /a?x=2", "it was recorded with another query: x=1"] == 2
    await app.aclose()


async def test_a_body_that_is_too_large(answers):
    app = mock(*answers)
    assert (await ask(app, "POST", "/p", b"x" * (MAX_BODY + 1)))[0] == 413
    await app.aclose()


async def test_as_late_as_recorded(answers, autojump_clock):
    app = mock(recorded(path="/a", ttfb_ms=250.0), as_recorded=True)
    began = trio.current_time()
    await ask(app, "GET", "/a")
    assert trio.current_time() - began == pytest.approx(0.25)
    await app.aclose()


async def test_what_is_not_known_goes_on(answers):
    with origin(lambda got: (203, {"x-there": "1", "set-cookie": "a=b"}, b"there " + got.body)) as there:
        app = mock(*answers, fallthrough=f"{there.url}/base")
        status, headers, content = await ask(app, "POST", "/else?q=1", b"body", host=b"asked")
        assert (status, content, headers[b"x-sp-mock"]) == (203, b"there body", b"fallthrough")
        assert headers[b"x-there"] == b"1"
        assert (there.got[0].method, there.got[0].target, there.got[0].body) == ("POST", "/base/else?q=1", b"body")
        assert there.got[0].header("host") == there.url.removeprefix("http://")
        assert app.account.forwarded == 1
        await app.aclose()


async def test_nobody_is_there_to_go_on_to(answers):
    with origin(lambda _: (200, {}, b"")) as there:
        pass
    app = mock(*answers, fallthrough=there.url)
    status, headers, content = await ask(app, "GET", "/else")
    assert (status, headers[b"x-sp-mock"]) == (502, b"fallthrough")
    assert there.url.encode() in content
    await app.aclose()


# httpx leaves generators of its own to the collector where a body is not read to its end.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_an_answer_without_end_is_not_kept(answers, monkeypatch):
    monkeypatch.setattr("sp_proxy.mock.app.MAX_BODY", 1000)
    with origin(lambda _: (200, {}, b"x" * 1001)) as there:
        app = mock(*answers, fallthrough=there.url)
        status, _, content = await ask(app, "GET", "/else")
        assert (status, b"more than 1000 bytes" in content) == (502, True)
        await app.aclose()
