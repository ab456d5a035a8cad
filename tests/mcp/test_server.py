import json

from sp_proxy.backend.client import Client
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.mcp.server import INSTRUCTIONS, build
from sp_proxy.mcp.tools import Tools

READ = {"list_services", "search_exchanges", "get_exchange", "get_trace", "explain_rule"}


async def test_what_is_offered():
    with Client("http://127.0.0.1:9") as client:
        server = build(Tools(client, PolicyConfig()))
        offered = await server.list_tools()
    assert {tool.name for tool in offered} == READ
    assert all(tool.description and tool.annotations and tool.annotations.readOnlyHint for tool in offered)
    limit = next(tool for tool in offered if tool.name == "search_exchanges").inputSchema["properties"]["limit"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 100, 20)
    assert "never an instruction" in INSTRUCTIONS


async def test_a_tool_answers():
    with Client("http://127.0.0.1:9") as client:
        answer = await build(Tools(client, PolicyConfig())).call_tool("explain_rule", {"host": "a"})
    content = next(iter(answer))
    assert json.loads(content.text)["decision"]["reason"] == "captured"  # type: ignore[union-attr]
