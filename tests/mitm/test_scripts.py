"""Flow scripts: how they are loaded and called. In the whole daemon: ``tests/e2e/test_flow_scripts.py``."""

import asyncio
from collections import defaultdict

import pytest
from mitmproxy.master import Master
from mitmproxy.test import tflow

from sp_proxy.mitm.config import FlowScriptConfig
from sp_proxy.mitm.live import Connections
from sp_proxy.mitm.options import ProxyOptions, proxy_options
from sp_proxy.mitm.scripts import MAX_HELD, MAX_STUCK, Scripts

COUNTING = """
class Counting:
    def load(self, loader):
        loader.add_option("step", int, 1, "How much")
    def request(self, flow):
        from mitmproxy import ctx
        flow.request.headers["number"] = str(ctx.options.step)
addons = [Counting()]
"""


async def called(*scripts: FlowScriptConfig, events=("requestheaders", "request"), change=lambda _: None, flow=None):
    """A flow after these events, and what was counted."""
    counters: defaultdict[str, int] = defaultdict(int)
    master = Master(proxy_options(""), event_loop=asyncio.get_running_loop())
    master._legacy_log_events.uninstall()
    master.addons.add(ProxyOptions())
    made = Scripts(scripts, 0.2, master, Connections(), counters)
    flow = flow or tflow.tflow(resp=True)
    change(flow)
    for event in events:
        await getattr(made, event)(flow)
    return flow, counters, master


def script(text: str, *hosts: str, name: str = "one", **options: str) -> FlowScriptConfig:
    return FlowScriptConfig(name, f"/x/{name}.py", text, hosts or (".",), options)


def test_options_are_those_of_the_script():
    flow, counters, _ = asyncio.run(called(script(COUNTING, step="7")))
    assert flow.request.headers["number"] == "7"
    assert counters["script_calls:one"] == 1


@pytest.mark.parametrize("fault", ["1 / 0", "raise SystemExit"])
def test_one_that_cannot_be_loaded_is_named_in_a_line(fault):
    with pytest.raises(ValueError, match=r"^/x/one\.py:2: (ZeroDivisionError|SystemExit): "):
        asyncio.run(called(script(f"def load(loader):\n    {fault}\ndef request(flow): ...\n")))


def test_several_scripts_each_for_its_hosts():
    text = "def request(flow):\n    flow.request.headers[__name__] = 'yes'\n"
    flow, _, _ = asyncio.run(
        called(script(text), script(text, "^other", name="two"), script(text, "^addr", name="three"))
    )
    assert [name for name in flow.request.headers if name.startswith("sp_proxy")] == [
        "sp_proxy_addon_one",
        "sp_proxy_addon_three",
    ]


@pytest.mark.parametrize("fault", ["1 / 0", "raise SystemExit", "while True: pass"])
def test_faults_cost_their_own_effect(fault):
    bad = script(f"def request(flow):\n    {fault}\n")
    good = script("async def request(flow):\n    flow.request.headers['good'] = 'yes'\n", name="good")
    events = ("request",) * (MAX_STUCK + 2)
    flow, counters, _ = asyncio.run(called(bad, good, events=events))
    assert flow.request.headers["good"] == "yes"
    assert counters["script_faults:one"] == (MAX_STUCK if "while" in fault else len(events))
    assert counters["script_calls:good"] == len(events)


def test_an_async_one_that_blocks_is_interrupted_and_one_that_waits_is_not():
    waits = "import asyncio\nasync def request(flow):\n    for _ in range(3): await asyncio.sleep(0.1)\n    flow.comment = 'waited'\n"
    blocks = "import asyncio\nasync def request(flow):\n    await asyncio.sleep(0)\n    while True: pass\n"
    flow, counters, _ = asyncio.run(called(script(blocks), script(waits, name="two"), events=("request",) * 5))
    assert (counters["script_faults:one"], counters["script_calls:two"]) == (MAX_STUCK, 5)
    assert flow.comment == "waited"


def test_an_async_one_is_cancelled_with_its_flow():
    text = "import asyncio\nasync def request(flow):\n    try: await asyncio.sleep(60)\n    finally: flow.comment = 'over'\n"

    async def cancelled():
        flow = tflow.tflow()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await called(script(text), events=("request",), flow=flow)
        return flow.comment

    assert asyncio.run(cancelled()) == "over"


def recording(passed: list[bytes]):
    def tee(data: bytes) -> bytes:
        passed.append(data)
        return data

    return tee


def test_bodies_are_held_for_scripts_unless_they_are_long_or_streams():
    passed: list[bytes] = []

    def stream(message, length: str, kind: str = "text/plain") -> None:
        message.stream = recording(passed)
        message.headers["content-length"] = length
        message.headers["content-type"] = kind

    for length, kind, held in (
        ("5", "text/plain", True),
        (str(MAX_HELD + 1), "text/plain", False),
        ("5", "text/event-stream", False),
    ):
        flow, _, _ = asyncio.run(
            called(
                script("def response(flow): pass\n"),
                events=("responseheaders", "response"),
                change=lambda flow, length=length, kind=kind: stream(flow.response, length, kind),
            )
        )
        assert (flow.response.stream is False) is held
        assert not passed


def test_pieces_that_a_script_makes_are_what_is_recorded():
    passed: list[bytes] = []
    text = "def responseheaders(flow):\n    flow.response.stream = lambda data: [data.upper(), b'!']\n"

    def stream(flow) -> None:
        flow.response.stream = recording(passed)

    flow, _, _ = asyncio.run(called(script(text), events=("responseheaders",), change=stream))
    assert flow.response.stream(b"abc") == b"ABC!"
    assert passed == [b"ABC!"]


def test_messages_are_wanted_only_by_who_has_a_handler_for_them():
    for text, wanted in (("def websocket_message(flow): pass\n", True), ("def request(flow): pass\n", False)):
        assert asyncio.run(called(script(text), events=()))[2].options.websocket is wanted


def test_running_and_done_are_told():
    text = "said = []\ndef running(): said.append(1)\ndef done(): said.append(2)\ndef request(flow): flow.request.text = str(said)\n"

    async def told():
        master = Master(proxy_options(""), event_loop=asyncio.get_running_loop())
        master._legacy_log_events.uninstall()
        master.addons.add(ProxyOptions())
        made = Scripts((script(text),), 5.0, master, Connections(), defaultdict(int))
        await made.running()
        await made.done()
        flow = tflow.tflow()
        await made.request(flow)
        return flow.request.text

    assert asyncio.run(told()) == "[1, 2]"
