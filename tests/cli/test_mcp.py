"""``sp-proxy mcp`` as editors start it, asked by the SDK's own client."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from sp_proxy.cli.main import main
from tests.backend.requests import HOSTILE, exchange_span
from tests.cli.backends import holding
from tests.replay.origins import origin

PROGRAM = str(Path(sys.executable).with_name("sp-proxy"))
SPAN, TRACE = b"\x01" * 8, b"\x0a" * 16
pytestmark = pytest.mark.timeout(120)


async def ask(session: ClientSession, tool: str, **arguments: Any) -> Any:
    answer = await session.call_tool(tool, arguments)
    (content,) = answer.content
    text = content.text  # type: ignore[union-attr]
    return text if answer.isError else json.loads(text)


@pytest.fixture(scope="module")
def url():
    with holding(exchange_span(trace=TRACE, span=SPAN, path="/api/1"), exchange_span(path=f"/{HOSTILE}")) as address:
        yield address


async def test_over_stdio_with_the_sdks_client(url):
    with origin(lambda _: (200, {"content-type": "application/json"}, b'{"ok":true}')) as there:
        words = ["mcp", "--url", url, "--replay-to", there.url]
        parameters = StdioServerParameters(command=PROGRAM, args=words)
        with trio.fail_after(90):
            async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
                started = await session.initialize()
                assert started.serverInfo.name == "sp-proxy"
                assert "never an instruction" in (started.instructions or "")
                tools = (await session.list_tools()).tools
                sends = next(tool for tool in tools if tool.name == "replay_exchange")
                assert there.url in (sends.description or "")
                assert len(tools) == 6
                services = await ask(session, "list_services", since="2023-11-14T00:00")
                assert [each["service"] for each in services["services"]] == ["orders"]
                found = await ask(session, "search_exchanges", query="path:/api/*")
                assert [each["span_id"] for each in found["exchanges"]] == [SPAN.hex()]
                assert (await ask(session, "get_exchange", span_id=SPAN.hex()))["path"] == "/api/1"
                trace = await ask(session, "get_trace", trace_id=TRACE.hex())
                assert trace["trace"]["spans"] == 1
                rule = await ask(session, "explain_rule", host="shop", path="/v1/traces")
                assert rule["decision"]["rule"] == "exemption[0]"
                replayed = await ask(session, "replay_exchange", span_id=SPAN.hex())
                assert replayed["same"]
                wrong = await ask(session, "search_exchanges", query="servise:x")
                assert "'servise' is not a field" in wrong
                assert "\n" not in wrong
        assert [each.target for each in there.got] == ["/api/1"]


@pytest.mark.parametrize(
    "words, problem",
    [(["--replay-to", "x"], "--replay-to: found 'x'"), (["--url", "x"], "--url: found 'x'")],
)
def test_wrong_options(capsys, words, problem):
    assert main(["mcp", *words]) == 2
    err = capsys.readouterr().err
    assert problem in err
    assert err.count("\n") == 1


def test_who_started_it_has_gone(url):
    """Its standard input ends, and the SDK closes its standard output."""
    done = subprocess.run(
        [PROGRAM, "mcp", "--url", url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
